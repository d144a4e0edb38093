"""The requests that create what an endpoint is made of: models, config, alarms, and how an update is let in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from captioner.deployparams import DeployParams
from captioner.ledger import CHAMPION
from captioner.release.facts import Place, Wanted, WantedVariant
from captioner.release.names import (
    CAPTURE,
    DIGEST,
    OWNER,
    VERSION,
    alarm_name,
    archive_key,
    config_name,
    model_name,
)

LONGEST_UPDATE_S, SHORTEST_UPDATE_S = 28_800, 600  # SageMaker's limits of MaximumExecutionTimeoutInSeconds
Request = dict[str, Any]


def model(wanted: Wanted, variant: WantedVariant, place: Place) -> Request:
    """CreateModel of one variant."""
    definition: Request = {
        "PrimaryContainer": {
            "Image": place.image,
            "ModelDataUrl": f"s3://{place.bucket}/{archive_key(variant.digest)}",
            "Environment": {VERSION: variant.version, DIGEST: variant.digest},
        },
        "ExecutionRoleArn": place.role,
    }
    if vpc := wanted.params.vpc:
        definition["VpcConfig"] = {"Subnets": list(vpc.subnets), "SecurityGroupIds": list(vpc.security_groups)}
    name = model_name(wanted.endpoint, variant.digest, definition)
    return {"ModelName": name, **definition, "Tags": tags(wanted)}


def config(wanted: Wanted, models: Mapping[str, Request], place: Place) -> Request:
    """CreateEndpointConfig; `models` maps a variant's name to its CreateModel."""
    params = wanted.params
    content: Request = {
        "ProductionVariants": [_variant(one, models, params) for one in wanted.variants if not one.shadow]
    }
    if shadows := [_variant(one, models, params) for one in wanted.variants if one.shadow]:
        content["ShadowProductionVariants"] = shadows
    if params.capture:
        content["DataCaptureConfig"] = {
            "EnableCapture": True,
            "InitialSamplingPercentage": params.capture.sampling_percent,
            "DestinationS3Uri": f"s3://{place.bucket}/{CAPTURE}",
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            "CaptureContentTypeHeader": {"JsonContentTypes": ["application/json"]},
            **({"KmsKeyId": params.kms_key} if params.kms_key else {}),
        }
    if params.kms_key:
        content["KmsKeyId"] = params.kms_key
    return {"EndpointConfigName": config_name(wanted.endpoint, content), **content, "Tags": tags(wanted)}


def content(config: Mapping[str, Any]) -> Request:
    """What of a config, as requested or as described, decides what runs; weights and counts can be changed live.

    A shadow's weight is among it: UpdateEndpointWeightsAndCapacities knows production variants only.
    """
    capture = config.get("DataCaptureConfig") or {}
    kept = ("InitialSamplingPercentage", "DestinationS3Uri", "KmsKeyId")
    return {
        "production": {one["VariantName"]: _runs(one) for one in config.get("ProductionVariants") or []},
        "shadow": {
            one["VariantName"]: {**_runs(one), "weight": one.get("InitialVariantWeight")}
            for one in config.get("ShadowProductionVariants") or []
        },
        "capture": {key: capture.get(key) for key in kept} if capture.get("EnableCapture") else None,
        "key": config.get("KmsKeyId"),
    }


def alarms(wanted: Wanted) -> tuple[Request, ...]:
    """PutMetricAlarm, three for each production variant. Missing data is no trouble: a quiet night must not fire."""
    params = wanted.params
    if params.alarms is None:
        return ()
    watched = (
        ("5xx", "Invocation5XXErrors", params.limits.errors_5xx),
        ("model-errors", "InvocationModelErrors", params.limits.model_errors),
        ("latency", "ModelLatency", params.limits.latency_ms * 1000),  # CloudWatch counts microseconds
    )
    found = []
    for variant in (one for one in wanted.variants if not one.shadow):
        for what, metric, limit in watched:
            definition: Request = {
                "AlarmDescription": f"{metric} of {variant.name}, mean of a minute, over {limit:g}",
                "Namespace": "AWS/SageMaker",
                "MetricName": metric,
                "Dimensions": [
                    {"Name": "EndpointName", "Value": wanted.endpoint},
                    {"Name": "VariantName", "Value": variant.name},
                ],
                # Each request counts as 0 or 1, so the mean is the share of failed ones.
                "Statistic": "Average",
                "Period": 60,
                "EvaluationPeriods": params.alarms.minutes,
                "Threshold": limit,
                "ComparisonOperator": "GreaterThanThreshold",
                "TreatMissingData": "notBreaching",
            }
            name = alarm_name(wanted.endpoint, variant.name, what, definition)
            found.append({"AlarmName": name, **definition, "Tags": tags(wanted)})
    return tuple(found)


def routing(params: DeployParams, alarm_names: Sequence[str]) -> Request | None:
    """UpdateEndpoint's DeploymentConfig; None where SageMaker's own way (all at once, no alarm) is meant."""
    if params.strategy in ("ab", "shadow") and not alarm_names:
        return None
    traffic: Request = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}
    if params.strategy == "canary":
        size = {"Type": "CAPACITY_PERCENT", "Value": params.canary.size_percent}
        traffic = {"Type": "CANARY", "CanarySize": size, "WaitIntervalInSeconds": params.canary.wait_s}
    elif params.strategy == "linear":
        size = {"Type": "CAPACITY_PERCENT", "Value": params.linear.step_percent}
        traffic = {"Type": "LINEAR", "LinearStepSize": size, "WaitIntervalInSeconds": params.linear.wait_s}
    longest = min(LONGEST_UPDATE_S, max(SHORTEST_UPDATE_S, rollout_s(params) + params.max_wait_s))
    found: Request = {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": traffic,
            "TerminationWaitInSeconds": params.bake_s,
            "MaximumExecutionTimeoutInSeconds": longest,
        }
    }
    if alarm_names:
        found["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": name} for name in alarm_names]}
    return found


def rollout_s(params: DeployParams) -> int:
    """Seconds that the traffic's shift and the bake take by themselves."""
    waits = {"canary": params.canary.wait_s, "linear": params.linear.wait_s * -(-100 // params.linear.step_percent)}
    return waits.get(params.strategy, 0) + params.bake_s


def tags(wanted: Wanted) -> list[dict[str, str]]:
    """What every resource is tagged with."""
    return as_tags({**wanted.params.tags, OWNER: wanted.endpoint})


def as_tags(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in sorted(values.items())]


def capacity(params: DeployParams, variant: str) -> tuple[str, int]:
    """Instance type and count of a variant; of a serverless one what it is, and its concurrency."""
    if params.serverless:
        return f"serverless {params.serverless.memory_mb} MB", params.serverless.max_concurrency
    own = params.champion if variant == CHAMPION else params.challenger
    return own.instance_type or params.instance_type, own.instances or params.instances


def _variant(variant: WantedVariant, models: Mapping[str, Request], params: DeployParams) -> Request:
    found: Request = {
        "VariantName": variant.name,
        "ModelName": models[variant.name]["ModelName"],
        "InitialVariantWeight": variant.weight,
    }
    if params.serverless:
        shape = {"MemorySizeInMB": params.serverless.memory_mb, "MaxConcurrency": params.serverless.max_concurrency}
        return {**found, "ServerlessConfig": shape}
    kind, count = capacity(params, variant.name)
    return {**found, "InstanceType": kind, "InitialInstanceCount": count}


def _runs(variant: Mapping[str, Any]) -> Request:
    serverless = variant.get("ServerlessConfig") or {}
    return {
        "model": variant.get("ModelName"),
        "type": variant.get("InstanceType"),
        "serverless": {key: serverless.get(key) for key in ("MemorySizeInMB", "MaxConcurrency")}
        if serverless
        else None,
    }
