"""DescribeEndpoint's answer: what the store says of an endpoint, and what runs."""

from __future__ import annotations

from typing import Any

from captioner.emulator.fleet import Fleet, RunningVariant
from captioner.emulator.store import Resource

MAX_REASON = 1024


def describe(endpoint: Resource, fleet: Fleet | None) -> dict[str, Any]:
    """`fleet` is what answers at the moment, None while nothing does."""
    answer = {
        "EndpointName": endpoint["EndpointName"],
        "EndpointArn": endpoint["Arn"],
        "EndpointConfigName": endpoint["ConfigName"],
        "EndpointStatus": endpoint["Status"],
        "ProductionVariants": [_variant(one, fleet.variants if fleet else {}) for one in endpoint["Variants"]],
        "CreationTime": endpoint["CreationTime"],
        "LastModifiedTime": endpoint["LastModifiedTime"],
    }
    if endpoint.get("FailureReason"):
        answer["FailureReason"] = endpoint["FailureReason"][:MAX_REASON]
    if endpoint.get("Shadow"):
        answer["ShadowProductionVariants"] = [
            _variant(one, fleet.shadows if fleet else {}) for one in endpoint["Shadow"]
        ]
    if endpoint.get("DataCapture"):
        answer["DataCaptureConfig"] = _capture(endpoint["DataCapture"])
    return answer


def _variant(one: Resource, running_variants: dict[str, RunningVariant]) -> dict[str, Any]:
    running = running_variants.get(one["VariantName"])
    shown = {
        "VariantName": one["VariantName"],
        "DeployedImages": [{"SpecifiedImage": one["Container"]["Image"]}],
        "CurrentWeight": running.weight if running else one["Weight"],
        "DesiredWeight": one["Weight"],
    }
    if one.get("Serverless"):
        return {**shown, "CurrentServerlessConfig": one["Serverless"], "DesiredServerlessConfig": one["Serverless"]}
    counts = {
        "CurrentInstanceCount": len(running.instances) if running else 0,
        "DesiredInstanceCount": one["Instances"],
    }
    return shown | counts


def _capture(config: dict[str, Any]) -> dict[str, Any]:
    enabled = bool(config.get("EnableCapture"))
    return {
        "EnableCapture": enabled,
        "CaptureStatus": "Started" if enabled else "Stopped",
        "CurrentSamplingPercentage": config["InitialSamplingPercentage"],
        "DestinationS3Uri": config["DestinationS3Uri"],
        "KmsKeyId": config.get("KmsKeyId", ""),
    }
