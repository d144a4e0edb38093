"""The same application as an AWS Lambda function behind API Gateway: ``captioner.api.lambda_handler.handler``.

A Lambda may be frozen as soon as it has answered, so what was logged is written before each answer leaves. When S3 does
not take it, the caller has their caption all the same, and the next request writes it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from mangum import Mangum

from captioner.api.application import Parts, create_app
from captioner.api.starting import endpoint, parts
from captioner.paths import Paths
from captioner.settings import Settings


@cache
def started() -> tuple[Mangum, Parts]:
    """Made at the first request, kept while the Lambda is warm."""
    root = Path("/tmp")  # the only place that may be written; nothing is
    settings = Settings.from_env(root)
    wired = parts(settings, Paths.of(root, settings), endpoint(settings, root))
    return Mangum(create_app(wired), lifespan="off"), wired


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer one request of API Gateway."""
    application, wired = started()
    answer: dict[str, Any] = application(event, context)
    wired.service.journal.try_flush()
    return answer
