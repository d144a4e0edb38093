"""DescribeEndpoint's answer: what the store says of an endpoint, and what runs.

While an update runs, the endpoint is described by its old config, and PendingDeploymentSummary has the new one: a
client that compares EndpointConfigName sees the new name only once it is true.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from captioner.emulator.fleet import Fleet, RunningVariant
from captioner.emulator.store import Resource
from captioner.emulator.traffic import Traffic

MAX_REASON = 1024


def describe(endpoint: Resource, traffic: Traffic | None) -> dict[str, Any]:
    """`traffic` has the fleets that answer at the moment, None while none does."""
    live, coming = (traffic.live, traffic.coming) if traffic else (None, None)
    shown, stage, pending = endpoint, endpoint.get("Stage"), endpoint.get("Pending")
    coming_stage = None
    if endpoint.get("Retiring"):
        # The new fleet has taken over and the old one ends.
        shown, live, coming = endpoint["Retiring"], None, live
    elif pending:
        stage, coming_stage = None, stage
    answer = {
        "EndpointName": endpoint["EndpointName"],
        "EndpointArn": endpoint["Arn"],
        "EndpointConfigName": shown["ConfigName"],
        "EndpointStatus": endpoint["Status"],
        **_variants(shown, live, stage),
        "CreationTime": endpoint["CreationTime"],
        "LastModifiedTime": endpoint["LastModifiedTime"],
    }
    if endpoint.get("FailureReason"):
        answer["FailureReason"] = endpoint["FailureReason"][:MAX_REASON]
    if shown.get("DataCapture"):
        answer["DataCaptureConfig"] = _capture(shown["DataCapture"])
    if endpoint.get("LastDeploymentConfig"):
        answer["LastDeploymentConfig"] = endpoint["LastDeploymentConfig"]
    if pending:
        variants = _variants(pending, coming, coming_stage, pending=True)
        summary = {"EndpointConfigName": pending["ConfigName"], "StartTime": pending["StartTime"]}
        answer["PendingDeploymentSummary"] = summary | variants
    return answer


def _variants(shown: Resource, fleet: Fleet | None, stage: Resource | None, pending: bool = False) -> dict[str, Any]:
    production = [_variant(one, fleet.variants if fleet else {}, stage, pending) for one in shown["Variants"]]
    shadow = [_variant(one, fleet.shadows if fleet else {}, stage, pending) for one in shown.get("Shadow") or []]
    return {"ProductionVariants": production} | ({"ShadowProductionVariants": shadow} if shadow else {})


def _variant(
    one: Resource, running_variants: Mapping[str, RunningVariant], stage: Resource | None, pending: bool
) -> dict[str, Any]:
    running = running_variants.get(one["VariantName"])
    image = {"SpecifiedImage": one["Container"]["Image"]}
    if resolved := one.get("Resolved"):
        image |= {"ResolvedImage": resolved["Image"], "ResolutionTime": resolved["Time"]}
    shown = {
        "VariantName": one["VariantName"],
        "DeployedImages": [image],
        "CurrentWeight": running.weight if running else one["Weight"],
        "DesiredWeight": one["Weight"],
    }
    if pending and one.get("InstanceType"):
        shown["InstanceType"] = one["InstanceType"]
    if stage and one["VariantName"] in (stage["Variants"] or [one["VariantName"]]):
        message = {"StatusMessage": stage["StatusMessage"]} if stage["StatusMessage"] else {}
        shown["VariantStatus"] = [{"Status": stage["Status"], "StartTime": stage["StartTime"], **message}]
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
