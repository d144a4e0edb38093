"""Shadow variants: the shadow sees what it should, and the caller never sees the shadow."""

import base64
import json
import threading
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError

from captioner.emulator.shadow import Shadows, share
from tests.local_aws import LocalAws, until


def test_the_share_is_the_ratio_of_the_weights() -> None:
    assert share(1, 1) == 1
    assert share(0.25, 1) == 0.25
    assert share(1, 4) == 0.25
    assert share(5, 1) == 1
    assert share(0, 1) == share(1, 0) == 0


def test_copies_are_sampled() -> None:
    shadows, seen = Shadows(waiting=10_000), []
    for _ in range(2000):
        shadows.mirror(0.3, lambda: seen.append(1))
    shadows._pool.shutdown(wait=True)
    assert 498 <= len(seen) <= 702  # 600, five standard deviations on either side
    shadows.mirror(1, lambda: seen.append(1))  # after the end: nothing, and no error


def test_what_a_slow_shadow_cannot_take_is_dropped_and_counted() -> None:
    shadows, gate, done = Shadows(workers=1, waiting=3), threading.Event(), []
    for _ in range(10):
        shadows.mirror(1, lambda: (gate.wait(30), done.append(1))[-1])
    assert shadows.dropped == 7
    gate.set()
    until(lambda: len(done) == 3, "those that had room")
    shadows.close()


@pytest.fixture(scope="module")
def shadowed(local_aws: LocalAws) -> str:
    """An endpoint whose shadow sees every request, with data capture."""
    local_aws.model("shadow-m1", "1")
    local_aws.model("shadow-m2", "2")
    shadow = {
        "VariantName": "candidate",
        "ModelName": "shadow-m2",
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
        "InitialVariantWeight": 1,
    }
    capture = {
        "EnableCapture": True,
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": "s3://captioner/shadowed",
        "CaptureOptions": [{"CaptureMode": "InputAndOutput"}],
        "CaptureContentTypeHeader": {"JsonContentTypes": ["application/json"]},
    }
    local_aws.config(
        "shadow-c", {"live": ("shadow-m1", 1)}, ShadowProductionVariants=[shadow], DataCaptureConfig=capture
    )
    local_aws.endpoint("shadow", "shadow-c")
    return "shadow"


def invoke(aws: LocalAws, body: bytes, **more: Any) -> dict[str, Any]:
    return aws.client("sagemaker-runtime").invoke_endpoint(
        EndpointName="shadow", Body=body, ContentType="image/png", **more
    )


def counters(aws: LocalAws) -> dict[str, Any]:
    return aws.health()["endpoints"]["shadow"]["shadows"]["candidate"]


def test_the_shadow_gets_a_copy_and_the_caller_gets_production(local_aws: LocalAws, shadowed: str) -> None:
    before = counters(local_aws)["invocations"]
    for number in range(10):
        answer = invoke(local_aws, b"picture", InferenceId=f"copy-{number}")
        assert answer["InvokedProductionVariant"] == "live"
        assert json.loads(answer["Body"].read())["model"]["version"] == "1"
    until(lambda: counters(local_aws)["invocations"] == before + 10, "the copies to be answered")
    client = local_aws.client("s3")

    def captured() -> list[dict[str, Any]]:
        listed = client.list_objects_v2(Bucket="captioner", Prefix="shadowed/shadow/candidate/").get("Contents", [])
        bodies = [client.get_object(Bucket="captioner", Key=one["Key"])["Body"].read() for one in listed]
        return [json.loads(line) for body in bodies for line in body.splitlines()]

    found = until(lambda: captured() if len(captured()) >= 10 else None, "the shadow's answers to be captured")
    assert {one["eventMetadata"]["inferenceId"] for one in found} >= {f"copy-{number}" for number in range(10)}
    data = found[0]["captureData"]
    assert base64.b64decode(data["endpointInput"]["data"]) == b"picture"
    assert json.loads(data["endpointOutput"]["data"])["model"]["version"] == "2"


def test_nobody_can_ask_the_shadow(local_aws: LocalAws, shadowed: str) -> None:
    with pytest.raises(ClientError) as error:
        invoke(local_aws, b"x", TargetVariant="candidate")
    assert error.value.response["Error"]["Code"] == "ValidationError"


def test_a_shadow_that_is_down_touches_nobody(local_aws: LocalAws, shadowed: str) -> None:
    """Stopped in its tracks, so that every copy hangs; then killed. The caller's answers come as before."""
    import os
    import signal

    pid = counters(local_aws)["instances"][0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        for _ in range(100):
            assert invoke(local_aws, b"x")["InvokedProductionVariant"] == "live"
        assert time.monotonic() - started < 30  # one that waited for the shadow would take 60 s
    finally:
        os.kill(pid, signal.SIGKILL)
    for _ in range(20):
        assert invoke(local_aws, b"x")["InvokedProductionVariant"] == "live"
    until(lambda: counters(local_aws)["errors_5xx"], "the shadow's failures to be counted")
    until(lambda: counters(local_aws)["instances"][0]["healthy"], "the shadow to be started again")
    assert local_aws.health()["endpoints"]["shadow"]["variants"]["live"]["errors_5xx"] == 0
