"""How this API says no: a status, a code for programs, one sentence for people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from captioner.errors import BadImage, BadInput, CaptionerError

RETRY_S = 1  # what `Retry-After` says where nothing better is known


class ApiError(Exception):
    """A request that is refused or cannot be answered. `retry_s`: when the same request may be sent again."""

    def __init__(self, status: int, code: str, message: str, retry_s: float | None = None) -> None:
        super().__init__(message)
        self.status, self.code = status, code
        self.retry_s = RETRY_S if retry_s is None and status in (429, 503) else retry_s

    def body(self) -> dict[str, Any]:
        return {"error": {"code": self.code, "message": str(self)}}

    def headers(self) -> Mapping[str, str]:
        return {} if self.retry_s is None else {"Retry-After": str(max(1, math.ceil(self.retry_s)))}


def fault_of(error: CaptionerError) -> ApiError:
    """One of our errors, as this API says it."""
    if isinstance(error, BadImage):
        if "million are accepted" in str(error):  # images.py's limit, which is the only one that it has
            return ApiError(413, "too_many_pixels", str(error))
        return ApiError(400, "bad_image", str(error))
    if isinstance(error, BadInput):
        return ApiError(400, "bad_request", str(error))
    return ApiError(503, "unavailable", str(error))
