"""What IAM would say to a request: a small evaluator of policy documents, since the emulation has no simulator.

Knows Allow and Deny, wildcards, and the condition operators that our templates use; anything else is an error, so that
no statement is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Statement = Mapping[str, Any]
_KNOWN = {"Sid", "Effect", "Action", "Resource", "Condition", "Principal"}


def allowed(
    statements: Iterable[Statement], action: str, resource: str, context: Mapping[str, str] | None = None
) -> bool:
    """Does some statement allow it and none deny it? `context` maps condition keys to the request's values."""
    effects = {one["Effect"] for one in statements if _applies(one, action, resource, context or {})}
    return "Allow" in effects and "Deny" not in effects


def as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def _applies(one: Statement, action: str, resource: str, context: Mapping[str, str]) -> bool:
    assert set(one) <= _KNOWN, f"not understood: {set(one) - _KNOWN}"
    return (
        any(_matches(pattern.lower(), action.lower()) for pattern in as_list(one["Action"]))
        and any(_matches(pattern, resource) for pattern in as_list(one["Resource"]))
        and all(_holds(operator, tests, context) for operator, tests in one.get("Condition", {}).items())
    )


def _holds(operator: str, tests: Mapping[str, Any], context: Mapping[str, str]) -> bool:
    compare = {
        "StringEquals": lambda wanted, found: wanted == found,
        "StringLike": _matches,
        "Bool": lambda wanted, found: str(wanted).lower() == found.lower(),
        "NumericLessThan": lambda wanted, found: float(found) < float(wanted),
    }[operator]
    # A key that the request does not have fulfils none of these operators.
    return all(
        key in context and any(compare(wanted, context[key]) for wanted in as_list(values))
        for key, values in tests.items()
    )


def _matches(pattern: str, value: str) -> bool:
    escaped = "".join({"*": ".*", "?": "."}.get(sign, re.escape(sign)) for sign in pattern)
    return re.fullmatch(escaped, value, re.DOTALL) is not None
