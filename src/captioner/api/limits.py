"""Keys and rates: who may ask, and how often. On AWS the usage plan does it before us."""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections.abc import Callable, Mapping

from captioner.api.refusals import Refusal

FORGET = 10_000  # callers whose bucket is kept


class Rates:
    """A token bucket for each caller: `rate` requests a second, `burst` at once."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._left: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, who: str) -> None:
        """Count one request of `who`. Raises Refusal 429 with the time until the next is taken."""
        with self._lock:
            now = self._clock()
            left, since = self._left.pop(who, (self._burst, now))
            left = min(self._burst, left + (now - since) * self._rate)
            if len(self._left) >= FORGET:  # the one that was heard of longest ago
                self._left.pop(next(iter(self._left)))
            self._left[who] = (left - 1.0 if left >= 1.0 else left, now)
        if left < 1.0:
            raise Refusal(
                429,
                "rate_limited",
                f"More than {self._rate:g} requests a second: slow down.",
                (1.0 - left) / self._rate,
            )


class Keys:
    """API keys, by the name of who holds them. None at all: everybody may ask, by what the network says they are."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._hashed = {name: _hashed(key) for name, key in keys.items()}

    def holder(self, given: str | None) -> str | None:
        """Who holds the key that was given; None when no keys are asked for. Raises Refusal 401."""
        if not self._hashed:
            return None
        digest = _hashed(given or "")
        # All are compared, each in constant time: how long it takes tells nothing of the keys.
        holders = [name for name, known in self._hashed.items() if hmac.compare_digest(known, digest)]
        if not given or not holders:
            raise Refusal(401, "bad_key", "This API needs a key: send it as the header x-api-key.")
        return holders[0]


def _hashed(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
