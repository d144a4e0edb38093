"""What a model said to the golden images before it was released, and whether an endpoint's variant says the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TOLERANCE = 1e-3  # of a log probability: other hardware rounds otherwise, and may break a tie otherwise

Answers = Mapping[str, Mapping[str, Any]]  # image → the answer's JSON


def fault(answer: Any, digest: str) -> str | None:
    """What is wrong with one answer of the model `digest`, in words; None when it is one."""
    if not isinstance(answer, Mapping):
        return "the answer is no JSON object"
    found = (answer.get("model") or {}).get("digest")
    if found != digest:
        return f"it answers as model {str(found)[:12]}, not {digest[:12]}"
    # An empty caption is a poor one, and the gate's business.
    return None if isinstance(answer.get("caption"), str) else "the answer has no caption"


def differs(expected: Mapping[str, Any], found: Mapping[str, Any]) -> str | None:
    """How `found` is not what was `expected`, in words. Equally likely captions are a tie, and no difference."""
    one, other = expected.get("log_probability"), found.get("log_probability")
    if one is not None and other is not None and abs(one - other) <= TOLERANCE:
        return None
    if expected["caption"] == found["caption"] and (one is None or other is None):
        return None
    return f"{found['caption']!r} ({other}) instead of {expected['caption']!r} ({one})"
