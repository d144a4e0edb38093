"""The same application in Lambda: API Gateway's own events, against the local AWS, logged before the answer leaves."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from captioner.adapters.s3_events import S3Events
from captioner.api import lambda_handler
from captioner.ledger import CHALLENGER, CHAMPION
from captioner.paths import Paths
from captioner.settings import Settings
from tests.api.conftest import picture
from tests.local_aws import LocalAws

NAME = f"captioner-{uuid.uuid4().hex[:8]}"


def event(method: str, path: str, body: bytes | None = None, **headers: str) -> dict[str, Any]:
    """What API Gateway sends a function for one request (payload of REST APIs, binary media types on)."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return {
        "resource": "/{path+}",
        "path": path,
        "httpMethod": method,
        "headers": named,
        "multiValueHeaders": {name: [value] for name, value in named.items()},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": {"path": path[1:]},
        "stageVariables": None,
        "requestContext": {"identity": {"sourceIp": "203.0.113.7"}, "stage": "prod", "requestId": "r1"},
        "body": base64.b64encode(body).decode() if body is not None else None,
        "isBase64Encoded": body is not None,
    }


@pytest.fixture(scope="module")
def endpoint(local_aws: LocalAws) -> str:
    for version in ("1", "2"):
        local_aws.model(f"{NAME}-{version}", version, CAPTIONER_MODEL_DIGEST=version * 64, LOG_PROBABILITY="-1")
    local_aws.config(NAME, {CHAMPION: (f"{NAME}-1", 1.0), CHALLENGER: (f"{NAME}-2", 0.0)})
    assert local_aws.endpoint(NAME, NAME)["EndpointStatus"] == "InService"
    return NAME


@pytest.fixture
def place(tmp_path: Path, local_aws: LocalAws, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """A Lambda's surroundings, but for AWS itself: the local one answers."""
    monkeypatch.setenv("CAPTIONER_API_ENDPOINT", endpoint)
    monkeypatch.setenv("CAPTIONER_API_SECRET", "of the tests")
    monkeypatch.setenv("CAPTIONER_HOME", str(tmp_path))
    settings = Settings.from_env(tmp_path)
    Paths.of(tmp_path, settings).services.write_text(json.dumps({"aws": {"url": local_aws.url}}), encoding="utf-8")
    lambda_handler.started.cache_clear()
    yield settings
    lambda_handler.started.cache_clear()


def test_a_picture_through_the_gateway(place: Settings, tmp_path: Path, local_aws: LocalAws) -> None:
    asked = event("POST", "/v1/captions", picture(), content_type="image/jpeg", x_user_id="anna")
    answer = lambda_handler.handler(asked, None)
    assert answer["statusCode"] == 200
    found = json.loads(answer["body"])
    assert (found["variant"], found["model"]["version"]) == (CHAMPION, "1")

    events = S3Events(place, Paths.of(tmp_path, place), local_aws.account)
    since = datetime.now(UTC) - timedelta(hours=1)
    logged = [line for lines in events.lines(events.keys("exposures", NAME, since)) for line in lines]
    assert [line["inference_id"] for line in logged] == [found["inference_id"]]

    path = f"/v1/captions/{found['inference_id']}/feedback"
    rated = lambda_handler.handler(event("POST", path, b'{"rating": 5}', content_type="application/json"), None)
    assert (rated["statusCode"], json.loads(rated["body"])["rating"]) == (200, 5)
    assert len(events.keys("feedback", NAME, since)) == 1


def test_pages_and_errors_through_the_gateway(place: Settings) -> None:
    health = lambda_handler.handler(event("GET", "/v1/health"), None)
    assert (health["statusCode"], json.loads(health["body"])["status"]) == (200, "ok")
    wrong = lambda_handler.handler(event("POST", "/v1/captions", b"no picture", content_type="image/png"), None)
    assert (wrong["statusCode"], json.loads(wrong["body"])["error"]["code"]) == (400, "bad_request")
    assert lambda_handler.handler(event("GET", "/docs"), None)["statusCode"] == 200
