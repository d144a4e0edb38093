"""What happens beside an answer: shadow variants and data capture; and serverless endpoints, which have neither."""

from __future__ import annotations

import base64
import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.conformance.place import TAG, Place


@pytest.fixture(scope="module")
def watched(place: Place) -> str:
    """An endpoint with a shadow that sees everything, and data capture of everything."""
    live, candidate = (place.model(f"watched-{n}", CAPTIONER_MODEL_VERSION=str(n)) for n in (1, 2))
    capture = {
        "EnableCapture": True,
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": f"s3://{place.bucket}/{TAG}/{place.run}/captured",
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        "CaptureContentTypeHeader": {"JsonContentTypes": ["application/json"]},
    }
    config = place.config(
        "watched",
        place.variant(live, "live"),
        ShadowProductionVariants=[place.variant(candidate, "candidate")],
        DataCaptureConfig=capture,
    )
    return place.in_service("watched", config)


def records(place: Place, endpoint: str, variant: str) -> dict[str, Any]:
    """What was captured, by inference id."""
    found = place.objects(f"{TAG}/{place.run}/captured/{endpoint}/{variant}/")
    every = [json.loads(line) for body in found.values() for line in body.splitlines()]
    return {one["eventMetadata"].get("inferenceId"): one for one in every}


def test_captured_data_has_the_documented_layout_and_form(place: Place, watched: str) -> None:
    """https://docs.aws.amazon.com/sagemaker/latest/dg/model-monitor-data-capture-endpoint.html"""
    runtime = place.client("sagemaker-runtime")
    picture = b"\xff\xd8\xff\xe0 a picture"
    for number in range(5):
        runtime.invoke_endpoint(
            EndpointName=watched, Body=picture, ContentType="image/jpeg", InferenceId=f"captured-{number}"
        )
    wanted = {f"captured-{number}" for number in range(5)}
    place.until(lambda: wanted <= set(records(place, watched, "live")), "the captured data")
    for key in place.objects(f"{TAG}/{place.run}/captured/{watched}/live/"):
        assert re.search(rf"/captured/{watched}/live/\d{{4}}/\d\d/\d\d/\d\d/[^/]+\.jsonl$", key)
    record = records(place, watched, "live")["captured-0"]
    given, answered = record["captureData"]["endpointInput"], record["captureData"]["endpointOutput"]
    assert (given["observedContentType"], given["mode"], given["encoding"]) == ("image/jpeg", "INPUT", "BASE64")
    assert base64.b64decode(given["data"]) == picture
    assert (answered["observedContentType"], answered["mode"]) == ("application/json", "OUTPUT")
    assert answered["encoding"] == "JSON"
    assert json.loads(answered["data"])["bytes"] == len(picture)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", record["eventMetadata"]["inferenceTime"])
    assert record["eventMetadata"]["eventId"]
    assert record["eventVersion"] == "0"


def test_a_shadow_sees_what_production_answers(place: Place, watched: str) -> None:
    """https://docs.aws.amazon.com/sagemaker/latest/dg/model-shadow-deployment.html"""
    runtime = place.client("sagemaker-runtime")
    for number in range(5):
        answer = runtime.invoke_endpoint(
            EndpointName=watched, Body=b"x", ContentType="image/jpeg", InferenceId=f"copied-{number}"
        )
        assert answer["InvokedProductionVariant"] == "live"
        assert json.loads(answer["Body"].read())["model"]["version"] == "1"
    wanted = {f"copied-{number}" for number in range(5)}
    place.until(lambda: wanted <= set(records(place, watched, "candidate")), "the shadow's captured data")
    copied = records(place, watched, "candidate")["copied-0"]
    assert json.loads(copied["captureData"]["endpointOutput"]["data"])["model"]["version"] == "2"


def test_a_shadow_is_described_and_cannot_be_asked(place: Place, watched: str) -> None:
    """botocore, DescribeEndpointOutput$ShadowProductionVariants, InvokeEndpointInput$TargetVariant."""
    found = place.sagemaker.describe_endpoint(EndpointName=watched)
    assert [one["VariantName"] for one in found["ShadowProductionVariants"]] == ["candidate"]
    assert found["DataCaptureConfig"]["CaptureStatus"] == "Started"
    assert found["DataCaptureConfig"]["CurrentSamplingPercentage"] == 100
    runtime = place.client("sagemaker-runtime", attempts=1)
    with pytest.raises(ClientError) as error:
        runtime.invoke_endpoint(EndpointName=watched, Body=b"x", ContentType="a/b", TargetVariant="candidate")
    assert error.value.response["Error"]["Code"] == "ValidationError"


def test_a_serverless_endpoint_throttles_above_its_concurrency(place: Place) -> None:
    """https://docs.aws.amazon.com/sagemaker/latest/dg/serverless-endpoints.html: MaxConcurrency, then throttling."""
    limits = {"MemorySizeInMB": 1024, "MaxConcurrency": 1}
    variant = {"VariantName": "only", "ModelName": place.model("serverless"), "ServerlessConfig": limits}
    name = place.in_service("serverless", place.config("serverless", variant))
    found = place.sagemaker.describe_endpoint(EndpointName=name)["ProductionVariants"][0]
    assert found["CurrentServerlessConfig"]["MaxConcurrency"] == 1
    runtime = place.client("sagemaker-runtime", attempts=1)
    assert runtime.invoke_endpoint(EndpointName=name, Body=b"warm", ContentType="a/b")["Body"].read()

    def ask(_: int) -> str:
        try:
            runtime.invoke_endpoint(EndpointName=name, Body=b"sleep 2", ContentType="a/b")
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return "answered"

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(ask, range(4)))
    assert set(outcomes) == {"answered", "ThrottlingException"}
