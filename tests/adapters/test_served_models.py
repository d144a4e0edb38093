"""What stands behind an endpoint, and what data capture kept, of the local SageMaker: real captures in real S3."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from captioner.adapters.served_models import ServedModels
from captioner.errors import BadInput, ServiceUnavailable
from captioner.paths import Paths
from captioner.settings import Settings
from tests.local_aws import LocalAws, until

DIGEST = "d" * 64


@pytest.fixture
def served(local_aws: LocalAws, settings: Settings, paths: Paths) -> ServedModels:
    return ServedModels(settings, paths, local_aws.account)


def capturing(aws: LocalAws, name: str, **capture: Any) -> None:
    """An endpoint `name` with a champion and a challenger whose answers are captured."""
    champion = aws.model(f"{name}-one", "1", CAPTIONER_MODEL_DIGEST=DIGEST)
    challenger = aws.model(f"{name}-two", "2", CAPTIONER_MODEL_DIGEST="e" * 64)
    config = {
        "EnableCapture": True,
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": "s3://captioner/kept/here",
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        **capture,
    }
    aws.config(name, {"champion": (champion, 0.5), "challenger": (challenger, 0.5)}, DataCaptureConfig=config)
    aws.endpoint(name, name)


def asked(aws: LocalAws, name: str, variant: str, inference_id: str) -> None:
    aws.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=name,
        Body=io.BytesIO(b"a picture"),
        ContentType="image/png",
        TargetVariant=variant,
        InferenceId=inference_id,
    )


def test_the_models_behind_the_variants(served: ServedModels, local_aws: LocalAws) -> None:
    capturing(local_aws, "served-models")
    champion, challenger = served.models("served-models")
    assert (champion.variant, champion.model, champion.exists) == ("champion", "served-models-one", True)
    assert (champion.version, champion.digest) == ("1", DIGEST)
    assert champion.url == "s3://captioner/tiny/model.tar.gz"
    assert challenger.version == "2"
    assert served.models("served-nothing") == []


def test_an_inference_is_found_in_what_was_captured(served: ServedModels, local_aws: LocalAws) -> None:
    capturing(local_aws, "served-captured")
    for number in range(3):
        asked(local_aws, "served-captured", "champion", f"before-{number}")
    asked(local_aws, "served-captured", "challenger", "request-7")
    found = until(lambda: _if_any(served, "served-captured", "request-7"), "the capture to be written")
    assert (found.inference_id, found.variant) == ("request-7", "challenger")
    assert found.answer["model"] == {"version": "2", "digest": "e" * 64}
    assert found.place.startswith("s3://captioner/kept/here/served-captured/challenger/")
    assert found.at.endswith("Z")
    assert served.captured("served-captured", "request") is None


def _if_any(served: ServedModels, name: str, inference_id: str) -> Any:
    try:
        return served.captured(name, inference_id)
    except BadInput:
        return None


def test_an_answer_that_was_not_captured_is_none(served: ServedModels, local_aws: LocalAws) -> None:
    capturing(local_aws, "served-input", CaptureOptions=[{"CaptureMode": "Input"}])
    asked(local_aws, "served-input", "champion", "request-8")
    found = until(lambda: _if_any(served, "served-input", "request-8"), "the capture to be written")
    assert (found.variant, found.answer) == ("champion", None)


def test_what_was_asked_is_found_for_many_at_once(served: ServedModels, local_aws: LocalAws) -> None:
    capturing(local_aws, "served-asked")
    for number in range(3):
        asked(local_aws, "served-asked", ("champion", "challenger")[number % 2], f"asked-{number}")
    wanted = ["asked-0", "asked-1", "asked-7"]

    def both() -> Any:
        try:
            found = list(served.requests("served-asked", wanted))
        except BadInput:
            return None
        return found if len(found) == 2 else None

    found = until(both, "the captures to be written")
    assert {one.inference_id for one in found} == {"asked-0", "asked-1"}
    assert {(one.content_type, one.body) for one in found} == {("image/png", b"a picture")}


def test_where_nothing_was_captured_it_is_said(served: ServedModels, local_aws: LocalAws) -> None:
    with pytest.raises(BadInput, match=r"Nothing was captured of served-none .*'request-7' cannot be looked up"):
        served.captured("served-none", "request-7")


def test_lines_that_are_not_captures_are_passed_over(served: ServedModels, local_aws: LocalAws) -> None:
    local_aws.put_model()
    lines = [b"not json request-9", b'{"inferenceId": "request-9"}', b'["request-9"]', _line("request-9", b"text")]
    key = "capture/served-odd/champion/2026/01/02/03/04-05-006-x.jsonl"
    local_aws.client("s3").put_object(Bucket="captioner", Key=key, Body=b"\n".join(lines))
    found = served.captured("served-odd", "request-9")
    assert found is not None
    assert (found.at, found.answer) == ("2026-01-02T03:04:05Z", None)


def _line(inference_id: str, answer: bytes) -> bytes:
    output = {"observedContentType": "text/plain", "mode": "OUTPUT", "data": answer.decode(), "encoding": "CSV"}
    metadata = {"eventId": "1", "inferenceId": inference_id, "inferenceTime": "2026-01-02T03:04:05Z"}
    return json.dumps({"captureData": {"endpointOutput": output}, "eventMetadata": metadata}).encode()


def test_an_artifact_is_found_by_its_digest(served: ServedModels, local_aws: LocalAws) -> None:
    local_aws.put_model(f"models/{DIGEST}/model.tar.gz")
    assert served.archive(DIGEST) == f"s3://captioner/models/{DIGEST}/model.tar.gz"
    assert served.archive("0" * 64) is None


def test_a_local_aws_that_is_not_up_is_a_sentence(tmp_path: Path, settings: Settings, paths: Paths) -> None:
    with pytest.raises(ServiceUnavailable, match="captioner up"):
        ServedModels(settings, paths).models("captioner-sample")
