"""Which fleet of an endpoint answers: one, or during an update two by their shares.

A request asks one fleet from its choice of a variant to its answer, so whatever goes wrong is counted where it did.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Mapping

from captioner.emulator.fleet import Fleet


class Traffic:
    """`live` is the fleet that the endpoint is described by; `coming` the one that takes over, if any."""

    def __init__(self, endpoint: str, live: Fleet) -> None:
        self.live = live
        self.coming: Fleet | None = None
        self.share = 0.0
        self._lock = threading.Lock()
        self._random = random.Random(hashlib.sha256(f"traffic {endpoint}".encode()).digest())

    def pick(self) -> Fleet:
        """The fleet for the next request."""
        with self._lock:
            if self.coming and (self.share >= 1 or (self.share > 0 and self._random.random() < self.share)):
                return self.coming
            return self.live

    def shift(self, coming: Fleet, share: float, active: Mapping[str, int]) -> None:
        """Give `coming` a share of the traffic: so many of its instances answer, and as many fewer of the others."""
        coming.limit(active)
        with self._lock:
            self.coming, self.share = coming, share
        total = {name: len(one.instances) for name, one in self.live.variants.items()}
        # At 1.0 the old fleet gets no new requests; what it has it finishes with all its instances.
        left = {name: max(1, count - active.get(name, 0)) for name, count in total.items()} if share < 1 else total
        self.live.limit(left)

    def back(self) -> None:
        """All traffic to the live fleet again."""
        self.live.limit({})
        with self._lock:
            self.share = 0.0

    def settle(self) -> Fleet:
        """The coming fleet is the live one now. Returns the one that was."""
        with self._lock:
            assert self.coming is not None
            old, self.live, self.coming, self.share = self.live, self.coming, None, 0.0
        self.live.limit({})
        return old

    def drop(self) -> None:
        """There is no coming fleet any more."""
        with self._lock:
            self.coming, self.share = None, 0.0

    def fleets(self) -> list[Fleet]:
        with self._lock:
            return [self.live, *([self.coming] if self.coming else [])]
