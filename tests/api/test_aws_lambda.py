"""The Lambda function, invoked with events as API Gateway's REST API sends them, over fakes of its ports."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from captioner.api import aws_lambda
from tests.api.conftest import World, picture
from tests.test_locks import lock

ROOT = Path(__file__).resolve().parents[2]


def event(path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> dict[str, Any]:
    """One of the proxy integration, with */* as a binary media type: every body is base64."""
    named = {"Host": "abc.execute-api.us-east-1.amazonaws.com", "X-Forwarded-Proto": "https", **headers}
    named = {name.replace("_", "-"): value for name, value in named.items()}
    path, _, query = path.partition("?")
    parameters = dict(one.split("=") for one in query.split("&")) if query else None
    return {
        "resource": "/v1/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": named,
        "multiValueHeaders": {name: [value] for name, value in named.items()},
        "queryStringParameters": parameters,
        "multiValueQueryStringParameters": {name: [one] for name, one in (parameters or {}).items()} or None,
        "pathParameters": {"proxy": path.removeprefix("/v1/")},
        "stageVariables": None,
        "requestContext": {
            "resourcePath": "/v1/{proxy+}",
            "httpMethod": method,
            "path": f"/prod{path}",
            "stage": "prod",
            "protocol": "HTTP/1.1",
            "identity": {"sourceIp": "203.0.113.7", "apiKey": "secret", "apiKeyId": "key-1", "userAgent": "test"},
        },
        "body": None if body is None else base64.b64encode(body).decode(),
        "isBase64Encoded": body is not None,
    }


def invoke(world: World, *given: Any, **headers: str) -> tuple[int, Any, dict[str, str]]:
    answer = aws_lambda.answer(world.api, event(*given, **headers), None)
    headers_ = {**answer["headers"], **{name: values[-1] for name, values in answer["multiValueHeaders"].items()}}
    body = base64.b64decode(answer["body"]).decode() if answer["isBase64Encoded"] else answer["body"]
    is_json = headers_["content-type"] == "application/json"
    return answer["statusCode"], json.loads(body) if is_json else body, headers_


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_arrives_byte_by_byte_and_its_exposure_is_written_before_the_answer(world: World, kind: str) -> None:
    world.run_experiment(share=1.0)
    status, body, headers = invoke(world, "/v1/captions", "POST", picture(kind), Content_Type="text/plain")
    assert (status, body["variant"], body["image"]["type"]) == (200, "challenger", kind.lower())
    assert world.inference.asked[0].body == picture(kind)
    assert [one["inference_id"] for one in world.events.all("exposures")] == [body["inference_id"]]  # nobody flushed
    assert "Secure" in headers["set-cookie"]


def test_feedback_and_options_and_the_seeds_body(world: World) -> None:
    _, body, _ = invoke(world, "/v1/captions?top=2&explain=true", "POST", picture())
    assert json.loads(world.inference.asked[0].body)["top"] == 2
    said = json.dumps({"rating": 5}).encode()
    status, told, _ = invoke(world, f"/v1/captions/{body['inference_id']}/feedback", "POST", said, X_User_Id="ada")
    assert (status, told["rating"]) == (200, 5)
    assert len(world.events.all("feedback")) == 1
    pixels = json.dumps(json.dumps({"data": [[[1, 2, 3]]]})).encode()
    assert invoke(world, "/", "POST", pixels)[:2] == (200, "the champion says")


def test_pages_that_are_no_json(world: World) -> None:
    status, page, _ = invoke(world, "/docs")
    assert status == 200
    assert "swagger-ui-bundle.js" in page
    assert invoke(world, "/v1/health")[0] == 200
    assert invoke(world, "/v1/nothing")[0] == 404


def test_api_gateways_key_is_the_caller(tmp_path: Path) -> None:
    chosen = {"X_Variant": "challenger"}
    assert invoke(World(tmp_path / "a"), "/v1/captions", "POST", picture(), **chosen)[0] == 403
    tester = World(tmp_path / "b", {"CAPTIONER_API_TESTERS": "key-1"})
    status, body, _ = invoke(tester, "/v1/captions", "POST", picture(), **chosen)
    assert (status, body["variant"], body["override"]) == (200, "challenger", True)


def test_exposures_that_could_not_be_written_go_with_the_next_request(
    world: World,
) -> None:
    world.events.down = True
    assert invoke(world, "/v1/captions", "POST", picture())[0] == 200
    assert world.events.all("exposures") == []
    world.events.down = False
    assert invoke(world, "/v1/captions", "POST", picture())[0] == 200
    assert len(world.events.all("exposures")) == 2


ALONE = """
import importlib.abc, importlib.metadata, sys
allowed = {name.replace("-", "_") for name in sys.argv[1:]}
strangers = {
    module
    for module, packages in importlib.metadata.packages_distributions().items()
    if not allowed & {one.lower().replace("-", "_").replace(".", "_") for one in packages}
}
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in strangers - {"captioner"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
assert "tensorflow" in strangers and "prefect" in strangers
sys.meta_path.insert(0, Refuse())
import captioner.api.aws_lambda, captioner.api.server, uvicorn
from captioner.api.opening import opened
from captioner.api.wiring import open_routing
from pathlib import Path
opened(open_routing(Path("/tmp"), lasts=False))
print("well")
"""


def test_it_needs_nothing_but_its_own_lock() -> None:
    """In Lambda there is requirements/api.txt and this package, nothing else, and no params.yaml."""
    environ = {
        "CAPTIONER_ENDPOINT": "captioner-flickr8k",
        "CAPTIONER_AWS": "real",
        "CAPTIONER_AWS_BUCKET": "ours",
        "CAPTIONER_API_SECRET": "secret",
        "PYTHONPATH": str(ROOT / "src"),
        "PATH": os.environ["PATH"],
    }
    command = [sys.executable, "-c", ALONE, *lock("api")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    assert done.stdout == "well\n", done.stderr
