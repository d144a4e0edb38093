"""InvokeEndpoint: routing, what is passed on, limits, errors."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.conformance.place import Place

LARGEST = 6_291_456


def invoke(place: Place, endpoint: str, body: bytes = b"picture", **more: Any) -> dict[str, Any]:
    request = {"ContentType": "image/jpeg", **more}
    found: dict[str, Any] = place.client("sagemaker-runtime", attempts=1).invoke_endpoint(
        EndpointName=endpoint, Body=body, **request
    )
    return found


def refused(place: Place, endpoint: str, body: bytes = b"picture", **more: Any) -> dict[str, Any]:
    with pytest.raises(ClientError) as error:
        invoke(place, endpoint, body, **more)
    found: dict[str, Any] = error.value.response
    return found


def test_traffic_follows_the_weights(place: Place, ab: str) -> None:
    """https://docs.aws.amazon.com/sagemaker/latest/dg/model-ab-testing.html: the share is the weight over the sum.

    A thousand requests at 90 to 10, within the binomial 99.9 % interval.
    """
    runtime = place.client("sagemaker-runtime")
    answered = Counter(
        runtime.invoke_endpoint(EndpointName=ab, Body=b"x", ContentType="image/png")["InvokedProductionVariant"]
        for _ in range(1000)
    )
    assert answered["champion"] + answered["challenger"] == 1000
    least, most = binomial_interval(1000, 0.1)
    assert least <= answered["challenger"] <= most


def binomial_interval(n: int, p: float, confidence: float = 0.999) -> tuple[int, int]:
    """The counts that leave at most half of 1 - confidence on either side, exactly."""
    tail = (1 - confidence) / 2
    chances = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    below = list(itertools.accumulate(chances))
    return next(k for k in range(n + 1) if below[k] > tail), next(k for k in range(n + 1) if 1 - below[k] <= tail)


def test_target_variant_overrides_the_weights(place: Place, ab: str) -> None:
    """botocore, InvokeEndpointInput$TargetVariant: "this parameter overrides the default behavior"."""
    for wanted, version in (("champion", "1"), ("challenger", "2")):
        answer = invoke(place, ab, TargetVariant=wanted)
        assert answer["InvokedProductionVariant"] == wanted
        assert json.loads(answer["Body"].read())["model"]["version"] == version
    assert refused(place, ab, TargetVariant="nobody")["Error"]["Code"] == "ValidationError"


def test_headers_pass_both_ways(place: Place, ab: str) -> None:
    """botocore, InvokeEndpointInput$CustomAttributes: passed on as it is, and the container's own comes back."""
    answer = invoke(place, ab, Accept="application/json", CustomAttributes="trace=1", InferenceId="request-7")
    seen = json.loads(answer["Body"].read())["headers"]
    assert seen["content-type"] == "image/jpeg"
    assert seen["accept"] == "application/json"
    assert seen["x-amzn-sagemaker-custom-attributes"] == "trace=1"
    assert "authorization" not in seen
    assert answer["CustomAttributes"] == "from the container"
    assert answer["ContentType"] == "application/json"


@pytest.mark.parametrize(("status", "who"), [(400, "client"), (503, "server")])
def test_the_models_own_error_is_a_model_error(place: Place, ab: str, status: int, who: str) -> None:
    """botocore, shape ModelError: status 424, OriginalStatusCode, OriginalMessage, LogStreamArn."""
    response = refused(place, ab, b"status %d no picture" % status)
    assert response["Error"]["Code"] == "ModelError"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert (response["OriginalStatusCode"], response["OriginalMessage"]) == (status, "no picture")
    assert f"Received {who} error ({status})" in response["Error"]["Message"]
    assert "/aws/sagemaker/Endpoints/" in response["LogStreamArn"]


def test_a_body_has_six_megabytes(place: Place, ab: str) -> None:
    """botocore, shape BodyBlob: at most 6,291,456 bytes."""
    assert json.loads(invoke(place, ab, bytes(LARGEST))["Body"].read())["bytes"] == LARGEST
    assert refused(place, ab, bytes(LARGEST + 1))["ResponseMetadata"]["HTTPStatusCode"] == 413


def test_an_answer_has_its_time(place: Place, ab: str) -> None:
    """botocore, InvokeEndpoint: "must respond to requests within 60 seconds"; later it is a ModelError of status 0.

    https://docs.aws.amazon.com/sagemaker/latest/dg/deploy-model-troubleshoot.html has the message.
    """
    response = refused(place, ab, b"sleep %d" % (place.answer_s + 8))
    assert response["Error"]["Code"] == "ModelError"
    assert response["OriginalStatusCode"] == 0
    assert "Your invocation timed out while waiting for a response from container" in response["Error"]["Message"]


def test_no_such_endpoint(place: Place) -> None:
    """botocore, shape ValidationError: status 400."""
    response = refused(place, place.name("nobody"))
    assert response["Error"]["Code"] == "ValidationError"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_the_target_model_of_a_multi_model_endpoint_is_refused(place: Place, ab: str) -> None:
    """https://docs.aws.amazon.com/sagemaker/latest/dg/invoke-multi-model-endpoint.html: only those take it."""
    assert refused(place, ab, TargetModel="other.tar.gz")["Error"]["Code"] == "ValidationError"
