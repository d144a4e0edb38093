"""Servers that benchmarks start, each in a process group of its own, from when it answers until a block ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

PATIENCE_S = 180.0  # until a server answers, or a request is answered
GRACE_S = 40.0  # for a server that is told to end


@contextmanager
def process(command: Sequence[str], health: str, environ: Mapping[str, str], cwd: Path | None = None) -> Iterator[None]:
    """`command`, up when the URL `health` answers 200; `environ` goes on top of this process's environment."""
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            command, cwd=cwd, env={**os.environ, **environ}, stdout=log, stderr=log, start_new_session=True
        )
        try:
            until = time.monotonic() + PATIENCE_S
            while not answers(health):
                if child.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    raise AssertionError(f"{command[2]} does not answer: {log.read()[-2000:].decode(errors='replace')}")
                time.sleep(0.1)
            yield
        finally:
            with suppress(ProcessLookupError):  # it ended by itself: what it said is being raised
                os.killpg(child.pid, signal.SIGTERM)
            try:
                child.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def answers(url: str) -> bool:
    """Does a server of this machine answer 200?"""
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
