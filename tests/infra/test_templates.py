"""The CloudFormation templates: linted, deployed to moto and looked for there, and no wider than they must be.

What moto's CloudFormation passes over in silence is named here, exactly: it is held by cfn-lint, and by asking the
service's own API for the same thing.
"""

from __future__ import annotations

import importlib
import io
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name
from botocore.session import get_session

from captioner.adapters.aws import LOCAL_BUCKET, LOCAL_REGION, LOCAL_ROLE, Account
from captioner.release import names
from captioner.settings import VARIABLES
from tests.infra.policies import allowed, as_list
from tests.infra.templates import ACCOUNT, API, BASE, FOLDER, WATCH, load, resolved
from tests.moto_server import moto_server

ENDPOINT = "captioner-flickr8k"
SRC = FOLDER.parent / "src" / "captioner"
KEY = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/11111111-2222-3333-4444-555555555555"
EVERYTHING = {"KmsKeyArn": KEY, "GitHubRepository": "somebody/captioner", "UsesVpc": "yes", "BucketName": "ours"}
WATCHED = {"EndpointName": ENDPOINT, "AlarmEmail": "somebody@example.org"}
BEFORE_IT = {
    "EndpointName": ENDPOINT,
    "BucketName": "ours",
    "CodeKey": "api/captioner-api.zip",
    "RouterRoleArn": f"arn:aws:iam::{ACCOUNT}:role/router",
    "Secret": "what ids are signed with, 32 and more",
}

# moto 5.2 does not know these types, and says so in its log only.
LINT_ONLY = {
    "AWS::S3::BucketPolicy",
    "AWS::CloudWatch::Alarm",
    "AWS::SNS::Subscription",
    "AWS::ApiGateway::ApiKey",
    "AWS::ApiGateway::Stage",
    "AWS::ApiGateway::UsagePlan",
    "AWS::ApiGateway::UsagePlanKey",
}
# It makes these and gives them no id; a test asks their own service for them.
UNNAMED = {"AWS::ApiGateway::Method", "AWS::ApiGateway::Deployment", "AWS::Lambda::Permission"}

# Statements whose resource is a star, and why: IAM gives these actions no resource to name.
STARS = {
    ("ExecutionPolicy", "LogInToTheRegistry"): {"ecr:GetAuthorizationToken"},
    ("ExecutionPolicy", "Measure"): {"cloudwatch:PutMetricData"},  # held to two namespaces by its condition
    ("DeployerPolicy", "LogInToTheRegistry"): {"ecr:GetAuthorizationToken"},
    ("DeployerPolicy", "FindWhatIsNotUsed"): {
        "sagemaker:ListEndpointConfigs",
        "sagemaker:ListEndpoints",
        "sagemaker:ListModels",
    },
    ("DeployerPolicy", "ReadMetrics"): {"cloudwatch:GetMetricData", "cloudwatch:GetMetricStatistics"},
    ("ExecutionVpcPolicy", "FindThem"): {
        "ec2:DescribeDhcpOptions",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSecurityGroups",
        "ec2:DescribeSubnets",
        "ec2:DescribeVpcs",
    },
}


class Moto:
    """moto's own server with both stacks in it. (The local stack's S3 is another one, which knows no stacks.)"""

    def __init__(self, url: str) -> None:
        self.account = Account(url, LOCAL_REGION, LOCAL_ROLE, "local/captioner:latest", LOCAL_BUCKET)
        self.client = cache(self.account.client)
        self.outputs = cache(self._outputs)
        self.statements = cache(self._statements)

    def create(self, name: str, file: Path, **parameters: str) -> None:
        given = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
        self.client("cloudformation").create_stack(
            StackName=name, TemplateBody=file.read_text(), Parameters=given, Capabilities=["CAPABILITY_IAM"]
        )

    def code(self) -> None:
        """Some code for the function, where its template looks for it."""
        whole = io.BytesIO()
        with zipfile.ZipFile(whole, "w") as packed:
            packed.writestr("captioner/__init__.py", "")
        self.client("s3").put_object(Bucket=BEFORE_IT["BucketName"], Key=BEFORE_IT["CodeKey"], Body=whole.getvalue())

    def _outputs(self, name: str) -> dict[str, str]:
        (stack,) = self.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
        assert stack["StackStatus"] == "CREATE_COMPLETE"
        return {one["OutputKey"]: one["OutputValue"] for one in stack["Outputs"]}

    def resources(self, name: str) -> dict[str, tuple[str, str]]:
        """Logical name → (type, physical id) of what moto really made."""
        found = self.client("cloudformation").describe_stack_resources(StackName=name)["StackResources"]
        return {
            one["LogicalResourceId"]: (one["ResourceType"], one["PhysicalResourceId"])
            for one in found
            if one.get("PhysicalResourceId")
        }

    def _statements(self, role: str) -> list[dict[str, Any]]:
        """Every statement of the policies that are attached to the role with this ARN, as IAM has them."""
        iam = self.client("iam")
        found: list[dict[str, Any]] = []
        for policy in iam.list_attached_role_policies(RoleName=role.split("/")[-1])["AttachedPolicies"]:
            version = iam.get_policy(PolicyArn=policy["PolicyArn"])["Policy"]["DefaultVersionId"]
            document = iam.get_policy_version(PolicyArn=policy["PolicyArn"], VersionId=version)["PolicyVersion"]
            found += document["Document"]["Statement"]
        return found


@pytest.fixture(scope="module")
def moto() -> Iterator[Moto]:
    with moto_server() as url:
        one = Moto(url)
        one.create("base", BASE, **EVERYTHING)
        one.create("plain", BASE, RepositoryName="captioner-plain")
        one.create("watch", WATCH, **WATCHED)
        one.code()
        one.create("api", API, **{**BEFORE_IT, "RouterRoleArn": one.outputs("base")["RouterRoleArn"]})
        yield one


# Lint


def lint(*files: Path) -> subprocess.CompletedProcess[str]:
    """Everything that cfn-lint can say, hints too."""
    command = [Path(sys.executable).with_name("cfn-lint"), "--include-checks", "I", "--", *files]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_cfn_lint_has_nothing_to_say() -> None:
    done = lint(*sorted(FOLDER.glob("*.yaml")))
    assert done.returncode == 0, done.stdout + done.stderr


def test_cfn_lint_would_have(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(BASE.read_text().replace("sagemaker:CreateModel", "sagemaker:MakeModel"))
    assert "makemodel" in lint(wrong).stdout.lower()


# Deployed to moto, and looked for by each service's own API


@pytest.mark.parametrize(
    ("stack", "file", "parameters"), [("base", BASE, EVERYTHING), ("watch", WATCH, WATCHED), ("api", API, BEFORE_IT)]
)
def test_moto_makes_everything_but_the_types_that_are_named(
    moto: Moto, stack: str, file: Path, parameters: dict[str, str]
) -> None:
    wanted = {name: one["Type"] for name, one in resolved(load(file), **parameters).items()}
    made = {name: kind for name, (kind, _) in moto.resources(stack).items()}
    assert made == {name: kind for name, kind in wanted.items() if kind not in LINT_ONLY | UNNAMED}


def test_the_types_that_moto_does_not_make_are_in_use() -> None:
    assert {one["Type"] for file in (BASE, WATCH, API) for one in load(file)["Resources"].values()} >= LINT_ONLY


def test_the_bucket_is_encrypted(moto: Moto) -> None:
    s3 = moto.client("s3")
    names = {one["Name"] for one in s3.list_buckets()["Buckets"]}
    assert {moto.outputs("base")["BucketName"], moto.outputs("plain")["BucketName"]} <= names
    assert moto.outputs("base")["BucketName"] == "ours"

    def encryption(stack: str) -> dict[str, Any]:
        found = s3.get_bucket_encryption(Bucket=moto.outputs(stack)["BucketName"])
        (rule,) = found["ServerSideEncryptionConfiguration"]["Rules"]
        by: dict[str, Any] = rule["ApplyServerSideEncryptionByDefault"]
        return by

    assert encryption("base") == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY}
    assert encryption("plain")["SSEAlgorithm"] == "AES256"


def test_the_repository_is_named_as_the_serving_image_must_be(moto: Moto) -> None:
    (found,) = moto.client("ecr").describe_repositories(repositoryNames=["captioner"])["repositories"]
    assert found["imageTagMutability"] == "IMMUTABLE"
    assert found["repositoryUri"] == moto.outputs("base")["RepositoryUri"]
    from captioner.emulator.programs import command

    # The local SageMaker takes it for the same program.
    assert command(f"{found['repositoryUri']}:1", Path("m"), local_exec=False, programs={})


def test_only_the_right_ones_may_become_each_role(moto: Moto) -> None:
    iam = moto.client("iam")

    def trusted(output: str, stack: str = "base") -> list[tuple[Any, Any]]:
        role = iam.get_role(RoleName=moto.outputs(stack)[output].split("/")[-1])["Role"]
        # moto leaves an empty place in a list where AWS::NoValue stood.
        statements = [one for one in role["AssumeRolePolicyDocument"]["Statement"] if one]
        return [(one["Principal"], one.get("Condition")) for one in statements]

    own = {"StringEquals": {"aws:SourceAccount": ACCOUNT}}
    person = ({"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, None)
    assert trusted("ExecutionRoleArn") == [({"Service": "sagemaker.amazonaws.com"}, own)]
    assert trusted("RouterRoleArn") == [({"Service": "lambda.amazonaws.com"}, None)]
    assert trusted("DeployerRoleArn", "plain") == [person]
    first, workflow = trusted("DeployerRoleArn")
    assert first == person
    assert workflow[1]["StringEquals"] == {
        "token.actions.githubusercontent.com:aud": "sts.amazonaws.com",
        "token.actions.githubusercontent.com:sub": "repo:somebody/captioner:environment:production",
    }


def test_the_dashboard_shows_both_variants_and_every_alarm(moto: Moto) -> None:
    (found,) = moto.client("cloudwatch").list_dashboards()["DashboardEntries"]
    assert found["DashboardName"] == ENDPOINT
    body = json.loads(moto.client("cloudwatch").get_dashboard(DashboardName=ENDPOINT)["DashboardBody"])
    metrics = [one for widget in body["widgets"] for one in widget["properties"].get("metrics", [])]
    assert {(one[3], one[5]) for one in metrics} == {(ENDPOINT, "champion"), (ENDPOINT, "challenger")}
    (shown,) = [widget["properties"]["alarms"] for widget in body["widgets"] if widget["type"] == "alarm"]
    assert {one.split(":alarm:")[1] for one in shown} == {one["AlarmName"] for one in alarms()}


def test_the_gateway_hands_everything_to_the_function_and_asks_for_a_key(moto: Moto) -> None:
    gateway, made = moto.client("apigateway"), moto.resources("api")
    api = made["Api"][1]
    resource = next(one for one in gateway.get_resources(restApiId=api)["items"] if one.get("pathPart") == "{path+}")
    method = gateway.get_method(restApiId=api, resourceId=resource["id"], httpMethod="ANY")
    assert method["apiKeyRequired"] is True
    assert method["methodIntegration"]["type"] == "AWS_PROXY"
    function = moto.client("lambda").get_function(FunctionName=f"captioner-api-{ENDPOINT}")["Configuration"]
    assert f"{function['FunctionArn']}/invocations" in method["methodIntegration"]["uri"]
    assert len(gateway.get_deployments(restApiId=api)["items"]) == 1
    policy = json.loads(moto.client("lambda").get_policy(FunctionName=function["FunctionName"])["Policy"])
    assert policy["Statement"][0]["Principal"] == {"Service": "apigateway.amazonaws.com"}


def test_the_function_gets_settings_that_there_are_and_a_handler_that_there_is(moto: Moto) -> None:
    function = moto.client("lambda").get_function(FunctionName=f"captioner-api-{ENDPOINT}")["Configuration"]
    settings = function["Environment"]["Variables"]
    assert set(settings) <= set(VARIABLES)
    assert settings["CAPTIONER_API_ENDPOINT"] == ENDPOINT
    module, _, name = function["Handler"].rpartition(".")
    assert callable(getattr(importlib.import_module(module), name))


def test_the_topic_is_there(moto: Moto) -> None:
    topics = {one["TopicArn"] for one in moto.client("sns").list_topics()["Topics"]}
    assert moto.outputs("watch")["TopicArn"] in topics


# What moto's CloudFormation passes over, asked of the services' own API in the templates' words


def alarms() -> list[dict[str, Any]]:
    found = resolved(load(WATCH), **WATCHED).values()
    return [one["Properties"] for one in found if one["Type"] == "AWS::CloudWatch::Alarm"]


def test_the_alarms_are_ones_that_cloudwatch_takes(moto: Moto) -> None:
    cloudwatch = moto.client("cloudwatch")
    topic = moto.outputs("watch")["TopicArn"]
    for one in alarms():
        actions = {key: [topic for _ in one[key]] for key in ("AlarmActions", "OKActions")}
        cloudwatch.put_metric_alarm(**{**one, **actions, "Threshold": float(one["Threshold"])})
    stored = {one["AlarmName"]: one for one in cloudwatch.describe_alarms()["MetricAlarms"]}
    assert len(stored) == len(alarms()) == 6
    for variant in ("champion", "challenger"):
        of = {name.rsplit(f"{variant}-", 1)[1]: one for name, one in stored.items() if f"-watch-{variant}-" in name}
        assert {name: one["MetricName"] for name, one in of.items()} == {
            "server-errors": "Invocation5XXErrors",
            "model-errors": "InvocationModelErrors",
            "latency": "ModelLatency",
        }
        for one in of.values():
            assert {d["Name"]: d["Value"] for d in one["Dimensions"]} == {
                "EndpointName": ENDPOINT,
                "VariantName": variant,
            }
            assert one["TreatMissingData"] == "notBreaching"
            assert one["AlarmActions"] == [topic]
        assert of["latency"]["ExtendedStatistic"] == "p99"
        assert of["latency"]["Threshold"] == 2_000_000  # microseconds: two seconds


def test_the_bucket_is_what_s3_takes_versioned_private_and_over_tls_only(moto: Moto) -> None:
    s3, name = moto.client("s3"), moto.outputs("plain")["BucketName"]
    wanted = resolved(load(BASE))
    bucket = wanted["Bucket"]["Properties"]
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration=bucket["VersioningConfiguration"])
    s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=bucket["PublicAccessBlockConfiguration"])
    s3.put_bucket_ownership_controls(Bucket=name, OwnershipControls=bucket["OwnershipControls"])
    statements = wanted["BucketPolicy"]["Properties"]["PolicyDocument"]
    s3.put_bucket_policy(Bucket=name, Policy=json.dumps(statements).replace("<Bucket.Arn>", f"arn:aws:s3:::{name}"))
    assert s3.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
    assert set(s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"].values()) == {True}
    policy = json.loads(s3.get_bucket_policy(Bucket=name)["Policy"])["Statement"]
    anything = [*policy, {"Effect": "Allow", "Action": "*", "Resource": "*"}]
    thing = f"arn:aws:s3:::{name}/models/x"
    assert allowed(anything, "s3:GetObject", thing, {"aws:SecureTransport": "true", "s3:TlsVersion": "1.3"})
    assert not allowed(anything, "s3:GetObject", thing, {"aws:SecureTransport": "false"})
    assert not allowed(anything, "s3:GetObject", thing, {"aws:SecureTransport": "true", "s3:TlsVersion": "1.1"})


def test_captured_pictures_and_broken_uploads_are_not_kept(moto: Moto) -> None:
    rules = {one["Id"]: one for one in resolved(load(BASE))["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]}
    assert rules["captured-requests"]["Prefix"] == "capture/"
    assert rules["captured-requests"]["ExpirationInDays"] == 30
    assert rules["uploads-that-were-broken-off"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert all("ExpirationInDays" not in rule or rule["Prefix"] == "capture/" for rule in rules.values())
    s3, name = moto.client("s3"), moto.outputs("plain")["BucketName"]
    spelt = [
        {
            "ID": one["Id"],
            "Status": one["Status"],
            "Filter": {"Prefix": one.get("Prefix", "")},
            **({"Expiration": {"Days": one["ExpirationInDays"]}} if "ExpirationInDays" in one else {}),
            **{
                key: one[key] for key in ("AbortIncompleteMultipartUpload", "NoncurrentVersionExpiration") if key in one
            },
        }
        for one in rules.values()
    ]
    s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": spelt})
    assert len(s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]) == 3


def test_images_are_scanned_and_old_ones_go(moto: Moto) -> None:
    wanted = resolved(load(BASE))["Repository"]["Properties"]
    assert wanted["ImageScanningConfiguration"] == {"ScanOnPush": True}
    ecr = moto.client("ecr")
    ecr.put_lifecycle_policy(
        repositoryName="captioner", lifecyclePolicyText=wanted["LifecyclePolicy"]["LifecyclePolicyText"]
    )
    rules = json.loads(ecr.get_lifecycle_policy(repositoryName="captioner")["lifecyclePolicyText"])["rules"]
    assert [rule["selection"]["tagStatus"] for rule in rules] == ["untagged", "any"]


# Least privilege


def policies() -> dict[str, list[dict[str, Any]]]:
    found = resolved(load(BASE), **EVERYTHING)
    kinds = ("AWS::IAM::ManagedPolicy", "AWS::IAM::Policy")
    return {
        name: one["Properties"]["PolicyDocument"]["Statement"] for name, one in found.items() if one["Type"] in kinds
    }


def test_no_role_has_policies_that_this_test_does_not_see() -> None:
    for one in resolved(load(BASE), **EVERYTHING).values():
        if one["Type"] == "AWS::IAM::Role":
            assert not {"Policies", "ManagedPolicyArns"} & set(one["Properties"])


def test_no_action_is_a_star_and_no_resource_but_those_that_must() -> None:
    starred = {}
    for policy, statements in policies().items():
        for one in statements:
            assert one["Effect"] == "Allow"
            assert not {"NotAction", "NotResource"} & set(one)
            assert not [action for action in as_list(one["Action"]) if "*" in action], one["Sid"]
            for resource in as_list(one["Resource"]):
                # One star at the end of a name of ours is a family of names, anything else is everybody's.
                assert resource == "*" or resource.count("*") <= 1, resource
                named = "captioner-" in resource or resource.startswith("<") or ":ec2:" in resource or resource == KEY
                read = resource.endswith(":alarm:*") and one["Action"] == "cloudwatch:DescribeAlarms"
                assert resource == "*" or named or read, resource
            if "*" in as_list(one["Resource"]):
                starred[policy, one["Sid"]] = set(as_list(one["Action"]))
    assert starred == STARS


def arn(service: str, rest: str) -> str:
    return f"arn:aws:{service}:us-east-1:{ACCOUNT}:{rest}"


IN_ROLE = {"iam:PassedToService": "sagemaker.amazonaws.com"}
MODEL, CONFIG = arn("sagemaker", f"model/{ENDPOINT}-m-1"), arn("sagemaker", f"endpoint-config/{ENDPOINT}-c-1")
LIVE, OTHERS = arn("sagemaker", f"endpoint/{ENDPOINT}"), arn("sagemaker", "endpoint/somebody-elses")
ALARM = arn("cloudwatch", f"alarm:{ENDPOINT}-champion-5xx")
OBJECT = "arn:aws:s3:::ours/"
IMAGE = arn("ecr", "repository/captioner")
LOGS = arn("logs", f"log-group:/aws/sagemaker/Endpoints/{ENDPOINT}:log-stream:champion/i-1")
VIA_S3 = {"kms:ViaService": "s3.us-east-1.amazonaws.com"}


@pytest.mark.parametrize(
    ("role", "action", "resource", "context"),
    [
        ("Execution", "s3:GetObject", OBJECT + "models/ab/model.tar.gz", {}),
        ("Execution", "s3:PutObject", OBJECT + f"capture/{ENDPOINT}/champion/x.jsonl", {}),
        ("Execution", "ecr:BatchGetImage", IMAGE, {}),
        ("Execution", "ecr:GetDownloadUrlForLayer", IMAGE, {}),
        ("Execution", "ecr:GetAuthorizationToken", "*", {}),
        ("Execution", "logs:PutLogEvents", LOGS, {}),
        ("Execution", "cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": "/aws/sagemaker/Endpoints"}),
        ("Execution", "cloudwatch:DescribeAlarms", arn("cloudwatch", "alarm:*"), {}),
        ("Deployer", "cloudwatch:DescribeAlarms", arn("cloudwatch", "alarm:*"), {}),
        ("Execution", "kms:Decrypt", KEY, VIA_S3),
        ("Execution", "ec2:CreateNetworkInterface", arn("ec2", "subnet/subnet-1"), {}),
        *(("Deployer", f"sagemaker:{verb}Model", MODEL, {}) for verb in ("Create", "Describe", "Delete")),
        *(("Deployer", f"sagemaker:{verb}EndpointConfig", CONFIG, {}) for verb in ("Create", "Describe", "Delete")),
        *(("Deployer", f"sagemaker:{verb}Endpoint", LIVE, {}) for verb in ("Create", "Describe", "Delete", "Update")),
        ("Deployer", "sagemaker:UpdateEndpointWeightsAndCapacities", LIVE, {}),
        ("Deployer", "sagemaker:InvokeEndpoint", LIVE, {}),
        ("Deployer", "sagemaker:AddTags", MODEL, {}),
        ("Deployer", "sagemaker:ListTags", LIVE, {}),
        ("Deployer", "sagemaker:ListModels", "*", {}),
        ("Deployer", "cloudwatch:PutMetricAlarm", ALARM, {}),
        ("Deployer", "cloudwatch:DeleteAlarms", ALARM, {}),
        ("Deployer", "cloudwatch:GetMetricData", "*", {}),
        ("Deployer", "s3:PutObject", OBJECT + "models/ab/model.tar.gz", {}),
        ("Deployer", "s3:GetObject", OBJECT + "ledger/1.json", {}),
        ("Deployer", "s3:PutObject", OBJECT + f"ledger-underway/{ENDPOINT}.json", {}),
        ("Deployer", "s3:PutObject", OBJECT + "experiments/running.json", {}),
        ("Deployer", "s3:DeleteObject", OBJECT + "capture/x.jsonl", {}),
        ("Deployer", "s3:ListBucket", "arn:aws:s3:::ours", {}),
        ("Deployer", "ecr:PutImage", IMAGE, {}),
        ("Deployer", "iam:PassRole", "EXECUTION", IN_ROLE),
        ("Deployer", "kms:CreateGrant", KEY, {"kms:GrantIsForAWSResource": "true"}),
        ("Router", "sagemaker:InvokeEndpoint", LIVE, {}),
        ("Router", "s3:GetObject", OBJECT + "experiments/running.json", {}),
        ("Router", "sagemaker:DescribeEndpoint", LIVE, {}),
        ("Router", "s3:GetObject", OBJECT + "ledger/captioner-x/00000001.json", {}),
        ("Router", "s3:PutObject", OBJECT + "exposures/captioner-x/2026/01/01/00/a-1.jsonl", {}),
        ("Router", "s3:GetObject", OBJECT + "feedback/captioner-x/2026/01/01/00/a-1.jsonl", {}),
        ("Router", "s3:ListBucket", "arn:aws:s3:::ours", {}),
        ("Deployer", "s3:GetObject", OBJECT + "exposures/captioner-x/2026/01/01/00/a-1.jsonl", {}),
        ("Router", "logs:PutLogEvents", arn("logs", "log-group:/aws/lambda/captioner-router:log-stream:1"), {}),
    ],
)
def test_each_role_may_do_its_work(moto: Moto, role: str, action: str, resource: str, context: dict[str, str]) -> None:
    resource = moto.outputs("base")["ExecutionRoleArn"] if resource == "EXECUTION" else resource
    assert allowed(moto.statements(moto.outputs("base")[f"{role}RoleArn"]), action, resource, context)


@pytest.mark.parametrize(
    ("role", "action", "resource", "context"),
    [
        ("Execution", "s3:PutObject", OBJECT + "models/ab/model.tar.gz", {}),
        ("Execution", "s3:GetObject", OBJECT + "capture/x.jsonl", {}),
        ("Execution", "s3:GetObject", OBJECT + "ledger/1.json", {}),
        ("Execution", "s3:GetObject", "arn:aws:s3:::somebody-elses/models/x", {}),
        ("Execution", "cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": "Billing"}),
        ("Execution", "kms:Decrypt", KEY, {"kms:ViaService": "ec2.us-east-1.amazonaws.com"}),
        ("Execution", "ecr:PutImage", IMAGE, {}),
        ("Execution", "sagemaker:CreateModel", MODEL, {}),
        ("Execution", "sagemaker:InvokeEndpoint", LIVE, {}),
        ("Deployer", "iam:PassRole", "EXECUTION", {"iam:PassedToService": "ec2.amazonaws.com"}),
        ("Deployer", "iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/admin", IN_ROLE),
        ("Deployer", "sagemaker:DeleteEndpoint", OTHERS, {}),
        ("Deployer", "sagemaker:CreateTrainingJob", arn("sagemaker", "training-job/captioner-x"), {}),
        ("Deployer", "s3:DeleteObject", OBJECT + "ledger/1.json", {}),
        ("Deployer", "s3:DeleteObject", OBJECT + "models/ab/model.tar.gz", {}),
        ("Deployer", "s3:PutBucketPolicy", "arn:aws:s3:::ours", {}),
        ("Deployer", "ecr:BatchDeleteImage", IMAGE, {}),
        ("Deployer", "cloudwatch:DeleteAlarms", arn("cloudwatch", "alarm:billing"), {}),
        ("Deployer", "iam:CreateRole", f"arn:aws:iam::{ACCOUNT}:role/x", {}),
        ("Router", "sagemaker:InvokeEndpoint", OTHERS, {}),
        ("Router", "sagemaker:UpdateEndpointWeightsAndCapacities", LIVE, {}),
        ("Router", "s3:GetObject", OBJECT + "models/ab/model.tar.gz", {}),
        ("Router", "s3:PutObject", OBJECT + "experiments/running.json", {}),
        ("Router", "s3:PutObject", OBJECT + "ledger/captioner-x/00000001.json", {}),
        ("Router", "s3:DeleteObject", OBJECT + "exposures/captioner-x/2026/01/01/00/a-1.jsonl", {}),
        ("Deployer", "s3:PutObject", OBJECT + "feedback/captioner-x/2026/01/01/00/a-1.jsonl", {}),
    ],
)
def test_no_role_may_do_more(moto: Moto, role: str, action: str, resource: str, context: dict[str, str]) -> None:
    resource = moto.outputs("base")["ExecutionRoleArn"] if resource == "EXECUTION" else resource
    assert not allowed(moto.statements(moto.outputs("base")[f"{role}RoleArn"]), action, resource, context)


def test_the_deployer_may_call_all_that_the_code_calls() -> None:
    """Operations by their names in the source: methods of a client, paginators, and the steps of a plan."""
    files = [file for part in ("adapters", "release") for file in (SRC / part).rglob("*.py")]
    # MLflow's API has names of its own.
    source = "".join(file.read_text(encoding="utf-8") for file in files if "mlflow" not in file.name)
    granted = {action for one in policies()["DeployerPolicy"] for action in as_list(one["Action"])}
    words = set(re.findall(r"\.(\w+)", source)) | set(re.findall(r'"(\w+)"', source))
    steps = set(re.findall(r'Step\(\s*"(\w+)", "(\w+)"', source))
    called, session = set(), get_session()
    for service in ("sagemaker", "sagemaker-runtime", "cloudwatch"):
        prefix = service.removesuffix("-runtime")
        for operation in session.get_service_model(service).operation_names:
            if xform_name(operation) in words or (prefix, operation) in steps:
                called.add(f"{prefix}:{operation}")
    assert len(called) > 15
    assert called <= granted


def test_without_key_and_vpc_the_roles_lack_both(moto: Moto) -> None:
    role = moto.outputs("plain")["ExecutionRoleArn"]
    assert allowed(moto.statements(role), "ecr:GetAuthorizationToken", "*")
    assert not allowed(moto.statements(role), "kms:Decrypt", KEY, VIA_S3)
    assert not allowed(moto.statements(role), "ec2:CreateNetworkInterface", arn("ec2", "subnet/subnet-1"))


def test_the_roles_reach_what_deploy_makes_and_where_it_puts_it(moto: Moto) -> None:
    def may(role: str, action: str, resource: str) -> bool:
        return allowed(moto.statements(moto.outputs("base")[f"{role}RoleArn"]), action, resource)

    archive = OBJECT + names.archive_key("ab" * 32)
    assert may("Execution", "s3:GetObject", archive)
    assert may("Deployer", "s3:PutObject", archive)
    for endpoint in (ENDPOINT, f"{ENDPOINT}-{'x' * 40}"):  # the long one's names are cut
        captured = OBJECT + names.capture_prefix(endpoint) + "champion/2026/11/25/10/x.jsonl"
        assert may("Execution", "s3:PutObject", captured)
        assert may("Deployer", "s3:DeleteObject", captured)
        experiment = OBJECT + names.experiment_key(endpoint)
        assert may("Router", "s3:GetObject", experiment)
        assert may("Deployer", "s3:PutObject", experiment)
        model, config = names.model_name(endpoint, "ab" * 32, {}), names.config_name(endpoint, {})
        assert may("Deployer", "sagemaker:CreateModel", arn("sagemaker", f"model/{model}"))
        assert may("Deployer", "sagemaker:DeleteEndpointConfig", arn("sagemaker", f"endpoint-config/{config}"))
        alarm = names.alarm_name(endpoint, "champion", "5xx", {})
        assert may("Deployer", "cloudwatch:PutMetricAlarm", arn("cloudwatch", f"alarm:{alarm}"))
    # Neither takes the other's alarms for its own.
    assert not [one for one in alarms() if names.is_alarm_of(ENDPOINT, one["AlarmName"])]
