"""One thing to do, and those that several plans are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Action = Literal["create", "replace", "update", "weigh", "nothing"]
Service = Literal["here", "s3", "sagemaker", "sagemaker-runtime", "cloudwatch"]


@dataclass(frozen=True)
class Step:
    """One thing to do. `operation` is the API's name for it; `request` what it is asked with.

    `digest` names the artifact, or the model that a variant must answer as.
    """

    service: Service
    operation: str
    subject: str
    request: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""


def weigh(endpoint: str, weights: Mapping[str, float], counts: Mapping[str, int | None]) -> Step:
    """Move weights, and the instance counts that are given; no instance is replaced."""
    desired: list[dict[str, Any]] = [{"VariantName": name, "DesiredWeight": weight} for name, weight in weights.items()]
    for one in desired:
        if count := counts.get(one["VariantName"]):
            one["DesiredInstanceCount"] = count
    said = ", ".join([f"{name} {weight:g}" for name, weight in weights.items()])
    said += "".join(f", {name} {count} instances" for name, count in counts.items() if count)
    request = {"EndpointName": endpoint, "DesiredWeightsAndCapacities": desired}
    return Step("sagemaker", "UpdateEndpointWeightsAndCapacities", said, request)


def arrived(endpoint: str, config: str, weights: Mapping[str, float]) -> Step:
    """Wait, and see that it is this config that is in service: one that was rolled back to is InService too."""
    request = {"EndpointName": endpoint, "until": "InService", "config": config, "weights": dict(weights)}
    return Step("sagemaker", "DescribeEndpoint", f"until {endpoint} is InService on {config}", request)


def still(endpoint: str, config: str) -> Step:
    """Look once more before anything is deleted: somebody else may have changed the endpoint meanwhile."""
    request = {"EndpointName": endpoint, "until": "unchanged", "config": config}
    return Step("sagemaker", "DescribeEndpoint", f"{endpoint} is still on {config}", request)


def delete_endpoint(name: str) -> list[Step]:
    """Delete it, and wait until it is gone."""
    return [
        Step("sagemaker", "DeleteEndpoint", name, {"EndpointName": name}),
        Step("sagemaker", "DescribeEndpoint", f"until {name} is gone", {"EndpointName": name, "until": "gone"}),
    ]
