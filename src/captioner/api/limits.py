"""Who may ask, and how often: keys by their hashes, a token bucket for each caller.

On AWS API Gateway does both before a request gets here. Knows nothing of HTTP.
"""

from __future__ import annotations

import hmac
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256

from captioner.api.faults import ApiError

CALLERS = 10_000  # buckets that are remembered; a forgotten one is a full one


@dataclass(frozen=True)
class Caller:
    """Who sent a request: a key's name, or an address; `tester` may choose a variant."""

    name: str
    tester: bool


class Keys:
    """Names and hashes of keys; with none, everybody may ask, and choose."""

    def __init__(self, keys: Mapping[str, str], testers: Collection[str] = ()) -> None:
        self._keys, self._testers = dict(keys), frozenset(testers)

    def caller(self, key: str, address: str, gateway_id: str = "") -> Caller:
        """Who brings `key`. `gateway_id`: of the key that API Gateway has let through. Raises ApiError."""
        if gateway_id:
            return Caller(gateway_id, gateway_id in self._testers)
        if not self._keys:
            return Caller(address, True)
        if not key:
            raise ApiError(401, "no_key", "Send your key in the header x-api-key.")
        found, digest = None, sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
        for name, known in self._keys.items():  # all of them, each in constant time
            found = name if hmac.compare_digest(digest, known) else found
        if found is None:
            raise ApiError(401, "unknown_key", "This key is not known here.")
        return Caller(found, found in self._testers)


class Buckets:
    """A token bucket for each caller: `rate` requests a second, twice as many at once. None: no limit."""

    def __init__(self, rate: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._most = max(1.0, 2.0 * rate) if rate else math.inf
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # caller → tokens, when
        self._lock = threading.Lock()

    def take(self, caller: str) -> None:
        """One request of `caller`. Raises ApiError, which says when the next one may come."""
        if self._rate is None:
            return
        now = self._clock()
        with self._lock:
            tokens, then = self._left.pop(caller, (self._most, now))
            tokens = min(self._most, tokens + (now - then) * self._rate)
            allowed = tokens >= 1.0
            self._left[caller] = (tokens - 1.0 if allowed else tokens, now)
            while len(self._left) > CALLERS:
                self._left.popitem(last=False)
        if not allowed:
            wait = (1.0 - tokens) / self._rate
            raise ApiError(429, "rate_limited", f"At most {self._rate:g} requests a second are taken.", wait)
