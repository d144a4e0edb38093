"""AWS's errors as exceptions, in the shape that botocore parses."""

from __future__ import annotations

import json
from typing import Any


class AwsError(Exception):
    """An answer that is an error: its code (botocore's ``Error.Code``), HTTP status and message."""

    def __init__(self, code: str, message: str, status: int = 400, **more: Any) -> None:
        super().__init__(message)
        self.code, self.message, self.status, self.more = code, message, status, more

    def body(self) -> bytes:
        # The two protocols spell the message differently; botocore looks for either.
        return json.dumps({"__type": self.code, "message": self.message, "Message": self.message, **self.more}).encode()


def invalid(message: str) -> AwsError:
    """SageMaker's answer to most things that are wrong, a missing resource among them."""
    return AwsError("ValidationException", message)
