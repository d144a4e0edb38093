"""One workspace, one writer: a lock that says who holds it.

DVC refuses a second process with an error that names nobody. Whatever runs DVC on purpose (the training flow,
``captioner data``) takes this lock first, and so waits, and says for whom. The lock is the operating system's
(``flock``): a holder that is killed lets go of it. Knows nothing of DVC or Prefect.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import BinaryIO

from captioner.errors import BadEnvironment, WorkspaceBusy
from captioner.paths import Paths


@dataclass(frozen=True)
class Holder:
    """Who holds the lock; `started` is local time, to the second."""

    who: str
    pid: int
    command: str
    started: str

    def __str__(self) -> str:
        return f"{self.who} (process {self.pid}, since {self.started}: {self.command})"


@contextmanager
def workspace_lock(
    paths: Paths, who: str, wait: bool = True, say: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Hold the workspace for as long as the block runs.

    `who` is shown to whoever waits meanwhile ("the training flow 'red-fox'"). When somebody else holds it: with
    `wait` this says so once, through `say` (default: standard error), and waits; else it raises WorkspaceBusy.
    Not re-entrant: a holder that asks again waits for itself. Raises BadEnvironment when the file cannot be written.
    """
    with _opened(paths) as file:
        _take(file, wait, say or _to_stderr)
        try:
            _sign(file, Holder(who, os.getpid(), _command(), datetime.now().isoformat(" ", "seconds")))
            yield
        finally:
            # Closing the file lets go of the lock. The file stays: a waiter may have it open.
            _sign(file, None)


def holder(paths: Paths) -> Holder | None:
    """Who holds the workspace now; None when nobody does."""
    if not paths.workspace_lock.exists():
        return None
    with _opened(paths) as file:
        if _try(file, fcntl.LOCK_SH):
            return None
        return _signature(file)


def _opened(paths: Paths) -> BinaryIO:
    path = paths.workspace_lock
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Append mode creates the file and never truncates it: a holder's signature is in it.
        return path.open("a+b", buffering=0)
    except OSError as error:
        raise BadEnvironment(f"{path} cannot be written: {error.strerror or error}.") from None


def _take(file: BinaryIO, wait: bool, say: Callable[[str], None]) -> None:
    if _try(file, fcntl.LOCK_EX):
        return
    if not wait:
        raise WorkspaceBusy(f"The workspace is held by {_signature(file)}: try again when it has finished.")
    say(f"Waiting for the workspace, held by {_signature(file)}.")
    fcntl.flock(file, fcntl.LOCK_EX)


def _try(file: BinaryIO, mode: int) -> bool:
    try:
        fcntl.flock(file, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sign(file: BinaryIO, holder: Holder | None) -> None:
    try:
        file.truncate(0)
        if holder is not None:
            file.write(json.dumps(asdict(holder)).encode("utf-8"))
    except OSError as error:
        raise BadEnvironment(f"{file.name} cannot be written: {error.strerror or error}.") from None


def _signature(file: BinaryIO) -> Holder:
    """The holder's name; it takes the lock a moment before it signs, so the file may still be empty."""
    file.seek(0)
    try:
        return Holder(**json.loads(file.read()))
    except (ValueError, TypeError):
        return Holder("another process", 0, "not known", "just now")


def _command() -> str:
    return " ".join([os.path.basename(sys.argv[0] or "python"), *sys.argv[1:]])[:200]


def _to_stderr(message: str) -> None:
    print(f"captioner: {message}", file=sys.stderr, flush=True)


@contextmanager
def one_at_a_time(paths: Paths, what: str) -> Iterator[None]:
    """Wait until no other process on this machine does `what`. The system lets go of it when its holder dies.

    Raises BadEnvironment when the lock's file cannot be written.
    """
    try:
        paths.home.mkdir(parents=True, exist_ok=True)
        lock = (paths.home / f"{what}.lock").open("a")
    except OSError as error:
        raise BadEnvironment(f"{paths.home} cannot be written: {error.strerror or error}.") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
