"""Pages of a list, as both services of ours give them: the token of the next page is the next index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def page(found: Sequence[T], request: Mapping[str, Any], size: int, wrong: Exception) -> tuple[list[T], dict[str, Any]]:
    """The `size` items that `request` asks for, and the NextToken, if there is one. Raises `wrong` for another's."""
    token = str(request.get("NextToken") or 0)
    if not token.isdecimal():
        raise wrong
    start = int(token)
    end = start + size
    return list(found[start:end]), {"NextToken": str(end)} if end < len(found) else {}
