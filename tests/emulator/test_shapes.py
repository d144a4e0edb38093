"""Requests held to botocore's own model."""

import pytest

from captioner.emulator.faults import AwsError
from captioner.emulator.shapes import check

GOOD = {
    "EndpointConfigName": "config",
    "ProductionVariants": [{"VariantName": "champion", "ModelName": "m", "InstanceType": "ml.m5.large"}],
}


def test_a_good_request_passes_unchanged_with_members_nobody_knows() -> None:
    assert check("CreateEndpointConfig", GOOD | {"Newer": 1}) == GOOD | {"Newer": 1}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"EndpointConfigName": None},
            "Value null at 'endpointConfigName' failed to satisfy constraint: Member must not be null",
        ),
        ({"EndpointConfigName": 7}, "'endpointConfigName' failed to satisfy constraint: Member must be of type string"),
        (
            {"ProductionVariants": []},
            "'productionVariants' failed to satisfy constraint: Member must have length greater than or equal to 1",
        ),
        (
            {"ProductionVariants": [{"VariantName": "a", "InitialVariantWeight": -1}]},
            "'productionVariants.1.member.initialVariantWeight' failed",
        ),
        ({"ProductionVariants": [{"VariantName": "a", "InitialInstanceCount": True}]}, "must be of type integer"),
        ({"ProductionVariants": [{}, {}]}, "2 validation errors detected"),
        ({"Tags": [{"Key": "k" * 129, "Value": "v"}]}, "'tags.1.member.key'"),
    ],
)
def test_every_fault_is_named_with_its_place(change: dict, said: str) -> None:
    with pytest.raises(AwsError) as refused:
        check("CreateEndpointConfig", GOOD | change)
    assert refused.value.code == "ValidationException"
    assert said in refused.value.message


def test_an_operation_that_does_not_exist() -> None:
    with pytest.raises(AwsError) as refused:
        check("CreateMiracle", {})
    assert refused.value.code == "UnknownOperationException"
