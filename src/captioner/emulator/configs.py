"""What an endpoint config may ask for, and what an endpoint keeps of it.

Knows AWS's rules between the members of a config (variants, shadow variants, serverless, data capture); their types
and ranges are ``shapes``'s. Knows nothing of processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from captioner.emulator.faults import invalid
from captioner.emulator.store import Resource

DEFAULT_WEIGHT = 1.0
RETAINED = {"Weight": "DesiredWeight", "Instances": "DesiredInstanceCount"}
UNSUPPORTED = ("AsyncInferenceConfig", "ExplainerConfig")
# What DescribeEndpointConfig gives back as it came.
DESCRIBED = (
    "EndpointConfigName",
    "ProductionVariants",
    "ShadowProductionVariants",
    "DataCaptureConfig",
    "KmsKeyId",
    "ExecutionRoleArn",
    "VpcConfig",
    "EnableNetworkIsolation",
    "MetricsConfig",
    "CreationTime",
)


def complete(request: dict[str, Any]) -> dict[str, Any]:
    """The request of CreateEndpointConfig with its defaults. Raises AwsError when its members do not go together."""
    for member in UNSUPPORTED:
        if request.get(member):
            raise invalid(f"The local SageMaker does not have {member}.")
    variants, shadows = request["ProductionVariants"], request.get("ShadowProductionVariants") or []
    names = [one["VariantName"] for one in [*variants, *shadows]]
    if len(set(names)) < len(names):
        raise invalid(f"Variant names must be unique; got: {', '.join(names)}.")
    if shadows and (len(variants), len(shadows)) != (1, 1):
        raise invalid(
            "With ShadowProductionVariants there must be exactly one production variant and one shadow variant; "
            f"got {len(variants)} and {len(shadows)}."
        )
    for variant in [*variants, *shadows]:
        _check_variant(variant)
        # An explicit 0 is a weight; only a missing one has the default.
        variant.setdefault("InitialVariantWeight", DEFAULT_WEIGHT)
    if any(one.get("ServerlessConfig") for one in [*variants, *shadows]):
        _check_serverless(request, variants, shadows)
    return request


def _check_variant(variant: dict[str, Any]) -> None:
    name, serverless = variant["VariantName"], variant.get("ServerlessConfig")
    if not variant.get("ModelName"):
        raise invalid(f"Variant {name} needs a ModelName: the local SageMaker has no inference components.")
    if serverless:
        if variant.get("InstanceType") or variant.get("InitialInstanceCount"):
            raise invalid(f"Variant {name} has a ServerlessConfig: it takes no InstanceType and InitialInstanceCount.")
        if serverless["MemorySizeInMB"] % 1024:
            raise invalid(f"MemorySizeInMB of variant {name} must be a multiple of 1024.")
        if serverless.get("ProvisionedConcurrency", 0) > serverless["MaxConcurrency"]:
            raise invalid(f"ProvisionedConcurrency of variant {name} must be at most its MaxConcurrency.")
    elif not variant.get("InstanceType") or not variant.get("InitialInstanceCount"):
        raise invalid(f"Variant {name} needs InstanceType and InitialInstanceCount, or a ServerlessConfig.")


def _check_serverless(request: dict[str, Any], variants: list[Any], shadows: list[Any]) -> None:
    excluded = {
        "more than one variant": len(variants) > 1,
        "ShadowProductionVariants": bool(shadows),
        "DataCaptureConfig": bool((request.get("DataCaptureConfig") or {}).get("EnableCapture")),
        "VpcConfig": bool(request.get("VpcConfig")),
        "EnableNetworkIsolation": bool(request.get("EnableNetworkIsolation")),
    }
    found = [what for what, there in excluded.items() if there]
    if found:
        raise invalid(f"A serverless variant cannot be used with {', '.join(found)}.")


def described(config: Resource) -> dict[str, Any]:
    """A stored config as DescribeEndpointConfig shows it."""
    shown = {member: config[member] for member in DESCRIBED if config.get(member) is not None}
    return {**shown, "EndpointConfigArn": config["Arn"]}


def deployment(config: Resource, model: Callable[[str], Resource], resolve: Callable[[str], str]) -> Resource:
    """What an endpoint keeps of a config: everything that its instances need, whatever is deleted later.

    ``Variants`` and ``Shadow`` are lists of the same form; ``DataCapture`` is the DataCaptureConfig or None. `resolve`
    gives an image by its digest. Raises AwsError when a model is gone.
    """

    def variant(one: dict[str, Any]) -> Resource:
        return _variant(one, model(one["ModelName"]), resolve)

    return {
        "ConfigName": config["EndpointConfigName"],
        "Variants": [variant(one) for one in config["ProductionVariants"]],
        "Shadow": [variant(one) for one in config.get("ShadowProductionVariants") or []],
        "DataCapture": config.get("DataCaptureConfig"),
    }


def retained(deployment: Resource, live: Resource, excluded: list[str]) -> Resource:
    """RetainAllVariantProperties: `deployment` with the weights and counts of the endpoint `live`, where names stay.

    `excluded` are the VariantPropertyTypes that come from the config all the same. Serverless has no counts to keep.
    """
    kept = [key for key, kind in RETAINED.items() if kind not in excluded]
    old = {one["VariantName"]: one for one in live["Variants"]}

    def keep(one: Resource) -> Resource:
        before = old.get(one["VariantName"])
        if before is None or bool(before.get("Serverless")) != bool(one.get("Serverless")):
            return one
        return {**one, **{key: before[key] for key in kept}}

    return {**deployment, "Variants": [keep(one) for one in deployment["Variants"]]}


def _variant(one: dict[str, Any], model: Resource, resolve: Callable[[str], str]) -> Resource:
    return {
        "VariantName": one["VariantName"],
        "ModelName": one["ModelName"],
        "Container": model["PrimaryContainer"],
        "Resolved": {"Image": resolve(model["PrimaryContainer"]["Image"]), "Time": time.time()},
        "Weight": float(one["InitialVariantWeight"]),
        # What serverless scales to is one process here; its limits are those of its ServerlessConfig.
        "Instances": one.get("InitialInstanceCount") or 1,
        "InstanceType": one.get("InstanceType"),
        "Serverless": one.get("ServerlessConfig"),
        "StartupS": one.get("ContainerStartupHealthCheckTimeoutInSeconds"),
    }
