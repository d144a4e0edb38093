"""Small values that others change and many read: shown while they are renewed, kept when they cannot be.

For what lies in S3 and routers look at with every request. Knows nothing of S3.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from captioner.api.journal import Say
from captioner.errors import CaptionerError

FRESH_S, STALE_S = 3.0, 60.0
REST = 20  # times as long as a read took until the next: what takes seconds must not take the processor

T = TypeVar("T")


class Cached(Generic[T]):
    """What `read` gave last: good for `fresh_s`, renewed meanwhile after that, renewed before after `stale_s`.

    A `read` that raises leaves the value as it was, which is `otherwise` at first.
    """

    def __init__(
        self,
        what: str,
        read: Callable[[], T],
        otherwise: T,
        say: Say,
        fresh_s: float = FRESH_S,
        stale_s: float = STALE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what, self._read, self._say, self._clock = what, read, say, clock
        self._fresh_s, self._stale_s = fresh_s, stale_s
        self._value, self._tried, self._took, self._failing = otherwise, -float("inf"), 0.0, False
        self._reading = threading.Lock()

    @property
    def waits(self) -> bool:
        """Would `get` have to wait for what it reads?"""
        return self._clock() - self._tried > max(self._stale_s, 2 * REST * self._took)

    def get(self) -> T:
        """The value, as old as it may be."""
        if self.waits:
            with self._reading:
                if self.waits:
                    self._renew()
        elif self._clock() - self._tried > max(self._fresh_s, REST * self._took) and self._reading.acquire(
            blocking=False
        ):
            threading.Thread(target=self._renew_and_release, daemon=True).start()
        return self._value

    def _renew_and_release(self) -> None:
        try:
            self._renew()
        finally:
            self._reading.release()

    def _renew(self) -> None:
        began = self._clock()
        try:
            self._value, failing = self._read(), False
        except Exception as error:  # a bug in what is read must not become everybody's
            failing = True
            if not self._failing:
                ours = isinstance(error, CaptionerError)
                self._say("stale", what=self._what, error=str(error) if ours else repr(error))
        self._failing, self._tried = failing, self._clock()
        self._took = self._tried - began
