"""What the API answers when it does not caption: a status, a code for programs and one sentence for people."""

from __future__ import annotations

from typing import Any

from captioner.errors import CaptionerError

CODES = {400: "bad_request", 409: "conflict", 503: "unavailable"}  # of domain errors; any other has "failed"


class Refusal(Exception):
    """An answer that is an error. `retry_after_s`: when the same request may come again, None for not at all."""

    def __init__(self, status: int, code: str, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.retry_after_s = status, code, retry_after_s


def refusal_of(error: CaptionerError) -> Refusal:
    """A domain error as an answer."""
    status = error.http_status
    return Refusal(status, CODES.get(status, "failed"), str(error), 1.0 if status == 503 else None)


def as_answer(code: str, message: str) -> dict[str, Any]:
    """The body of every error."""
    return {"error": {"code": code, "message": message}}
