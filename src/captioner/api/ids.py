"""Inference ids that carry their time and a signature, so that feedback on an unknown or old one needs no table."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

from captioner.api.refusals import Refusal

LIFETIME_S = 30 * 86_400.0
_FORM = re.compile(r"([0-9a-f]{11})-([0-9a-f]{12})-([0-9a-f]{24})")


def new_id(secret: str, now: float) -> str:
    """An id of 49 characters, which SageMaker takes (64 at most). `now`: seconds since the epoch."""
    said = f"{int(now * 1000):011x}-{secrets.token_hex(6)}"
    return f"{said}-{_signed(secret, said)}"


def check_id(secret: str, inference_id: str, now: float) -> None:
    """Raises Refusal: 404 for an id that was never given out, 410 for one that is over LIFETIME_S old."""
    found = _FORM.fullmatch(inference_id)
    if not found or not hmac.compare_digest(found[3], _signed(secret, inference_id[:24])):
        raise Refusal(404, "unknown_id", "This inference id was not given out here.")
    if now - int(found[1], 16) / 1000 > LIFETIME_S:
        days = LIFETIME_S / 86_400
        raise Refusal(410, "expired_id", f"Feedback is taken for {days:g} days; this caption is older.")


def _signed(secret: str, said: str) -> str:
    return hmac.new(secret.encode(), b"inference:" + said.encode(), hashlib.sha256).hexdigest()[:24]
