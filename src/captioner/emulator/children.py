"""Child processes that never outlive this one, and local ports for them.

On Linux the kernel kills a child when the *thread* that started it ends, so one thread that lives as long as the
process starts them all. Elsewhere only an orderly stop ends them.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HOST = "127.0.0.1"

# Run in the child before the program itself: no Python code may run between fork and exec of a process with threads.
# 1 is PR_SET_PDEATHSIG; the parent may already be gone by then, so that is looked at after it is set.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""

_ports_lock = threading.Lock()
_ports_given: set[int] = set()


class Child:
    """One running program. `exited` is set when it has ended, by itself or by `stop`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.exited = threading.Event()
        threading.Thread(target=self._wait, name=f"child-{process.pid}", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    def stop(self, grace_s: float) -> None:
        """SIGTERM, then SIGKILL after `grace_s`; returns when the process is gone."""
        if not self.exited.is_set():
            self._process.terminate()
            if not self.exited.wait(grace_s):
                self._process.kill()
                self.exited.wait()

    def _wait(self) -> None:
        self._process.wait()
        self.exited.set()


class Children:
    """Starts child processes that die with this process."""

    def __init__(self) -> None:
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="children")

    def start(self, command: Sequence[str], env: Mapping[str, str], log: Path, folder: Path | None = None) -> Child:
        """Run `command`, in `folder` if given, with its output appended to `log`.

        Raises OSError when nothing can be started here.
        """
        return Child(self._starter.submit(_start, list(command), dict(env), log, folder).result())


def _start(command: list[str], env: dict[str, str], log: Path, folder: Path | None) -> subprocess.Popen[bytes]:
    if sys.platform == "linux":
        command = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            command, env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )


def free_port(also_above: int = 0) -> int:
    """A free local port that was not handed out before; with `also_above`, the port that much higher is free too."""
    while True:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port: int = probe.getsockname()[1]
        with _ports_lock:
            if port not in _ports_given and (not also_above or _is_free(port + also_above)):
                _ports_given.add(port)
                return port


def _is_free(port: int) -> bool:
    if port > 65535:
        return False
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def tail(log: Path, lines: int = 3) -> str:
    """The last lines of a log, on one line; "" when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return " | ".join(line.strip() for line in text.splitlines()[-lines:] if line.strip())
