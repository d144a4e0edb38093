"""The states of an endpoint."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.conformance.place import Place


def version(place: Place, endpoint: str) -> str:
    """Which model answers, as its container says."""
    runtime = place.client("sagemaker-runtime")
    answer = runtime.invoke_endpoint(EndpointName=endpoint, Body=b"who", ContentType="text/plain")
    return str(json.loads(answer["Body"].read())["model"]["version"])


def refused(call: Any, **request: Any) -> str:
    with pytest.raises(ClientError) as error:
        call(**request)
    assert error.value.response["Error"]["Code"] == "ValidationException"
    return str(error.value)


def test_the_life_of_an_endpoint(place: Place) -> None:
    """botocore, DescribeEndpointOutput$EndpointStatus: Creating, InService, Updating, Deleting, and what each allows.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_UpdateEndpoint.html: until the update is done, the
    endpoint answers with the old configuration.
    """
    client = place.sagemaker
    first = place.config("life-1", place.variant(place.model("life-1", CAPTIONER_MODEL_VERSION="1", START_AFTER="1")))
    slow = place.model("life-2", CAPTIONER_MODEL_VERSION="2", START_AFTER="3")
    second = place.config("life-2", place.variant(slow, weight=3))
    name = place.endpoint("life", first)
    assert client.describe_endpoint(EndpointName=name)["EndpointStatus"] == "Creating"
    refused(client.update_endpoint, EndpointName=name, EndpointConfigName=second)
    assert "already existing" in refused(client.create_endpoint, EndpointName=name, EndpointConfigName=first)

    client.get_waiter("endpoint_in_service").wait(
        EndpointName=name, WaiterConfig={"Delay": 1 if place.url else 15, "MaxAttempts": 120}
    )
    found = client.describe_endpoint(EndpointName=name)
    (variant,) = found["ProductionVariants"]
    assert (found["EndpointConfigName"], variant["VariantName"]) == (first, "only")
    assert (variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]) == (1, 1)
    assert (variant["CurrentWeight"], variant["DesiredWeight"]) == (1.0, 1.0)
    assert version(place, name) == "1"

    client.update_endpoint(EndpointName=name, EndpointConfigName=second)
    assert client.describe_endpoint(EndpointName=name)["EndpointStatus"] == "Updating"
    assert version(place, name) == "1"
    refused(client.update_endpoint, EndpointName=name, EndpointConfigName=first)
    refused(client.delete_endpoint, EndpointName=name)
    found = place.steady(name)
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", second)
    assert found["ProductionVariants"][0]["CurrentWeight"] == 3.0
    assert version(place, name) == "2"

    client.delete_endpoint(EndpointName=name)
    place.forget("endpoint", name)
    client.get_waiter("endpoint_deleted").wait(
        EndpointName=name, WaiterConfig={"Delay": 1 if place.url else 15, "MaxAttempts": 120}
    )
    with pytest.raises(ClientError, match="not found"):
        version(place, name)


def test_weights_are_changed_through_updating(place: Place, ab: str) -> None:
    """https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_UpdateEndpointWeightsAndCapacities.html"""
    client = place.sagemaker

    def weights() -> dict[str, float]:
        found = place.steady(ab)["ProductionVariants"]
        return {one["VariantName"]: one["CurrentWeight"] for one in found}

    def change(**desired: float) -> None:
        wanted = [{"VariantName": name, "DesiredWeight": weight} for name, weight in desired.items()]
        client.update_endpoint_weights_and_capacities(EndpointName=ab, DesiredWeightsAndCapacities=wanted)

    before = weights()
    try:
        change(champion=0.5)
        assert weights() == {**before, "champion": 0.5}
        change(champion=0, challenger=1)
        assert weights() == {"champion": 0.0, "challenger": 1.0}
        runtime = place.client("sagemaker-runtime")
        for _ in range(10):
            answer = runtime.invoke_endpoint(EndpointName=ab, Body=b"x", ContentType="text/plain")
            assert answer["InvokedProductionVariant"] == "challenger"
    finally:
        change(**before)
        assert weights() == before


def test_a_container_that_cannot_start_fails_the_endpoint(place: Place) -> None:
    """botocore, DescribeEndpointOutput$EndpointStatus: Failed, with FailureReason; only DeleteEndpoint is left."""
    client = place.sagemaker
    config = place.config("fails", place.variant(place.model("fails", START="crash")))
    name = place.endpoint("fails", config)
    found = place.steady(name)
    assert found["EndpointStatus"] == "Failed"
    assert "did not pass the ping health check" in found["FailureReason"]
    refused(client.update_endpoint, EndpointName=name, EndpointConfigName=config)
    client.delete_endpoint(EndpointName=name)
    place.forget("endpoint", name)


def test_an_endpoint_needs_its_config(place: Place) -> None:
    """https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateEndpoint.html"""
    nobody = place.name("nobody")
    said = refused(place.sagemaker.create_endpoint, EndpointName=nobody, EndpointConfigName=nobody)
    assert "Could not find" in said


def test_endpoints_are_listed_by_status(place: Place, ab: str) -> None:
    """https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListEndpoints.html"""
    listed = place.sagemaker.list_endpoints(NameContains=ab, StatusEquals="InService")["Endpoints"]
    assert [one["EndpointName"] for one in listed] == [ab]
    assert place.sagemaker.list_endpoints(NameContains=ab, StatusEquals="Failed")["Endpoints"] == []
