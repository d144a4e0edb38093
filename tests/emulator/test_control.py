"""SageMaker's control plane: what is kept, what is refused, and that botocore understands both."""

import pytest
from botocore.exceptions import ClientError

from tests.local_aws import LocalAws

ROLE = "arn:aws:iam::123456789012:role/any"
TAGS = [{"Key": "owner", "Value": "test"}]
CAPTURE = {
    "EnableCapture": True,
    "InitialSamplingPercentage": 50,
    "DestinationS3Uri": "s3://captioner/captured",
    "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
}


def refused(call, **request) -> tuple[str, str]:
    with pytest.raises(ClientError) as error:
        call(**request)
    found = error.value.response
    assert found["ResponseMetadata"]["HTTPStatusCode"] == 400
    return found["Error"]["Code"], found["Error"]["Message"]


def container(local_aws: LocalAws, **environment: str) -> dict:
    return {"Image": local_aws.image(), "ModelDataUrl": local_aws.put_model(), "Environment": environment}


def test_a_model_is_described_listed_and_deleted(local_aws: LocalAws) -> None:
    client = local_aws.client("sagemaker")
    made = client.create_model(
        ModelName="ctl-model",
        PrimaryContainer=container(local_aws, KEY="value"),
        ExecutionRoleArn="arn:aws:iam::123456789012:role/any",
        Tags=[{"Key": "owner", "Value": "test"}],
    )
    found = client.describe_model(ModelName="ctl-model")
    assert found["ModelArn"] == made["ModelArn"]
    assert found["PrimaryContainer"]["Environment"] == {"KEY": "value"}
    assert found["CreationTime"].year > 2000
    assert [one["ModelName"] for one in client.list_models(NameContains="TL-MODEL")["Models"]] == ["ctl-model"]
    assert client.list_tags(ResourceArn=made["ModelArn"])["Tags"] == [{"Key": "owner", "Value": "test"}]
    client.add_tags(ResourceArn=made["ModelArn"], Tags=[{"Key": "owner", "Value": "b"}, {"Key": "x", "Value": "1"}])
    client.delete_tags(ResourceArn=made["ModelArn"], TagKeys=["x"])
    assert client.list_tags(ResourceArn=made["ModelArn"])["Tags"] == [{"Key": "owner", "Value": "b"}]
    code, said = refused(client.create_model, ModelName="ctl-model", PrimaryContainer=container(local_aws))
    assert (code, "already existing model" in said) == ("ValidationException", True)
    client.delete_model(ModelName="ctl-model")
    assert "Could not find model" in refused(client.describe_model, ModelName="ctl-model")[1]
    assert "Could not find model" in refused(client.delete_model, ModelName="ctl-model")[1]


@pytest.mark.parametrize(
    ("name", "said"),
    [("under_score", "regular expression"), ("-dash", "regular expression"), ("x" * 64, "less than or equal to 63")],
)
def test_names_are_held_to_awss_own_rules(local_aws: LocalAws, name: str, said: str) -> None:
    code, message = refused(
        local_aws.client("sagemaker").create_model, ModelName=name, PrimaryContainer=container(local_aws)
    )
    assert code == "ValidationException"
    assert f"Value '{name}' at 'modelName' failed to satisfy constraint" in message
    assert said in message


def test_a_model_needs_its_data_and_a_moderate_environment(local_aws: LocalAws) -> None:
    create = local_aws.client("sagemaker").create_model
    missing = {"Image": local_aws.image(), "ModelDataUrl": "s3://captioner/nowhere/model.tar.gz"}
    assert "Could not find model data" in refused(create, ModelName="ctl-x", PrimaryContainer=missing)[1]

    many = container(local_aws, **{f"K{n}": "v" for n in range(101)})
    assert "100" in refused(create, ModelName="ctl-x", PrimaryContainer=many)[1]
    large = container(local_aws, **{f"K{n}": "v" * 1000 for n in range(40)})
    assert "32768" in refused(create, ModelName="ctl-x", PrimaryContainer=large)[1]
    # Bytes, not characters: 1,000 of these have 2,000.
    wide = container(local_aws, KEY="ä" * 1000)
    assert "2000 bytes; the limit is 1024" in refused(create, ModelName="ctl-x", PrimaryContainer=wide)[1]
    assert "PrimaryContainer" in refused(create, ModelName="ctl-x")[1]


def test_a_config_keeps_zero_and_default_weights(local_aws: LocalAws) -> None:
    client = local_aws.client("sagemaker")
    model = local_aws.model("ctl-weights")
    variant = {"ModelName": model, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    variants = [
        {**variant, "VariantName": "zero", "InitialVariantWeight": 0},
        {**variant, "VariantName": "default"},
    ]
    client.create_endpoint_config(EndpointConfigName="ctl-weights", ProductionVariants=variants)
    found = client.describe_endpoint_config(EndpointConfigName="ctl-weights")["ProductionVariants"]
    assert [one["InitialVariantWeight"] for one in found] == [0.0, 1.0]
    client.delete_endpoint_config(EndpointConfigName="ctl-weights")
    assert "Could not find" in refused(client.describe_endpoint_config, EndpointConfigName="ctl-weights")[1]


def test_a_config_that_cannot_work_is_refused(local_aws: LocalAws) -> None:
    client = local_aws.client("sagemaker")
    model = local_aws.model("ctl-bad")

    def attempt(*variants: dict, **more) -> str:
        code, said = refused(
            client.create_endpoint_config, EndpointConfigName="ctl-bad", ProductionVariants=list(variants), **more
        )
        assert code == "ValidationException"
        return said

    good = {"VariantName": "a", "ModelName": model, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    assert "must be unique" in attempt(good, good)
    assert "Could not find model" in attempt({**good, "ModelName": "nobody"})
    assert "enum" in attempt({**good, "InstanceType": "ml.huge"})
    assert "InitialInstanceCount" in attempt({key: good[key] for key in good if key != "InitialInstanceCount"})
    assert "needs InstanceType and InitialInstanceCount, or a ServerlessConfig" in attempt(
        {key: good[key] for key in ("VariantName", "ModelName")}
    )
    assert "does not have AsyncInferenceConfig" in attempt(
        good, AsyncInferenceConfig={"OutputConfig": {"S3OutputPath": "s3://captioner/out"}}
    )
    assert "exactly one production variant" in attempt(
        good, {**good, "VariantName": "b"}, ShadowProductionVariants=[{**good, "VariantName": "c"}]
    )
    assert "must be unique" in attempt(good, ShadowProductionVariants=[good])
    eleven = [{**good, "VariantName": f"v{n}"} for n in range(11)]
    assert "less than or equal to 10" in attempt(*eleven)


def test_a_serverless_variant_excludes_what_it_excludes_on_aws(local_aws: LocalAws) -> None:
    client = local_aws.client("sagemaker")
    serverless = {
        "VariantName": "only",
        "ModelName": local_aws.model("ctl-serverless"),
        "ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 5},
    }

    def attempt(*variants: dict, **more) -> str:
        call = client.create_endpoint_config
        return refused(call, EndpointConfigName="ctl-serverless", ProductionVariants=list(variants), **more)[1]

    vpc = {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]}
    assert "cannot be used with more than one variant" in attempt(serverless, {**serverless, "VariantName": "b"})
    assert "cannot be used with DataCaptureConfig" in attempt(serverless, DataCaptureConfig=CAPTURE)
    assert "cannot be used with VpcConfig, EnableNetworkIsolation" in attempt(
        serverless, VpcConfig=vpc, EnableNetworkIsolation=True, ExecutionRoleArn=ROLE
    )
    assert "takes no InstanceType" in attempt({**serverless, "InstanceType": "ml.m5.large"})
    assert "multiple of 1024" in attempt(
        {**serverless, "ServerlessConfig": {"MemorySizeInMB": 1500, "MaxConcurrency": 1}}
    )
    client.create_endpoint_config(EndpointConfigName="ctl-serverless", ProductionVariants=[serverless])
    (found,) = local_aws.endpoint("ctl-serverless", "ctl-serverless")["ProductionVariants"]
    assert found["CurrentServerlessConfig"] == serverless["ServerlessConfig"]
    assert "CurrentInstanceCount" not in found


def test_a_config_is_described_with_all_that_it_was_given(local_aws: LocalAws) -> None:
    client = local_aws.client("sagemaker")
    variant = {"ModelName": local_aws.model("ctl-full"), "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    given = {
        "ProductionVariants": [{**variant, "VariantName": "live", "InitialVariantWeight": 1.0}],
        "ShadowProductionVariants": [{**variant, "VariantName": "shade", "InitialVariantWeight": 0.5}],
        "DataCaptureConfig": CAPTURE,
        "KmsKeyId": "alias/ours",
        "ExecutionRoleArn": ROLE,
        "VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]},
        "EnableNetworkIsolation": True,
    }
    made = client.create_endpoint_config(EndpointConfigName="ctl-full", Tags=TAGS, **given)
    found = client.describe_endpoint_config(EndpointConfigName="ctl-full")
    assert {member: found[member] for member in given} == given
    assert client.list_tags(ResourceArn=made["EndpointConfigArn"])["Tags"] == TAGS
    endpoint = local_aws.endpoint("ctl-full", "ctl-full")
    assert endpoint["DataCaptureConfig"] == {
        "EnableCapture": True,
        "CaptureStatus": "Started",
        "CurrentSamplingPercentage": 50,
        "DestinationS3Uri": "s3://captioner/captured",
        "KmsKeyId": "",
    }
    (shadow,) = endpoint["ShadowProductionVariants"]
    assert (shadow["VariantName"], shadow["CurrentInstanceCount"]) == ("shade", 1)


def test_lists_come_in_pages(local_aws: LocalAws) -> None:
    client = local_aws.client("sagemaker")
    names = [f"ctl-page-{n}" for n in range(5)]
    for name in names:
        client.create_model(ModelName=name, PrimaryContainer={"Image": local_aws.image()})
    pages = list(
        client.get_paginator("list_models").paginate(NameContains="ctl-page", PaginationConfig={"PageSize": 2})
    )
    assert [len(page["Models"]) for page in pages] == [2, 2, 1]
    assert [one["ModelName"] for page in pages for one in page["Models"]] == names[::-1]
    by_name = client.list_models(NameContains="ctl-page", SortBy="Name", SortOrder="Ascending")["Models"]
    assert [one["ModelName"] for one in by_name] == names


def test_what_is_missing_is_refused_as_aws_does(local_aws: LocalAws) -> None:
    client = local_aws.client("sagemaker")
    code, said = refused(client.describe_endpoint, EndpointName="ctl-none")
    assert (code, said) == (
        "ValidationException",
        'Could not find endpoint "arn:aws:sagemaker:us-east-1:123456789012:endpoint/ctl-none".',
    )
    assert "Could not find" in refused(client.delete_endpoint, EndpointName="ctl-none")[1]
    assert (
        "Could not find"
        in refused(client.create_endpoint, EndpointName="ctl-none", EndpointConfigName="ctl-no-config")[1]
    )


def test_a_variant_that_the_endpoint_does_not_have(local_aws: LocalAws) -> None:
    local_aws.model("ctl-variant-m")
    local_aws.config("ctl-variant-c", {"champion": ("ctl-variant-m", 1)})
    local_aws.endpoint("ctl-variant", "ctl-variant-c")
    code, said = refused(
        local_aws.client("sagemaker").update_endpoint_weights_and_capacities,
        EndpointName="ctl-variant",
        DesiredWeightsAndCapacities=[{"VariantName": "nobody", "DesiredWeight": 1}],
    )
    assert (code, "it has: champion" in said) == ("ValidationException", True)
    assert local_aws.describe("ctl-variant")["EndpointStatus"] == "InService"


def test_the_rest_of_aws_answers_too(local_aws: LocalAws) -> None:
    """moto, in the same process: identity, roles, metrics, and SageMaker's operations that are not ours."""
    assert local_aws.client("sts").get_caller_identity()["Account"] == "123456789012"
    iam = local_aws.client("iam")
    iam.create_role(RoleName="r", AssumeRolePolicyDocument="{}")
    assert [role["RoleName"] for role in iam.list_roles()["Roles"]] == ["r"]
    cloudwatch = local_aws.client("cloudwatch")
    cloudwatch.put_metric_data(Namespace="n", MetricData=[{"MetricName": "m", "Value": 1.0}])
    assert [one["MetricName"] for one in cloudwatch.list_metrics(Namespace="n")["Metrics"]] == ["m"]
    assert local_aws.client("sagemaker").list_training_jobs()["TrainingJobSummaries"] == []


def test_what_moto_has_not_either_is_a_501_in_every_protocol(local_aws: LocalAws) -> None:
    asked: list[tuple[str, str, dict[str, str]]] = [
        ("sagemaker", "list_inference_components", {}),
        ("cloudwatch", "put_composite_alarm", {"AlarmName": "c", "AlarmRule": "ALARM(a)"}),
    ]
    for service, operation, members in asked:
        with pytest.raises(ClientError, match="Not Implemented") as error:
            getattr(local_aws.client(service), operation)(**members)
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501
