"""Endpoint configurations: defaults, and what does not go together."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.conformance.place import Place


def refused(place: Place, *variants: dict[str, Any], **more: Any) -> str:
    """The message with which such a config is refused."""
    with pytest.raises(ClientError) as error:
        place.config("refused", *variants, **more)
    assert error.value.response["Error"]["Code"] == "ValidationException"
    return str(error.value)


def test_a_weight_is_1_by_default_and_0_is_a_weight(place: Place) -> None:
    """botocore, ProductionVariant$InitialVariantWeight: "If unspecified, it defaults to 1.0." """
    model = place.model("weights")
    default = {key: value for key, value in place.variant(model, "default").items() if key != "InitialVariantWeight"}
    name = place.config("weights", default, place.variant(model, "zero", 0))
    found = place.sagemaker.describe_endpoint_config(EndpointConfigName=name)
    weights = {one["VariantName"]: one["InitialVariantWeight"] for one in found["ProductionVariants"]}
    assert weights == {"default": 1.0, "zero": 0.0}


def test_a_config_needs_its_models(place: Place) -> None:
    """https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateEndpointConfig.html"""
    assert "Could not find model" in refused(place, place.variant(place.name("nobody")))


def test_variants_have_names_of_their_own(place: Place) -> None:
    """botocore, CreateEndpointConfigInput$ProductionVariants: one for each model, addressed by its name."""
    model = place.model("twins")
    refused(place, place.variant(model), place.variant(model))


def test_an_unknown_instance_type_is_refused(place: Place) -> None:
    """botocore, shape ProductionVariantInstanceType: an enumeration."""
    variant = {**place.variant(place.model("huge")), "InstanceType": "ml.huge"}
    assert "enum value set" in refused(place, variant)


def test_a_shadow_goes_with_exactly_one_production_variant(place: Place) -> None:
    """botocore, CreateEndpointConfigInput$ShadowProductionVariants: one of ProductionVariants and one of these."""
    model = place.model("shadows")
    one, two, shadow = (place.variant(model, name) for name in ("one", "two", "shadow"))
    refused(place, one, two, ShadowProductionVariants=[shadow])
    name = place.config("shadows", one, ShadowProductionVariants=[shadow])
    found = place.sagemaker.describe_endpoint_config(EndpointConfigName=name)
    assert [variant["VariantName"] for variant in found["ShadowProductionVariants"]] == ["shadow"]


def test_serverless_excludes_what_the_guide_says(place: Place) -> None:
    """https://docs.aws.amazon.com/sagemaker/latest/dg/serverless-endpoints.html: feature exclusions."""
    model = place.model("serverless-refused")
    limits = {"MemorySizeInMB": 1024, "MaxConcurrency": 1}
    one, two = ({"VariantName": name, "ModelName": model, "ServerlessConfig": limits} for name in ("one", "two"))
    refused(place, one, two)
    capture = {
        "EnableCapture": True,
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": f"s3://{place.bucket}/{place.name('none')}",
        "CaptureOptions": [{"CaptureMode": "Input"}],
    }
    refused(place, one, DataCaptureConfig=capture)


def test_a_config_may_be_deleted_and_is_gone(place: Place) -> None:
    """https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DeleteEndpointConfig.html"""
    name = place.config("deleted", place.variant(place.model("config-deleted")))
    place.sagemaker.delete_endpoint_config(EndpointConfigName=name)
    place.forget("endpoint_config", name)
    with pytest.raises(ClientError, match="Could not find"):
        place.sagemaker.describe_endpoint_config(EndpointConfigName=name)
