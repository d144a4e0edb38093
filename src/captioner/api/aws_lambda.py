"""The same application as an AWS Lambda function behind API Gateway; its handler is ``handler``.

A function may be frozen the moment it has answered, and never wake again: so what is to be logged of a request is
written before its answer goes out. Settings come from the function's environment; there is no params.yaml.
"""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mangum import Mangum

from captioner.api.journal import Journal
from captioner.api.opening import Opened, opened
from captioner.api.wiring import open_routing

if TYPE_CHECKING:
    from mangum.types import LambdaContext

FLUSH_S = 3.0  # how long a caller waits for the log: with the application's 25 s less than API Gateway's 29


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer one event of API Gateway (a REST API's proxy integration)."""
    return answer(_opened(), event, context)


def answer(api: Opened, event: dict[str, Any], context: Any, flush_s: float = FLUSH_S) -> dict[str, Any]:
    """The application's answer to `event`, its exposures written; kept for the next request when they cannot be."""
    try:
        # The lifespan is the server's, whose buffer has a thread: threads sleep while a function is frozen.
        return Mangum(api.app, lifespan="off")(event, context)
    finally:
        writing = threading.Thread(target=api.exposures.flush, daemon=True)
        writing.start()
        writing.join(flush_s)


@cache
def _opened() -> Opened:
    """Once for each instance of the function, when the first request comes."""
    return opened(open_routing(Path("/tmp"), lasts=False), Journal())
