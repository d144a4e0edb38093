"""infra/api.yaml: deployed to moto and looked for there; what it does not make is asked of the services' own APIs."""

from __future__ import annotations

import importlib
import io
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pytest

from captioner.settings import Settings
from tests.infra.policies import allowed
from tests.infra.stacks import Moto
from tests.infra.templates import ACCOUNT, API, BASE, REGION, load, resolved
from tests.moto_server import moto_server

ENDPOINT = "captioner-flickr8k"
LINT_ONLY = {  # moto 5.2 does not know these types
    "AWS::ApiGateway::ApiKey",
    "AWS::ApiGateway::Stage",
    "AWS::ApiGateway::UsagePlan",
    "AWS::ApiGateway::UsagePlanKey",
    "AWS::SecretsManager::Secret",
}
NAMELESS = {
    "AWS::ApiGateway::Method",
    "AWS::ApiGateway::Deployment",
    "AWS::Lambda::Permission",
}  # made, but not listed: looked for below


def code() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("captioner/api/aws_lambda.py", "")
    return packed.getvalue()


CODE_KEY = f"api/{sha256(code()).hexdigest()}.zip"


@pytest.fixture(scope="module")
def moto() -> Iterator[Moto]:
    with moto_server() as url:
        one = Moto(url)
        one.create("base", BASE, BucketName="ours")
        one.client("s3").put_object(Bucket="ours", Key=CODE_KEY, Body=code())
        one.create("api", API, **parameters(one))
        yield one


def parameters(moto: Moto) -> dict[str, str]:
    return {"BucketName": "ours", "RouterRoleArn": moto.outputs("base")["RouterRoleArn"], "CodeKey": CODE_KEY}


@pytest.fixture(scope="module")
def wanted(moto: Moto) -> dict[str, dict[str, Any]]:
    """Logical name → resource, as CloudFormation is asked for it."""
    return resolved(load(API), **parameters(moto))


def test_moto_makes_everything_but_the_types_that_are_named(moto: Moto, wanted: dict[str, dict[str, Any]]) -> None:
    kinds = {name: one["Type"] for name, one in wanted.items()}
    made = {name: kind for name, (kind, _) in moto.resources("api").items()}
    assert made == {name: kind for name, kind in kinds.items() if kind not in LINT_ONLY | NAMELESS}
    assert set(kinds.values()) >= LINT_ONLY | NAMELESS


def test_the_function_is_the_router_and_has_the_settings_that_it_needs(
    moto: Moto, wanted: dict[str, dict[str, Any]]
) -> None:
    found = moto.client("lambda").get_function(FunctionName=f"{ENDPOINT}-api")["Configuration"]
    assert found["Role"] == moto.outputs("base")["RouterRoleArn"]
    assert found["Timeout"] == 29
    module, _, name = found["Handler"].rpartition(".")
    assert callable(getattr(importlib.import_module(module), name))
    environment = wanted["Function"]["Properties"]["Environment"]["Variables"]
    assert found["Environment"]["Variables"].items() <= environment.items()  # less what refers to types it cannot make
    settings = Settings.from_env(API.parent, environment)  # refuses what is no setting
    assert (settings.aws, settings.aws_bucket, settings.endpoint) == ("real", "ours", ENDPOINT)
    assert (settings.api.secret, settings.api.testers, settings.api.cors) == ("<Secret>", ("<TesterKey>",), ())


def test_its_log_is_one_that_it_may_write_and_that_ends(moto: Moto) -> None:
    (group,) = moto.client("logs").describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{ENDPOINT}")["logGroups"]
    assert group["retentionInDays"] == 30
    stream = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group['logGroupName']}:log-stream:1"
    assert allowed(moto.statements(moto.outputs("base")["RouterRoleArn"]), "logs:PutLogEvents", stream)


def test_pictures_arrive_as_they_were_sent(wanted: dict[str, dict[str, Any]]) -> None:
    assert wanted["Api"]["Properties"]["BinaryMediaTypes"] == ["*/*"]  # moto keeps none


def test_keys_are_asked_for_where_it_costs(moto: Moto) -> None:
    gateway = moto.client("apigateway")
    (api,) = gateway.get_rest_apis()["items"]
    found = {}
    for resource in gateway.get_resources(restApiId=api["id"])["items"]:
        for verb in resource.get("resourceMethods", {}):
            method = gateway.get_method(restApiId=api["id"], resourceId=resource["id"], httpMethod=verb)
            assert method["methodIntegration"]["type"] == "AWS_PROXY"
            assert f"function:{ENDPOINT}-api/invocations" in method["methodIntegration"]["uri"]
            found[resource["path"], verb] = method["apiKeyRequired"]
    assert found == {
        ("/", "POST"): True,
        ("/v1/{proxy+}", "ANY"): True,
        ("/v1/{proxy+}", "OPTIONS"): False,
        ("/v1/health", "GET"): False,
        ("/openapi.json", "GET"): False,
        ("/docs", "GET"): False,
        ("/docs/{proxy+}", "GET"): False,
    }


def test_only_this_gateway_may_call_it(moto: Moto) -> None:
    policy = moto.client("lambda").get_policy(FunctionName=f"{ENDPOINT}-api")["Policy"]
    (api,) = moto.client("apigateway").get_rest_apis()["items"]
    assert '"apigateway.amazonaws.com"' in policy
    assert f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{api['id']}/prod/*" in policy


def test_the_deployment_waits_for_every_method(wanted: dict[str, dict[str, Any]]) -> None:
    methods = {name for name, one in wanted.items() if one["Type"] == "AWS::ApiGateway::Method"}
    assert set(wanted["Deployment"]["DependsOn"]) == methods


# What moto's CloudFormation passes over, asked of the services' own API in the template's words


def test_the_secret_is_made_there_and_the_function_alone_may_read_it(
    moto: Moto, wanted: dict[str, dict[str, Any]]
) -> None:
    asked, secrets = wanted["Secret"]["Properties"], moto.client("secretsmanager")
    password = secrets.get_random_password(**asked["GenerateSecretString"])["RandomPassword"]
    assert len(password) == 64
    assert password.isalnum()
    arn = secrets.create_secret(Name=asked["Name"], SecretString=password)["ARN"]
    role = moto.statements(moto.outputs("base")["RouterRoleArn"])
    assert allowed(role, "secretsmanager:GetSecretValue", arn)
    assert not allowed(role, "secretsmanager:DeleteSecret", arn)
    assert not allowed(moto.statements(moto.outputs("base")["DeployerRoleArn"]), "secretsmanager:GetSecretValue", arn)


def test_stage_plan_and_keys_are_ones_that_the_gateway_takes(moto: Moto, wanted: dict[str, dict[str, Any]]) -> None:
    gateway = moto.client("apigateway")
    (api,) = gateway.get_rest_apis()["items"]
    (deployment,) = gateway.get_deployments(restApiId=api["id"])["items"]
    stage, plan = wanted["Stage"]["Properties"], wanted["UsagePlan"]["Properties"]
    gateway.create_stage(restApiId=api["id"], stageName=stage["StageName"], deploymentId=deployment["id"])
    made = gateway.create_usage_plan(
        name=plan["UsagePlanName"],
        apiStages=[{"apiId": api["id"], "stage": stage["StageName"]}],
        throttle={"rateLimit": plan["Throttle"]["RateLimit"], "burstLimit": plan["Throttle"]["BurstLimit"]},
        quota={"limit": plan["Quota"]["Limit"], "period": plan["Quota"]["Period"]},
    )
    for name in ("ClientKey", "TesterKey"):
        key = gateway.create_api_key(name=wanted[name]["Properties"]["Name"], enabled=True)
        link = wanted[f"{name}InPlan"]["Properties"]
        assert (link["KeyId"], link["UsagePlanId"]) == (f"<{name}>", "<UsagePlan>")
        gateway.create_usage_plan_key(usagePlanId=made["id"], keyId=key["id"], keyType=link["KeyType"])
    assert len(gateway.get_usage_plan_keys(usagePlanId=made["id"])["items"]) == 2
    assert gateway.get_usage_plan(usagePlanId=made["id"])["throttle"] == {"rateLimit": 20.0, "burstLimit": 40}
    (everything,) = stage["MethodSettings"]
    assert (everything["ResourcePath"], everything["HttpMethod"]) == ("/*", "*")
    assert everything["ThrottlingRateLimit"] >= plan["Throttle"]["RateLimit"]
