"""One instance of a variant: a program that keeps the container contract, watched, and started again when it dies.

The contract: ``PROGRAM serve --model-dir DIR --port P``, ``GET /ping`` answers 200 once it can serve, ``POST
/invocations`` answers, SIGTERM ends it. The image decides the program: see ``programs``.
"""

from __future__ import annotations

import http.client
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from captioner.emulator.artifacts import Artifacts
from captioner.emulator.children import HOST, Child, Children, free_port, tail
from captioner.emulator.delays import ANSWER_S, STOP_GRACE_S
from captioner.emulator.metrics import Meter
from captioner.emulator.programs import command
from captioner.errors import CaptionerError

PING_S = 2.0  # SageMaker's limit for one ping
WATCH_S = 10.0  # between two looks at a healthy instance
HANG_S = 10.0  # generous: an instance on a busy machine is slow, not lost
WORKERS = str(max(1, (os.cpu_count() or 1) // 2))  # two variants share the machine
LOST_PINGS = 3
FIRST_STARTS = 2  # a port can be taken between its choice and its use: one more try


@dataclass(frozen=True)
class Container:
    """What CreateModel said about the program and its model."""

    image: str
    environment: Mapping[str, str]
    model_url: str | None


@dataclass(frozen=True)
class Site:
    """What instances share: where programs are started, where models are unpacked, where logs go; how long what may
    take (seconds): a container's start, an answer, its end between SIGTERM and SIGKILL; which program an image stands
    for; and who counts what is answered."""

    children: Children
    artifacts: Artifacts
    logs: Path
    startup_s: float
    local_exec: bool = False
    answer_s: float = ANSWER_S
    stop_s: float = STOP_GRACE_S
    programs: Mapping[str, str] = field(default_factory=dict)
    meter: Meter | None = None


class Instance:
    """A supervised process. `start` returns at once; `wait` tells whether it became healthy."""

    def __init__(self, name: str, container: Container, site: Site, startup_s: float | None = None) -> None:
        self.name, self._container, self._site = name, container, site
        self._startup_s = startup_s or site.startup_s
        self.log = site.logs / f"{name}.log"
        self.port = 0
        self.restarts = 0
        self._child: Child | None = None
        self._failure: str | None = None
        self._settled, self._stopping, self._healthy = threading.Event(), threading.Event(), threading.Event()
        self._busy, self._idle = 0, threading.Condition()
        self._thread = threading.Thread(target=self._supervise, name=name, daemon=True)

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    @property
    def healthy(self) -> bool:
        return self._healthy.is_set() and not self._stopping.is_set()

    def start(self) -> None:
        self._thread.start()

    def wait(self) -> str | None:
        """Wait until the instance is healthy (None) or has failed to become so (the reason)."""
        self._settled.wait()
        return self._failure

    def stop(self, patience_s: float | None = None) -> None:
        """Take no more requests, wait up to `patience_s` (None: the site's) for those in flight, and again between
        SIGTERM and SIGKILL."""
        patience_s = self._site.stop_s if patience_s is None else patience_s
        self._stopping.set()
        with self._idle:
            self._idle.wait_for(lambda: not self._busy, timeout=patience_s)
        if self._child:
            self._child.stop(patience_s)
        if self._thread.ident:
            self._thread.join()

    @contextmanager
    def lease(self) -> Iterator[int]:
        """The port to send one request to; the process is not stopped before the block ends.

        Raises ConnectionRefusedError when it is being stopped already: another instance may be asked.
        """
        with self._idle:
            if self._stopping.is_set():
                raise ConnectionRefusedError(f"{self.name} is being stopped")
            self._busy += 1
        try:
            yield self.port
        finally:
            with self._idle:
                self._busy -= 1
                self._idle.notify_all()

    @property
    def in_flight(self) -> int:
        return self._busy

    def _supervise(self) -> None:
        folder = None
        try:
            folder = self._site.artifacts.acquire(self._container.model_url) if self._container.model_url else None
            self._keep_running(self._command(folder or self._site.logs))
        except (CaptionerError, OSError) as error:
            self._fail(str(error))
        finally:
            self._healthy.clear()
            self._settled.set()
            if folder:
                self._site.artifacts.release(folder)

    def _keep_running(self, program: list[str]) -> None:
        failures = 0
        while not self._stopping.is_set():
            self.port = free_port()
            self._child = child = self._site.children.start(
                [*program, "--port", str(self.port)], self._environment(), self.log
            )
            if self._stopping.is_set():
                child.stop(1.0)
            elif self._becomes_healthy(child):
                failures = 0
                self._healthy.set()
                self._settled.set()
                self._watch(child)
                self._healthy.clear()
            else:
                failures += 1
            ended = child.returncode
            if self._stopping.is_set():
                child.exited.wait()  # `stop` ends it, once it has answered what it was asked
            else:
                child.stop(1.0)
            if not self._settled.is_set() and (ended is None or failures >= FIRST_STARTS):
                self._fail(self._reason(ended))
                return
            self.restarts += 1
            self._stopping.wait(min(30.0, 0.2 * 2**failures))

    def _becomes_healthy(self, child: Child) -> bool:
        deadline = time.monotonic() + self._startup_s
        while time.monotonic() < deadline and not self._stopping.is_set():
            if ping(self.port) and not child.exited.is_set():
                return True
            if child.exited.wait(0.1):
                return False
        return False

    def _watch(self, child: Child) -> None:
        """Return when the process has ended or no longer answers."""
        lost = 0
        while lost < LOST_PINGS and not self._stopping.is_set() and not child.exited.wait(WATCH_S):
            lost = 0 if ping(self.port, timeout_s=HANG_S) else lost + 1

    def _command(self, folder: Path) -> list[str]:
        return command(self._container.image, folder, self._site.local_exec, self._site.programs)

    def _fail(self, reason: str) -> None:
        if not self._settled.is_set() and not self._stopping.is_set():
            self._failure = reason

    def _reason(self, code: int | None) -> str:
        how = f"ended with exit code {code}" if code is not None else f"did not answer within {self._startup_s:.0f} s"
        return f"the container {how}; its log {self.log} ends: {tail(self.log) or '(nothing)'}"

    def _environment(self) -> dict[str, str]:
        # As in a container: what the model's Environment says, and nothing of the user's settings or credentials.
        host = {name: value for name, value in os.environ.items() if not name.startswith(("CAPTIONER_", "AWS_"))}
        return {**host, "PYTHONUNBUFFERED": "1", "CAPTIONER_WORKERS": WORKERS, **self._container.environment}


def ping(port: int, timeout_s: float = PING_S) -> bool:
    """Whether the container on `port` says that it can serve."""
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout_s)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
