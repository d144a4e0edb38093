"""The emulator put together: state, S3, endpoints and the HTTP server; stopped without leaving a process."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from captioner.emulator.artifacts import Artifacts
from captioner.emulator.capture import Capture
from captioner.emulator.children import HOST, Children
from captioner.emulator.control import Control
from captioner.emulator.endpoints import Endpoints
from captioner.emulator.front import Front
from captioner.emulator.instance import Site
from captioner.emulator.listener import bind, ignore_signals, leave_on_signals, serve_until_signal
from captioner.emulator.metrics import Meter, Pulse
from captioner.emulator.objects import Objects
from captioner.emulator.options import Options
from captioner.emulator.runtime import Runtime
from captioner.emulator.series import Series
from captioner.emulator.shadow import Shadows
from captioner.emulator.store import Store
from captioner.emulator.watching import Alarms
from captioner.errors import BadEnvironment, WorkspaceBusy


def serve(options: Options) -> None:
    """Serve until SIGTERM or SIGINT. Raises WorkspaceBusy when another emulator has the state, BadEnvironment."""
    home = options.home
    with _lock(home), contextlib.closing(bind(options.port)) as listening, contextlib.ExitStack() as closing:
        children = Children()
        objects = Objects(home / "s3", home / "logs" / "s3.log", children)
        closing.callback(objects.close)
        objects.start()
        series, delays = Series(), options.delays
        meter, alarms = Meter(series), Alarms(home / "cloudwatch.json", series, delays.scale)
        pulse = Pulse(options.metrics_s * delays.scale, meter, alarms.tick)
        closing.callback(pulse.close)
        artifacts = Artifacts(home / "models", objects)
        site = Site(
            children,
            artifacts,
            home / "logs",
            options.startup_s,
            options.local_exec,
            options.answer_s,
            options.stop_s,
            options.programs,
            meter,
        )
        store = Store(home / "sagemaker.json")
        endpoints = Endpoints(store, site, alarms, delays)
        capture, shadows = Capture(objects), Shadows()
        for end in (capture.close, endpoints.close, shadows.close):  # the last one first: what is in flight is captured
            closing.callback(end)
        runtime = Runtime(endpoints, capture, shadows, options.answer_s)
        leave_on_signals()
        pulse.start()
        endpoints.restore()
        control = Control(store, endpoints, objects, alarms, site)
        print(f"The local AWS listens on http://{HOST}:{listening.getsockname()[1]}", flush=True)
        serve_until_signal(Front(store, endpoints, objects, control, runtime, (series, alarms)), listening)
        ignore_signals()


@contextlib.contextmanager
def _lock(home: Path) -> Iterator[None]:
    """Hold `home` for this process: two emulators on one state would lose each other's changes."""
    file = _open(home)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise WorkspaceBusy(
            f"Another local AWS already runs on {home}: stop it first (captioner down, or SIGTERM to its process)."
        ) from None
    file.truncate()
    file.write(f"{os.getpid()}\n")
    file.flush()
    try:
        yield
    finally:
        file.close()


def _open(home: Path) -> IO[str]:
    try:
        home.mkdir(parents=True, exist_ok=True)
        return (home / "lock").open("a")
    except OSError as error:
        raise BadEnvironment(f"{home} cannot be written: {error.strerror}.") from None
