"""Deployment guardrails: blue/green updates, what they refuse, and how they go back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.conformance.place import Place


def policy(kind: str, wait: int = 0, termination: int = 0, **sizes: Any) -> dict[str, Any]:
    routing = {"Type": kind, "WaitIntervalInSeconds": wait, **sizes}
    return {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": routing,
            "TerminationWaitInSeconds": termination,
            "MaximumExecutionTimeoutInSeconds": 3600,
        }
    }


def version(place: Place, endpoint: str) -> str:
    answer = place.client("sagemaker-runtime").invoke_endpoint(EndpointName=endpoint, Body=b"who", ContentType="a/b")
    return str(json.loads(answer["Body"].read())["model"]["version"])


@pytest.fixture(scope="module")
def configs(place: Place) -> tuple[str, str]:
    """Two configs with one variant of one instance and the same name, of the versions 1 and 2."""
    models = [place.model(f"guarded-{n}", CAPTIONER_MODEL_VERSION=str(n)) for n in (1, 2)]
    first, second = (place.config(f"guarded-{n}", place.variant(model)) for n, model in enumerate(models, start=1))
    return first, second


@pytest.fixture(scope="module")
def guarded(place: Place, configs: tuple[str, str]) -> str:
    return place.in_service("guarded", configs[0])


def refused(place: Place, endpoint: str, config: str, deployment: dict[str, Any]) -> str:
    with pytest.raises(ClientError) as error:
        place.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=config, DeploymentConfig=deployment)
    assert error.value.response["Error"]["Code"] == "ValidationException"
    assert place.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointStatus"] == "InService"
    return str(error.value)


def test_one_instance_cannot_be_a_canary(place: Place, guarded: str, configs: tuple[str, str]) -> None:
    """botocore, TrafficRoutingConfig$CanarySize: at most "50% of the variant's total instance count"."""
    size = {"CanarySize": {"Type": "INSTANCE_COUNT", "Value": 1}}
    refused(place, guarded, configs[1], policy("CANARY", wait=60, **size))


def test_a_canary_needs_its_size(place: Place, guarded: str, configs: tuple[str, str]) -> None:
    """https://docs.aws.amazon.com/sagemaker/latest/dg/deployment-guardrails-blue-green-canary.html"""
    refused(place, guarded, configs[1], policy("CANARY", wait=60))


def test_variants_keep_their_names(place: Place, guarded: str) -> None:
    """https://docs.aws.amazon.com/sagemaker/latest/dg/deployment-guardrails-exclusions.html"""
    other = place.config("renamed", place.variant(place.model("renamed"), "another"))
    refused(place, guarded, other, policy("ALL_AT_ONCE"))


def test_an_alarm_takes_the_update_back_and_the_waiter_does_not_tell(
    place: Place, guarded: str, configs: tuple[str, str]
) -> None:
    """https://docs.aws.amazon.com/sagemaker/latest/dg/deployment-guardrails-configuration.html: auto-rollback.

    botocore, the waiter EndpointInService: it looks at the status only. The config's name tells what happened.
    """
    alarm = place.alarm("guarded", guarded)
    before = version(place, guarded)
    deployment = policy("ALL_AT_ONCE", termination=600)
    deployment["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": alarm}]}
    client, cloudwatch = place.sagemaker, place.client("cloudwatch")

    client.update_endpoint(EndpointName=guarded, EndpointConfigName=configs[1], DeploymentConfig=deployment)
    place.until(lambda: version(place, guarded) == "2", "the traffic to be on the new fleet")
    cloudwatch.set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="the conformance suite says so")
    client.get_waiter("endpoint_in_service").wait(
        EndpointName=guarded, WaiterConfig={"Delay": 1 if place.url else 15, "MaxAttempts": 120}
    )
    assert client.describe_endpoint(EndpointName=guarded)["EndpointConfigName"] == configs[0]
    assert version(place, guarded) == before == "1"


def test_all_at_once_moves_everything(place: Place, guarded: str, configs: tuple[str, str]) -> None:
    """https://docs.aws.amazon.com/sagemaker/latest/dg/deployment-guardrails-blue-green-all-at-once.html"""
    place.sagemaker.update_endpoint(
        EndpointName=guarded, EndpointConfigName=configs[1], DeploymentConfig=policy("ALL_AT_ONCE")
    )
    found = place.steady(guarded)
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", configs[1])
    assert version(place, guarded) == "2"
