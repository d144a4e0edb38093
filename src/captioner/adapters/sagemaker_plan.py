"""What SageMaker should hold for an endpoint, as the requests that would create it. No calls, no clock.

Models and configs are named by what they are: equal content has an equal name, so a plan that is in place is
recognised, and what is ours and unused can be collected.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from captioner.adapters.aws import Account
from captioner.ports import VariantSpec

VERSION, DIGEST = "CAPTIONER_MODEL_VERSION", "CAPTIONER_MODEL_DIGEST"
LONGEST = 36  # of an endpoint's name in a model's name, which has 63 characters


@dataclass(frozen=True)
class Plan:
    """Requests for CreateModel (one per distinct model) and CreateEndpointConfig."""

    models: tuple[Mapping[str, Any], ...]
    config: Mapping[str, Any]

    @property
    def config_name(self) -> str:
        return str(self.config["EndpointConfigName"])

    @property
    def weights(self) -> dict[str, float]:
        return {one["VariantName"]: one["InitialVariantWeight"] for one in self.config["ProductionVariants"]}


def plan(
    endpoint: str,
    variants: Sequence[VariantSpec],
    urls: Mapping[str, str],
    where: Account,
    instance_type: str,
    instances: int,
) -> Plan:
    """The plan for `variants`; `urls` maps a digest to its archive in S3."""
    models = {one.name: _model(endpoint, one, urls[one.digest], where) for one in variants}
    production = [
        {
            "VariantName": one.name,
            "ModelName": models[one.name]["ModelName"],
            "InstanceType": instance_type,
            "InitialInstanceCount": instances,
            "InitialVariantWeight": one.weight,
        }
        for one in variants
    ]
    name = f"{base(endpoint)}-c-{_hash([endpoint, production])[:12]}"
    distinct = {model["ModelName"]: model for model in models.values()}
    return Plan(tuple(distinct.values()), {"EndpointConfigName": name, "ProductionVariants": production})


def fleet(production: Sequence[Mapping[str, Any]]) -> set[tuple[Any, ...]]:
    """What of a config's variants decides which processes run: all but the weights."""
    keys = ("VariantName", "ModelName", "InstanceType", "InitialInstanceCount")
    return {tuple(one.get(key) for key in keys) for one in production}


def base(endpoint: str) -> str:
    """How the names of what belongs to `endpoint` start."""
    return endpoint if len(endpoint) <= LONGEST else f"{endpoint[: LONGEST - 9].rstrip('-')}-{_hash(endpoint)[:8]}"


def is_model_of(endpoint: str, name: str) -> bool:
    return re.fullmatch(rf"{re.escape(base(endpoint))}-m-[0-9a-f]{{12}}-[0-9a-f]{{8}}", name) is not None


def is_config_of(endpoint: str, name: str) -> bool:
    return re.fullmatch(rf"{re.escape(base(endpoint))}-c-[0-9a-f]{{12}}", name) is not None


def _model(endpoint: str, variant: VariantSpec, url: str, where: Account) -> dict[str, Any]:
    definition = {
        "PrimaryContainer": {
            "Image": where.image,
            "ModelDataUrl": url,
            "Environment": {VERSION: variant.model_version, DIGEST: variant.digest},
        },
        "ExecutionRoleArn": where.role,
    }
    return {"ModelName": f"{base(endpoint)}-m-{variant.digest[:12]}-{_hash([endpoint, definition])[:8]}", **definition}


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
