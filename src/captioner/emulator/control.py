"""SageMaker's control plane: JSON 1.1 requests to models, endpoint configs, endpoints and tags.

A request is checked against botocore's model first, then against what is there. Operations that are not here are
moto's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from captioner.emulator import configs
from captioner.emulator.artifacts import split
from captioner.emulator.describing import describe
from captioner.emulator.endpoints import Endpoints, missing
from captioner.emulator.faults import invalid
from captioner.emulator.guardrails import Rollout, rollout
from captioner.emulator.instance import Site
from captioner.emulator.objects import Objects
from captioner.emulator.paging import page
from captioner.emulator.programs import resolve
from captioner.emulator.shapes import check
from captioner.emulator.store import Resource, Store, arn
from captioner.emulator.watching import Alarms
from captioner.errors import BadData

ENVIRONMENT_ENTRIES, ENVIRONMENT_BYTES, ENVIRONMENT_ENTRY_BYTES = 100, 32 * 1024, 1024


class Control:
    """The operations. Each takes a checked request and returns the answer's JSON."""

    def __init__(self, store: Store, endpoints: Endpoints, objects: Objects, alarms: Alarms, site: Site) -> None:
        self._store, self._endpoints, self._objects = store, endpoints, objects
        self._alarms, self._site = alarms, site
        self.operations: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "CreateModel": self.create_model,
            "DescribeModel": self.describe_model,
            "ListModels": self.list_models,
            "DeleteModel": self.delete_model,
            "CreateEndpointConfig": self.create_config,
            "DescribeEndpointConfig": self.describe_config,
            "ListEndpointConfigs": self.list_configs,
            "DeleteEndpointConfig": self.delete_config,
            "CreateEndpoint": self.create_endpoint,
            "DescribeEndpoint": self.describe_endpoint,
            "ListEndpoints": self.list_endpoints,
            "UpdateEndpoint": self.update_endpoint,
            "UpdateEndpointWeightsAndCapacities": self.update_weights,
            "DeleteEndpoint": self.delete_endpoint,
            "AddTags": self.add_tags,
            "ListTags": self.list_tags,
            "DeleteTags": self.delete_tags,
        }

    def call(self, operation: str, body: bytes) -> bytes:
        """Answer one request. Raises AwsError."""
        try:
            request = json.loads(body or b"{}")
        except ValueError:
            request = None
        answer = self.operations[operation](check(operation, request))
        return json.dumps(answer).encode()

    # Models
    def create_model(self, request: dict[str, Any]) -> dict[str, Any]:
        containers = request.get("Containers") or []
        container = request.get("PrimaryContainer") or (containers[0] if len(containers) == 1 else None)
        if container is None:
            raise invalid("The local SageMaker needs one container: give PrimaryContainer.")
        if not container.get("Image"):
            raise invalid("The container needs an Image: the local SageMaker has no model packages.")
        _check_environment(container.get("Environment") or {})
        url = container.get("ModelDataUrl")
        try:
            if url and self._objects.stat(*split(url)) is None:
                raise invalid(f"Could not find model data at {url}.")
        except BadData as error:
            raise invalid(str(error)) from None
        return self._add("model", request["ModelName"], {**request, "PrimaryContainer": container}, "model")

    def describe_model(self, request: dict[str, Any]) -> dict[str, Any]:
        model = self._get("model", request["ModelName"])
        given = "Containers" if model.get("Containers") else "PrimaryContainer"
        return {
            "ModelName": model["ModelName"],
            given: model[given],
            "ExecutionRoleArn": model.get("ExecutionRoleArn"),
            "EnableNetworkIsolation": model.get("EnableNetworkIsolation", False),
            "CreationTime": model["CreationTime"],
            "ModelArn": model["Arn"],
        } | ({"VpcConfig": model["VpcConfig"]} if model.get("VpcConfig") else {})

    def list_models(self, request: dict[str, Any]) -> dict[str, Any]:
        found, more = _page(self._store.all("model"), "ModelName", request)
        return {"Models": [_summary(one, "Model") for one in found], **more}

    def delete_model(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._remove("model", request["ModelName"])

    # Endpoint configs
    def create_config(self, request: dict[str, Any]) -> dict[str, Any]:
        config = configs.complete(request)
        for variant in [*config["ProductionVariants"], *(config.get("ShadowProductionVariants") or [])]:
            self._get("model", variant["ModelName"])
        return self._add("endpoint-config", config["EndpointConfigName"], config, "endpoint configuration")

    def describe_config(self, request: dict[str, Any]) -> dict[str, Any]:
        return configs.described(self._get("endpoint-config", request["EndpointConfigName"]))

    def list_configs(self, request: dict[str, Any]) -> dict[str, Any]:
        found, more = _page(self._store.all("endpoint-config"), "EndpointConfigName", request)
        return {"EndpointConfigs": [_summary(one, "EndpointConfig") for one in found], **more}

    def delete_config(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._remove("endpoint-config", request["EndpointConfigName"])

    # Endpoints
    def create_endpoint(self, request: dict[str, Any]) -> dict[str, Any]:
        name, deployment = request["EndpointName"], self._deployment(request["EndpointConfigName"])
        guardrails = request.get("DeploymentConfig")
        if guardrails:
            # Kept for later updates with RetainDeploymentConfig; it must fit what it would be used on.
            rollout(guardrails, deployment["Variants"], deployment["Variants"], self._alarms.__contains__)
        kept = {"LastDeploymentConfig": guardrails} if guardrails else {}
        self._endpoints.create(name, deployment, Tags=request.get("Tags") or [], **kept)
        return {"EndpointArn": arn("endpoint", name)}

    def describe_endpoint(self, request: dict[str, Any]) -> dict[str, Any]:
        endpoint = self._store.get("endpoint", request["EndpointName"])
        if endpoint is None:
            raise missing(request["EndpointName"])
        return describe(endpoint, self._endpoints.traffic(request["EndpointName"]))

    def list_endpoints(self, request: dict[str, Any]) -> dict[str, Any]:
        wanted = request.get("StatusEquals")
        all_ = [one for one in self._store.all("endpoint") if wanted in (None, one["Status"])]
        found, more = _page(all_, "EndpointName", request)
        times = [{"LastModifiedTime": one["LastModifiedTime"], "EndpointStatus": one["Status"]} for one in found]
        return {"Endpoints": [_summary(one, "Endpoint") | two for one, two in zip(found, times, strict=True)], **more}

    def update_endpoint(self, request: dict[str, Any]) -> dict[str, Any]:
        given, reuse = request.get("DeploymentConfig"), bool(request.get("RetainDeploymentConfig"))
        if given and reuse:
            raise invalid("Give either DeploymentConfig or RetainDeploymentConfig, not both.")
        excluded = [one["VariantPropertyType"] for one in request.get("ExcludeRetainedVariantProperties") or []]
        wanted = self._deployment(request["EndpointConfigName"])

        def plan(endpoint: Resource) -> tuple[Resource, Rollout]:
            # AWS reads both configs: without the old one an endpoint can only be deleted.
            self._get("endpoint-config", endpoint["ConfigName"])
            retain = bool(request.get("RetainAllVariantProperties"))
            deployment = configs.retained(wanted, endpoint, excluded) if retain else wanted
            guardrails = endpoint.get("LastDeploymentConfig") if reuse else given
            steps = rollout(guardrails, endpoint["Variants"], deployment["Variants"], self._alarms.__contains__)
            endpoint |= {"LastDeploymentConfig": guardrails} if guardrails else {}
            return deployment, steps

        self._endpoints.update(request["EndpointName"], plan)
        return {"EndpointArn": arn("endpoint", request["EndpointName"])}

    def update_weights(self, request: dict[str, Any]) -> dict[str, Any]:
        desired = {
            one["VariantName"]: (one.get("DesiredWeight"), one.get("DesiredInstanceCount"))
            for one in request["DesiredWeightsAndCapacities"]
        }
        endpoint = self._store.get("endpoint", request["EndpointName"])
        if endpoint:
            self._get("endpoint-config", endpoint["ConfigName"])
        self._endpoints.weigh(request["EndpointName"], desired)
        return {"EndpointArn": arn("endpoint", request["EndpointName"])}

    def delete_endpoint(self, request: dict[str, Any]) -> dict[str, Any]:
        self._endpoints.delete(request["EndpointName"])
        return {}

    # Tags
    def add_tags(self, request: dict[str, Any]) -> dict[str, Any]:
        def edit(resource: Resource) -> None:
            new = {one["Key"]: one for one in [*(resource.get("Tags") or []), *request["Tags"]]}
            resource["Tags"] = list(new.values())

        return {"Tags": self._tagged(request["ResourceArn"], edit)}

    def list_tags(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"Tags": self._tagged(request["ResourceArn"], None)}

    def delete_tags(self, request: dict[str, Any]) -> dict[str, Any]:
        def edit(resource: Resource) -> None:
            resource["Tags"] = [one for one in resource.get("Tags") or [] if one["Key"] not in request["TagKeys"]]

        self._tagged(request["ResourceArn"], edit)
        return {}

    def _tagged(self, resource_arn: str, edit: Callable[[Resource], None] | None) -> list[dict[str, str]]:
        found = self._store.by_arn(resource_arn)
        resource = (self._store.change(*found, edit) if edit else self._store.get(*found)) if found else None
        if resource is None:
            raise invalid(f"Could not find a resource with the ARN {resource_arn}.")
        tags: list[dict[str, str]] = resource.get("Tags") or []
        return tags

    def _deployment(self, config: str) -> Resource:
        def resolved(image: str) -> str:
            return resolve(image, self._site.local_exec, self._site.programs)

        return configs.deployment(self._get("endpoint-config", config), lambda name: self._get("model", name), resolved)

    def _get(self, kind: str, name: str) -> Resource:
        found = self._store.get(kind, name)
        if found is None:
            raise invalid(f'Could not find {kind.replace("-", " ")} "{arn(kind, name)}".')
        return found

    def _add(self, kind: str, name: str, value: Resource, called: str) -> dict[str, Any]:
        if not self._store.add(kind, name, value):
            raise invalid(f'Cannot create already existing {called} "{arn(kind, name)}".')
        return {"ModelArn" if kind == "model" else "EndpointConfigArn": arn(kind, name)}

    def _remove(self, kind: str, name: str) -> dict[str, Any]:
        if not self._store.remove(kind, name):
            raise invalid(f'Could not find {kind.replace("-", " ")} "{arn(kind, name)}".')
        return {}


def _summary(resource: Resource, noun: str) -> dict[str, Any]:
    return {
        f"{noun}Name": resource[f"{noun}Name"],
        f"{noun}Arn": resource["Arn"],
        "CreationTime": resource["CreationTime"],
    }


def _page(resources: list[Resource], key: str, request: dict[str, Any]) -> tuple[list[Resource], dict[str, Any]]:
    """The page of `resources` that a List request asks for, and its NextToken."""
    wanted = request.get("NameContains", "").lower()
    found = [one for one in resources if wanted in one[key].lower() and _within(one, request)]
    sort = {"Name": key, "Status": "Status"}.get(request.get("SortBy", ""))
    if sort:
        found.sort(key=lambda one: str(one[sort]))
        if request.get("SortOrder") != "Ascending":
            found.reverse()
    elif request.get("SortOrder") == "Ascending":
        found.reverse()
    return page(found, request, int(request.get("MaxResults") or 10), invalid("The NextToken is not one of ours."))


def _within(resource: Resource, request: dict[str, Any]) -> bool:
    """Was it made and changed between the times that a List request names?"""
    return all(
        request.get(f"{time}After", -math.inf) < resource[time] < request.get(f"{time}Before", math.inf)
        for time in ("CreationTime", "LastModifiedTime")
    )


def _check_environment(environment: dict[str, str]) -> None:
    longest = max((len(part.encode()) for entry in environment.items() for part in entry), default=0)
    if longest > ENVIRONMENT_ENTRY_BYTES:
        raise invalid(
            f"The container's Environment has a key or value of {longest} bytes; "
            f"the limit is {ENVIRONMENT_ENTRY_BYTES}."
        )
    size = sum(len(key.encode()) + len(value.encode()) for key, value in environment.items())
    if len(environment) > ENVIRONMENT_ENTRIES or size > ENVIRONMENT_BYTES:
        raise invalid(
            f"The container's Environment has {len(environment)} entries and {size} bytes; "
            f"the limits are {ENVIRONMENT_ENTRIES} and {ENVIRONMENT_BYTES}."
        )
