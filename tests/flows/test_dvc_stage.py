"""What a stage's process writes, as its task reads it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import IO

import pytest

from flows.dvc_stage import lines_of


@pytest.fixture
def pipe() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as read, os.fdopen(writing, "wb", buffering=0) as write:
        yield read, write


def test_lines_come_one_by_one_as_they_were_meant(pipe: tuple[IO[bytes], IO[bytes]]) -> None:
    reading, writing = pipe
    lines = lines_of(reading)
    writing.write("one\r\ntwö\nbeg".encode())
    assert [next(lines), next(lines)] == ["one", "twö"]
    writing.write(b"un\n\n\xff and no end")
    writing.close()
    assert list(lines) == ["begun", "", "\N{REPLACEMENT CHARACTER} and no end"]


class Ended(BaseException):
    """As Prefect ends a run that is cancelled: raised by a signal's handler."""


def test_a_signal_that_does_not_interrupt_the_read_is_handled_all_the_same(pipe: tuple[IO[bytes], IO[bytes]]) -> None:
    """As one that comes just before the read: Python notes it, and its handler waits for the main thread."""

    def end(*_: object) -> None:
        raise Ended

    usual = signal.signal(signal.SIGUSR1, end)
    elsewhere = threading.Timer(0.1, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGUSR1))
    try:
        elsewhere.start()
        with pytest.raises(Ended):
            next(lines_of(pipe[0]))
    finally:
        elsewhere.join()
        signal.signal(signal.SIGUSR1, usual)
