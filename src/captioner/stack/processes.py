"""Detached processes: start them, recognise them later, stop them whole.

A process is recognised by its id and start time, so that a recycled id is never taken for ours, and its descendants by
a mark in their environment, so that none survives even when it left the session. Knows nothing of services.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from captioner.errors import BadEnvironment

MARK = "STACK_SERVICE"  # not CAPTIONER_*: those are settings, and unknown ones are refused
HOST = "127.0.0.1"
CLOCK_TOLERANCE_S = 2.0  # a start time is derived from the boot time, which the clock's corrections move a little


def start(command: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path, mark: str) -> psutil.Process:
    """Start `command` in a session of its own, output appended to `log`. Raises BadEnvironment."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            child = subprocess.Popen(
                command,
                env={**env, MARK: mark},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise BadEnvironment(f"{command[0]} cannot be started: {error.strerror or error}.") from None
    return psutil.Process(child.pid)


def find(pid: int, started: float) -> psutil.Process | None:
    """The process `pid` if it still is the one that started at `started` (seconds since the epoch)."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - started) <= CLOCK_TOLERANCE_S
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def marked(marks: Iterable[str]) -> dict[str, list[psutil.Process]]:
    """Every process of this user that carries one of `marks`, by mark, whoever its parent is by now."""
    wanted = set(marks)
    found: dict[str, list[psutil.Process]] = {}
    for process in psutil.process_iter():
        try:
            mark = process.environ().get(MARK)
            if mark in wanted and process.status() != psutil.STATUS_ZOMBIE:
                found.setdefault(str(mark), []).append(process)
        except (psutil.Error, OSError):
            continue
    return found


def stop(processes: Iterable[psutil.Process], grace_s: float = 10.0) -> int:
    """Ask `processes` to end, then make them. Returns how many had to be killed."""
    alive = list(processes)
    for process in alive:
        _send(process, kill=False)
    _, stubborn = psutil.wait_procs(alive, timeout=grace_s)
    for process in stubborn:
        _send(process, kill=True)
    psutil.wait_procs(stubborn, timeout=5.0)
    return len(stubborn)


def _send(process: psutil.Process, kill: bool) -> None:
    with contextlib.suppress(psutil.Error):
        process.kill() if kill else process.terminate()


def free_port(first: int, taken: Iterable[int] = ()) -> int:
    """`first`, or the next port above it that nobody listens on. Raises BadEnvironment when there is none."""
    avoid = set(taken)
    for port in range(first, min(first + 200, 65536)):
        if port not in avoid and _is_free(port):
            return port
    raise BadEnvironment(f"No free port from {first} to {min(first + 199, 65535)}: set another with CAPTIONER_PORT_*.")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do it: a port in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    # Somebody may listen on all interfaces with SO_REUSEADDR and let us bind this one.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((HOST, port)) != 0


def listens(processes: Iterable[psutil.Process], port: int) -> bool:
    """Is it one of `processes` that listens on `port`? (Another project's server may have been quicker.)"""
    for process in processes:
        try:
            connections = process.net_connections(kind="tcp")
        except psutil.Error:
            continue
        if any(c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port for c in connections):
            return True
    return False


def last_words(log: Path, since: int) -> str:
    """The last meaningful line that was written to `log` after byte `since`; empty when there is none."""
    told = [line.strip() for line in _text(log, since).splitlines() if any(map(str.isalnum, line))]
    return told[-1][:300] if told else ""


def said(log: Path, since: int, words: str) -> bool:
    """Does `log` hold `words`, in whatever case, after byte `since`?"""
    return words.lower() in _text(log, since).lower()


def _text(log: Path, since: int) -> str:
    try:
        with log.open("rb") as lines:
            lines.seek(since)
            return lines.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def size(log: Path) -> int:
    try:
        return os.path.getsize(log)
    except OSError:
        return 0
