"""Inference ids that need no table: the time, randomness and a signature, in 40 characters that SageMaker takes too.

Whoever brings one back proves that it was given out here, for this endpoint, and when. Knows nothing of users.
"""

from __future__ import annotations

import base64
import hmac
import re
import secrets
import time
from collections.abc import Callable

VALID_S = 30 * 24 * 3600
"""How long after a caption feedback is taken: as long as captured requests are kept."""

_TIME, _RANDOM, _SIGNATURE = 6, 8, 16  # bytes; the time in milliseconds since the epoch lasts until the year 10889
_FORM = re.compile(r"[A-Za-z0-9_-]{40}")


def derived(secret: bytes, purpose: str) -> bytes:
    """A key of its own for each purpose, so that what is signed for one is worth nothing for another."""
    return hmac.digest(secret, purpose.encode(), "sha256")


class UnknownId(Exception):
    """It was not given out here."""


class ExpiredId(Exception):
    """It was, too long ago."""


class InferenceIds:
    """Gives out the inference ids of `endpoint` and recognises them."""

    def __init__(
        self, secret: bytes, endpoint: str, valid_s: float = VALID_S, clock: Callable[[], float] = time.time
    ) -> None:
        self._key = derived(secret, f"inference ids of {endpoint}")
        self._valid_s, self._clock = valid_s, clock

    def new(self) -> str:
        """A new one: ids sort by time."""
        said = int(self._clock() * 1000).to_bytes(_TIME, "big") + secrets.token_bytes(_RANDOM)
        return base64.urlsafe_b64encode(said + self._signature(said)).decode()

    def check(self, id: str) -> None:
        """Raises UnknownId or ExpiredId."""
        if not _FORM.fullmatch(id):  # one id has one spelling: the decoder alone would take others
            raise UnknownId
        whole = base64.urlsafe_b64decode(id)
        said, signature = whole[: _TIME + _RANDOM], whole[_TIME + _RANDOM :]
        if not hmac.compare_digest(signature, self._signature(said)):
            raise UnknownId
        if self._clock() - int.from_bytes(said[:_TIME], "big") / 1000 > self._valid_s:
            raise ExpiredId

    def _signature(self, said: bytes) -> bytes:
        return hmac.digest(self._key, said, "sha256")[:_SIGNATURE]
