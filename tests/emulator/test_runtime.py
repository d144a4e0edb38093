"""InvokeEndpoint: who answers, what is passed on, what is refused."""

import itertools
import json
import math
from collections import Counter

import pytest
from botocore.exceptions import ClientError

from captioner.emulator.children import Children
from captioner.emulator.fleet import Fleet, VariantPlan
from captioner.emulator.instance import Container, Site
from tests.local_aws import LocalAws


@pytest.fixture(scope="module")
def endpoint(local_aws: LocalAws) -> str:
    """An endpoint whose variants have the weights 3, 1 and 0."""
    local_aws.model("run-m")
    local_aws.config("run-c", {"champion": ("run-m", 3), "challenger": ("run-m", 1), "silent": ("run-m", 0)})
    local_aws.endpoint("run", "run-c")
    return "run"


def invoke(local_aws: LocalAws, endpoint: str, body: bytes = b"picture", **more):
    request = {"ContentType": "image/jpeg", **more}
    return local_aws.client("sagemaker-runtime").invoke_endpoint(EndpointName=endpoint, Body=body, **request)


def refused(local_aws: LocalAws, endpoint: str, body: bytes = b"picture", **more) -> ClientError:
    with pytest.raises(ClientError) as error:
        invoke(local_aws, endpoint, body, **more)
    return error.value


def test_traffic_follows_the_weights(local_aws: LocalAws, endpoint: str) -> None:
    before = local_aws.health()["endpoints"][endpoint]["variants"]
    answered = Counter(invoke(local_aws, endpoint)["InvokedProductionVariant"] for _ in range(200))
    # 150 expected of 200 with a standard deviation of 6: five of them on either side.
    assert 120 <= answered["champion"] <= 180
    assert answered["champion"] + answered["challenger"] == 200
    after = local_aws.health()["endpoints"][endpoint]["variants"]
    assert {name: after[name]["invocations"] - before[name]["invocations"] for name in after} == {
        "champion": answered["champion"],
        "challenger": answered["challenger"],
        "silent": 0,
    }


def test_target_variant_overrides_the_weights(local_aws: LocalAws, endpoint: str) -> None:
    assert invoke(local_aws, endpoint, TargetVariant="silent")["InvokedProductionVariant"] == "silent"
    error = refused(local_aws, endpoint, TargetVariant="nobody")
    assert error.response["Error"]["Code"] == "ValidationError"
    assert "champion, challenger, silent" in str(error)


def test_headers_pass_both_ways(local_aws: LocalAws, endpoint: str) -> None:
    answer = invoke(local_aws, endpoint, Accept="application/json", CustomAttributes="a=1", InferenceId="request-7")
    seen = json.loads(answer["Body"].read())["headers"]
    assert seen["content-type"] == "image/jpeg"
    assert seen["accept"] == "application/json"
    assert seen["x-amzn-sagemaker-custom-attributes"] == "a=1"
    assert seen["x-amzn-sagemaker-inference-id"] == "request-7"
    assert "authorization" not in seen
    assert answer["CustomAttributes"] == "from the container"
    assert answer["ContentType"] == "application/json"


def test_the_body_limit_is_awss(local_aws: LocalAws, endpoint: str) -> None:
    assert json.loads(invoke(local_aws, endpoint, b"x" * 6_291_456)["Body"].read())["bytes"] == 6_291_456
    error = refused(local_aws, endpoint, b"x" * 6_291_457)
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 413
    assert "6291456" in str(error)


@pytest.mark.parametrize(("status", "who"), [(400, "client"), (503, "server")])
def test_the_models_own_error_is_a_model_error(local_aws: LocalAws, endpoint: str, status: int, who: str) -> None:
    error = refused(local_aws, endpoint, b"status %d no picture" % status)
    assert error.response["Error"]["Code"] == "ModelError"
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert error.response["OriginalStatusCode"] == status
    assert error.response["OriginalMessage"] == "no picture"
    assert f"Received {who} error ({status}) from primary" in str(error)


def test_an_answer_over_the_limit_is_a_model_error(local_aws: LocalAws, endpoint: str) -> None:
    assert refused(local_aws, endpoint, b"big").response["Error"]["Code"] == "ModelError"


def test_no_such_endpoint(local_aws: LocalAws) -> None:
    error = refused(local_aws, "nowhere")
    assert error.response["Error"]["Code"] == "ValidationError"
    assert "Endpoint nowhere of account 123456789012 not found." in str(error)


def test_all_weights_zero_is_said(local_aws: LocalAws) -> None:
    local_aws.model("run-zero-m")
    local_aws.config("run-zero-c", {"champion": ("run-zero-m", 0)})
    local_aws.endpoint("run-zero", "run-zero-c")
    assert "weight 0" in str(refused(local_aws, "run-zero"))
    assert invoke(local_aws, "run-zero", TargetVariant="champion")["InvokedProductionVariant"] == "champion"


@pytest.mark.parametrize(
    "member",
    [
        {"TargetModel": "a.tar.gz"},
        {"TargetContainerHostname": "a"},
        {"InferenceComponentName": "a"},
        {"SessionId": "a"},
    ],
)
def test_what_only_other_endpoints_take_is_refused(local_aws: LocalAws, endpoint: str, member: dict[str, str]) -> None:
    error = refused(local_aws, endpoint, **member)
    assert error.response["Error"]["Code"] == "ValidationError"
    assert next(iter(member)) in str(error)


def test_what_nothing_would_come_of_is_refused(local_aws: LocalAws, endpoint: str) -> None:
    """moto says yes to asynchronous inference and does nothing: code that works here would wait for ever on AWS."""
    runtime = local_aws.client("sagemaker-runtime")
    with pytest.raises(ClientError, match="no asynchronous inference"):
        runtime.invoke_endpoint_async(EndpointName=endpoint, InputLocation="s3://bucket/picture.jpg")
    with pytest.raises(ClientError, match="no streamed answers"):
        runtime.invoke_endpoint_with_response_stream(EndpointName=endpoint, Body=b"picture")


def test_twenty_thousand_decisions_are_within_the_binomial_interval(local_aws: LocalAws) -> None:
    """90/10: 20,000 by the fleet itself, 1,000 over HTTP; both within the 99.9 % interval of a fair draw."""
    site = Site(Children(), None, local_aws.home / "none", startup_s=1)  # type: ignore[arg-type]
    nothing = Container("captioner", {}, None)
    for seed in range(3):
        plans = [VariantPlan("champion", nothing, 0, 9), VariantPlan("challenger", nothing, 0, 1)]
        fleet = Fleet(f"decisions-{seed}", plans, site, 1)
        chosen = Counter(fleet.choose() for _ in range(20_000))
        assert sum(chosen.values()) == 20_000
        least, most = binomial_interval(20_000, 0.1)
        assert (least, most) == (1862, 2141)
        assert least <= chosen["challenger"] <= most
    local_aws.model("decide-m")
    local_aws.config("decide-c", {"champion": ("decide-m", 0.9), "challenger": ("decide-m", 0.1)})
    local_aws.endpoint("decide", "decide-c")
    answered = Counter(invoke(local_aws, "decide")["InvokedProductionVariant"] for _ in range(1000))
    least, most = binomial_interval(1000, 0.1)
    assert least <= answered["challenger"] <= most


def binomial_interval(n: int, p: float, confidence: float = 0.999) -> tuple[int, int]:
    """The counts that leave at most half of 1 - confidence on either side, exactly."""
    tail = (1 - confidence) / 2
    logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(n + 1)]
    chances = [math.exp(log + k * math.log(p) + (n - k) * math.log(1 - p)) for k, log in enumerate(logs)]
    below = list(itertools.accumulate(chances))
    return next(k for k in range(n + 1) if below[k] > tail), next(k for k in range(n + 1) if 1 - below[k] <= tail)
