"""moto's own server with stacks of ours in it. (The local stack's S3 is another one, which knows no stacks.)"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from captioner.adapters.aws import LOCAL_BUCKET, LOCAL_REGION, LOCAL_ROLE, Account


class Moto:
    """What stands in the server at `url`, asked by each service's own API."""

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
