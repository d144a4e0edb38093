"""Values that are shown while they are renewed, and kept when they cannot be."""

from __future__ import annotations

import threading
from typing import Any

from captioner.api.cached import Cached
from captioner.errors import ServiceUnavailable
from tests.api.conftest import until


class Source:
    """Counts what is read; `fail` raises, `hold` waits."""

    def __init__(self) -> None:
        self.reads, self.fail = 0, False
        self.go = threading.Event()
        self.go.set()
        self.now = 1000.0
        self.told: list[str] = []

    def read(self) -> int:
        assert self.go.wait(30)
        self.reads += 1
        if self.fail:
            raise ServiceUnavailable("S3 does not answer.")
        return self.reads

    def say(self, event: str, **fields: Any) -> None:
        self.told.append(event)

    def cached(self) -> Cached[int]:
        return Cached("a number", self.read, 0, self.say, fresh_s=3.0, stale_s=60.0, clock=lambda: self.now)


def test_fresh_it_is_not_read_again() -> None:
    source = Source()
    cached = source.cached()
    assert cached.waits
    assert [cached.get() for _ in range(3)] == [1, 1, 1]
    source.now += 2.9
    assert (cached.get(), source.reads, cached.waits) == (1, 1, False)


def test_older_it_is_shown_while_it_is_renewed() -> None:
    source = Source()
    cached = source.cached()
    cached.get()
    source.now += 4
    source.go.clear()
    assert [cached.get() for _ in range(5)] == [1] * 5  # does not wait, and renews once
    source.go.set()
    until(lambda: cached.get() == 2)
    assert source.reads == 2


def test_too_old_it_is_renewed_before() -> None:
    source = Source()
    cached = source.cached()
    cached.get()
    source.now += 61
    assert cached.waits
    assert cached.get() == 2


def test_what_cannot_be_renewed_is_kept_and_said_once() -> None:
    source = Source()
    cached = source.cached()
    cached.get()
    source.fail = True
    for _ in range(3):
        source.now += 61
        assert cached.get() == 1
    assert source.told == ["stale"]
    source.fail = False
    source.now += 61
    assert cached.get() == 5
    source.fail = True
    source.now += 61
    assert cached.get() == 5
    assert source.told == ["stale", "stale"]


def test_who_comes_first_to_a_broken_source_gets_what_was_agreed() -> None:
    source = Source()
    source.fail = True
    cached = source.cached()
    assert cached.get() == 0
    assert cached.get() == 0
    assert source.reads == 1  # and is not asked with every request


def test_many_threads_read_it_once() -> None:
    source = Source()
    cached = source.cached()
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(cached.get())) for _ in range(20)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert (found, source.reads) == ([1] * 20, 1)


def test_what_takes_long_to_read_is_read_seldom() -> None:
    source = Source()

    def slow() -> int:
        source.now += 2.0
        return source.read()

    cached = Cached("a number", slow, 0, source.say, fresh_s=3.0, stale_s=60.0, clock=lambda: source.now)
    assert cached.get() == 1
    source.now += 39
    assert (cached.get(), source.reads) == (1, 1)
    source.now += 2
    until(lambda: cached.get() == 2)
