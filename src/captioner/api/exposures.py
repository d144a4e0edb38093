"""What users were shown, on its way into the log: buffered, written by size or time, not lost when the process ends.

Adding never waits. A write that fails is kept and tried again; what cannot be written at the end goes into a file on
this machine (where there is a folder for it) and from there into the log at the next start.
"""

from __future__ import annotations

import contextlib
import fcntl
import threading
import time
import uuid
from collections import deque
from pathlib import Path
from typing import Any

from captioner.api.journal import Say
from captioner.errors import BadEnvironment, CaptionerError, ServiceUnavailable
from captioner.experiment.events import EXPOSURES, Exposure, as_line
from captioner.ports import Events
from captioner.records import read_jsonl, write_jsonl

BATCH, WAIT_S = 500, 1.0  # lines of an object, and how long one waits for others
MOST = 50_000  # lines in memory: some 30 MB
RETRY_S = 5.0


class Exposures:
    """The exposures of `name`. `start` and `close` frame a server's life; Lambda calls `flush` after each request."""

    def __init__(
        self,
        events: Events,
        name: str,
        say: Say,
        outbox: Path | None = None,
        wait_s: float = WAIT_S,
        retry_s: float = RETRY_S,
        most: int = MOST,
    ) -> None:
        self._events, self._name, self._say, self._outbox = events, name, say, outbox
        self._wait_s, self._retry_s, self._most = wait_s, retry_s, most
        self._lines: deque[dict[str, Any]] = deque()
        self._changed, self._writing = threading.Condition(), threading.Lock()
        self._closing = False
        self._thread: threading.Thread | None = None

    def add(self, exposure: Exposure) -> None:
        """Write it down, soon."""
        with self._changed:
            self._lines.append(as_line(exposure))
            lost = len(self._lines) - self._most
            for _ in range(lost):
                self._lines.popleft()
            self._changed.notify()
        if lost > 0:
            self._say("exposures_lost", count=lost, why=f"more than {self._most} wait to be written")

    def start(self) -> None:
        """Deliver what an earlier process left, and write from now on."""
        self._thread = threading.Thread(target=self._run, name="exposures", daemon=True)
        self._thread.start()

    def close(self, patience_s: float = 3.0) -> None:
        """Write all that is left; try for `patience_s`, then leave it in the outbox."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(patience_s)
        until = time.monotonic() + patience_s
        while not self.flush() and time.monotonic() < until:
            time.sleep(0.2)
        self._leave()

    def flush(self) -> bool:
        """Write what there is. False when it could not be: it is kept."""
        with self._writing:
            while self._lines:
                batch = [self._lines[at] for at in range(min(BATCH, len(self._lines)))]
                try:
                    self._events.write(EXPOSURES, self._name, batch)
                except CaptionerError as error:
                    self._say("exposures_kept", count=len(self._lines), error=str(error))
                    return False
                self._done(batch)
        return True

    def _done(self, batch: list[dict[str, Any]]) -> None:
        with self._changed:
            for line in batch:
                if self._lines and self._lines[0] is line:  # else it was dropped meanwhile, being one too many
                    self._lines.popleft()

    def _run(self) -> None:
        delivered = self._deliver()
        while not self._closing:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._lines)
                self._changed.wait_for(lambda: self._closing or len(self._lines) >= BATCH, self._wait_s)
            if self._closing or (self.flush() and (delivered := delivered or self._deliver())):
                continue
            with self._changed:
                self._changed.wait_for(lambda: self._closing, self._retry_s)

    # The outbox
    def _leave(self) -> None:
        with self._changed:
            left = list(self._lines)
            self._lines.clear()
        if not left:
            return
        if self._outbox is None:
            self._say("exposures_lost", count=len(left), why="the process ends and the log cannot be written")
            return
        write_jsonl(self._outbox / f"{self._name}-{int(time.time() * 1000)}-{uuid.uuid4().hex[:8]}.jsonl", left)
        self._say("exposures_left", count=len(left), where=str(self._outbox))

    def _deliver(self) -> bool:
        """What earlier processes left, into the log. False when some of it is left."""
        for file in sorted(self._outbox.glob(f"{self._name}-*.jsonl")) if self._outbox else ():
            with contextlib.suppress(FileNotFoundError, BlockingIOError), file.open() as held:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # one of several processes
                try:
                    lines = list(read_jsonl(file))
                    self._events.write(EXPOSURES, self._name, lines)
                except (ServiceUnavailable, BadEnvironment) as error:
                    self._say("exposures_kept", where=str(file), error=str(error))
                    return False
                except CaptionerError as error:  # gone meanwhile, being another process's; or nothing of ours
                    self._say("exposures_unreadable", where=str(file), error=str(error))
                    continue
                file.unlink()
                self._say("exposures_delivered", count=len(lines))
        return True
