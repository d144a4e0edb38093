"""Models and their tags."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.conformance.place import TAG, Place


def refused(call: Any, **request: Any) -> tuple[str, str]:
    """(code, message) of the error that the call must give."""
    with pytest.raises(ClientError) as error:
        call(**request)
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    return error.value.response["Error"]["Code"], error.value.response["Error"]["Message"]


def test_a_model_is_described_as_it_was_made(place: Place) -> None:
    """https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeModel.html"""
    name = place.model("described", KEY="value")
    found = place.sagemaker.describe_model(ModelName=name)
    assert found["ModelName"] == name
    assert found["ExecutionRoleArn"] == place.role
    assert found["PrimaryContainer"]["Image"] == place.image
    assert found["PrimaryContainer"]["Environment"] == {"KEY": "value"}
    assert re.fullmatch(rf"arn:aws[a-z\-]*:sagemaker:[a-z0-9\-]+:\d{{12}}:model/{name}", found["ModelArn"])


def test_a_name_is_taken_once(place: Place) -> None:
    """https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateModel.html: unique in account and Region."""
    name = place.model("once")
    container = {"Image": place.image, "ModelDataUrl": place.archive()}
    again = {"ModelName": name, "PrimaryContainer": container, "ExecutionRoleArn": place.role}
    code, message = refused(place.sagemaker.create_model, **again)
    assert code == "ValidationException"
    assert "already existing" in message


@pytest.mark.parametrize("name", ["-begins", "under_score", "x" * 64])
def test_a_name_has_the_documented_pattern(place: Place, name: str) -> None:
    """botocore, shape ModelName: at most 63 letters, digits and hyphens, no hyphen at the start."""
    container = {"Image": place.image, "ModelDataUrl": place.archive()}
    create = place.sagemaker.create_model
    code, message = refused(create, ModelName=name, PrimaryContainer=container, ExecutionRoleArn=place.role)
    assert code == "ValidationException"
    assert "modelName" in message


def test_the_environment_has_limits(place: Place) -> None:
    """botocore, ContainerDefinition$Environment: 1,024 bytes for each key and value, 100 entries; 32 KB in all."""
    for environment in (
        {"K": "v" * 1025},
        {f"K{n}": "v" for n in range(101)},
        {f"K{n}": "v" * 1000 for n in range(40)},
    ):
        container = {"Image": place.image, "ModelDataUrl": place.archive(), "Environment": environment}
        request = {"ModelName": place.name("large"), "PrimaryContainer": container, "ExecutionRoleArn": place.role}
        assert refused(place.sagemaker.create_model, **request)[0] == "ValidationException"


@pytest.mark.parametrize(
    ("call", "member"),
    [
        ("describe_model", "ModelName"),
        ("delete_model", "ModelName"),
        ("describe_endpoint_config", "EndpointConfigName"),
        ("describe_endpoint", "EndpointName"),
        ("delete_endpoint", "EndpointName"),
    ],
)
def test_what_is_not_there_could_not_be_found(place: Place, call: str, member: str) -> None:
    """https://docs.aws.amazon.com/sagemaker/latest/APIReference/CommonErrors.html: ValidationError, status 400."""
    code, message = refused(getattr(place.sagemaker, call), **{member: place.name("nobody")})
    assert code == "ValidationException"
    assert "Could not find" in message


def test_lists_are_filtered_and_come_in_pages(place: Place) -> None:
    """https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListModels.html"""
    names = {place.model(f"paged-{n}") for n in range(3)}
    wanted = {"NameContains": place.name("paged"), "SortBy": "CreationTime", "SortOrder": "Ascending"}
    first = place.sagemaker.list_models(MaxResults=2, **wanted)
    assert len(first["Models"]) == 2
    second = place.sagemaker.list_models(MaxResults=2, NextToken=first["NextToken"], **wanted)
    found = [one["ModelName"] for one in [*first["Models"], *second["Models"]]]
    assert found == sorted(names)
    assert "NextToken" not in second


def test_lists_are_filtered_by_time(place: Place) -> None:
    """https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListModels.html: CreationTimeAfter, …Before."""
    name = place.model("timed")
    made = place.sagemaker.describe_model(ModelName=name)["CreationTime"]
    hour = timedelta(hours=1)

    def listed(**times: datetime) -> list[str]:
        found = place.sagemaker.list_models(NameContains=name, **times)["Models"]
        return [one["ModelName"] for one in found]

    assert listed(CreationTimeAfter=made - hour, CreationTimeBefore=made + hour) == [name]
    assert listed(CreationTimeAfter=made + hour) == []
    assert listed(CreationTimeBefore=made - hour) == []


def test_a_model_of_a_list_of_containers_is_described_as_one(place: Place) -> None:
    """https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeModel.html: Containers."""
    name = place.name("listed")
    container = {"Image": place.image, "ModelDataUrl": place.archive()}
    place.sagemaker.create_model(ModelName=name, Containers=[container], ExecutionRoleArn=place.role)
    found = place.sagemaker.describe_model(ModelName=name)
    place.sagemaker.delete_model(ModelName=name)
    assert [one["ModelDataUrl"] for one in found["Containers"]] == [container["ModelDataUrl"]]
    assert "PrimaryContainer" not in found


def test_tags_are_added_listed_and_deleted(place: Place) -> None:
    """https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_AddTags.html"""
    arn = place.sagemaker.describe_model(ModelName=place.model("tagged"))["ModelArn"]
    place.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "colour", "Value": "red"}])
    place.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "colour", "Value": "blue"}])

    def tags() -> dict[str, str]:
        listed = place.sagemaker.list_tags(ResourceArn=arn)["Tags"]
        return {tag["Key"]: tag["Value"] for tag in listed if not tag["Key"].startswith("aws:")}

    assert tags() == {TAG: place.run, "colour": "blue"}
    place.sagemaker.delete_tags(ResourceArn=arn, TagKeys=["colour"])
    assert tags() == {TAG: place.run}


def test_a_deleted_model_is_gone(place: Place) -> None:
    """https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DeleteModel.html"""
    name = place.model("deleted")
    place.sagemaker.delete_model(ModelName=name)
    place.forget("model", name)
    assert "Could not find" in refused(place.sagemaker.describe_model, ModelName=name)[1]
