"""The emulator put together: state, S3, endpoints and the HTTP server; stopped without leaving a process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from captioner.emulator.artifacts import Artifacts
from captioner.emulator.capture import Capture
from captioner.emulator.children import HOST, Children
from captioner.emulator.endpoints import Endpoints
from captioner.emulator.front import Front
from captioner.emulator.instance import ANSWER_S, STOP_GRACE_S, Site
from captioner.emulator.listener import bind, ignore_signals, leave_on_signals, serve_until_signal
from captioner.emulator.objects import Objects
from captioner.emulator.runtime import Runtime
from captioner.emulator.shadow import Shadows
from captioner.emulator.store import Store
from captioner.errors import BadEnvironment, CaptionerError, WorkspaceBusy

STARTUP_S = 240.0  # SageMaker's default for a container's first healthy ping


def serve(
    home: Path,
    port: int,
    startup_s: float = STARTUP_S,
    local_exec: bool = False,
    answer_s: float = ANSWER_S,
    stop_s: float = STOP_GRACE_S,
) -> None:
    """Serve until SIGTERM or SIGINT. Raises WorkspaceBusy when another emulator has `home`, BadEnvironment."""
    with _lock(home), contextlib.closing(bind(port)) as listening, contextlib.ExitStack() as closing:
        children = Children()
        objects = Objects(home / "s3", home / "logs" / "s3.log", children)
        closing.callback(objects.close)
        objects.start()
        site = Site(
            children, Artifacts(home / "models", objects), home / "logs", startup_s, local_exec, answer_s, stop_s
        )
        store = Store(home / "sagemaker.json")
        endpoints = Endpoints(store, site)
        capture, shadows = Capture(objects), Shadows()
        for end in (capture.close, endpoints.close, shadows.close):  # the last one first: what is in flight is captured
            closing.callback(end)
        runtime = Runtime(store, endpoints, capture, shadows, answer_s)
        leave_on_signals()
        endpoints.restore()
        print(f"The local AWS listens on http://{HOST}:{port}", flush=True)
        serve_until_signal(Front(store, endpoints, objects, runtime), listening)
        ignore_signals()


@contextlib.contextmanager
def _lock(home: Path) -> Iterator[None]:
    """Hold `home` for this process: two emulators on one state would lose each other's changes."""
    file = _open(home)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise WorkspaceBusy(f"Another local AWS already runs on {home}; stop it first (captioner down).") from None
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


def run(
    home: Path,
    port: int,
    startup_s: float,
    local_exec: bool,
    answer_s: float = ANSWER_S,
    stop_s: float = STOP_GRACE_S,
) -> int:
    """`serve` with errors as one sentence and an exit code."""
    try:
        serve(home.absolute(), port, startup_s, local_exec, answer_s, stop_s)
    except CaptionerError as error:
        print(f"captioner.emulator: {error}", file=sys.stderr)
        return error.exit_code
    return 0
