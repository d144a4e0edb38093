"""What SageMaker and what stands beside it hold of an endpoint: only calls that read.

Whatever was deleted under our feet is missing in the answer and is no error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from captioner.adapters.aws import Account, code, message
from captioner.release import names
from captioner.release.facts import Live, LiveVariant, Place

Clients = Callable[[str], Any]  # service → boto3 client


def place(where: Account) -> Place:
    """The account as plans know it."""
    return Place(where.called, where.url is not None, where.role, where.image, where.bucket)


def describe(clients: Clients, name: str) -> dict[str, Any] | None:
    """DescribeEndpoint, None when there is none."""
    found: dict[str, Any] | None = _unless_missing(clients("sagemaker").describe_endpoint, EndpointName=name)
    return found


def live_of(clients: Clients, where: Account, name: str, digests: Sequence[str]) -> Live:
    """Everything of the endpoint `name`, and which of `digests` the bucket holds."""
    found = describe(clients, name) or {}
    settings = _config(clients, found["EndpointConfigName"]) if found else {}
    bucket, archives = _stored(clients, where, digests)
    alarms = _alarms(clients, name)
    return Live(
        place=place(where),
        status=found.get("EndpointStatus"),
        arn=found.get("EndpointArn", ""),
        failure=found.get("FailureReason"),
        config=found.get("EndpointConfigName"),
        settings=settings,
        variants=variants_of(clients, found, settings),
        tags=_tags(clients, found["EndpointArn"]) if found else {},
        models=frozenset(_models(clients, name)),
        configs=frozenset(_configs(clients, name)),
        alarms=frozenset(alarms),
        alarming=frozenset(one for one, state in alarms.items() if state == "ALARM"),
        archives=archives,
        bucket=bucket,
    )


def variants_of(clients: Clients, found: dict[str, Any], settings: dict[str, Any]) -> tuple[LiveVariant, ...]:
    """Production variants, then shadows, as DescribeEndpoint (`found`) and the config (`settings`) have them."""
    variants = []
    for key, shadow in (("ProductionVariants", False), ("ShadowProductionVariants", True)):
        chosen = {one["VariantName"]: one for one in settings.get(key) or []}
        for one in found.get(key) or []:
            config = chosen.get(one["VariantName"], {})
            model = config.get("ModelName", "")
            environment = _environment(clients, model)
            serverless = config.get("ServerlessConfig")
            variants.append(
                LiveVariant(
                    name=one["VariantName"],
                    weight=one.get("DesiredWeight", one.get("CurrentWeight", 0.0)),
                    instances=None if serverless else one.get("DesiredInstanceCount", one.get("CurrentInstanceCount")),
                    instance_type=_called(config, serverless),
                    model=model,
                    version=environment.get(names.VERSION, ""),
                    digest=environment.get(names.DIGEST, ""),
                    shadow=shadow,
                )
            )
    return tuple(variants)


def config_of(clients: Clients, found: dict[str, Any]) -> dict[str, Any]:
    """The live config; empty when somebody deleted it under the endpoint."""
    return _config(clients, found["EndpointConfigName"])


def captured(clients: Clients, where: Account, name: str) -> int:
    """How many objects of captured data there are."""
    pages = clients("s3").get_paginator("list_objects_v2")
    found = pages.paginate(Bucket=where.bucket, Prefix=names.capture_prefix(name))
    return int(_unless_missing(lambda: sum(page.get("KeyCount", 0) for page in found)) or 0)


def _called(config: dict[str, Any], serverless: dict[str, Any] | None) -> str:
    if serverless:
        return f"serverless {serverless.get('MemorySizeInMB')} MB"
    return str(config.get("InstanceType", ""))


def _config(clients: Clients, name: str) -> dict[str, Any]:
    found = _unless_missing(clients("sagemaker").describe_endpoint_config, EndpointConfigName=name) or {}
    return {key: value for key, value in found.items() if key != "ResponseMetadata"}


def _environment(clients: Clients, model: str) -> dict[str, str]:
    found = _unless_missing(clients("sagemaker").describe_model, ModelName=model) if model else None
    environment: dict[str, str] = (found or {}).get("PrimaryContainer", {}).get("Environment", {})
    return environment


def _tags(clients: Clients, arn: str) -> dict[str, str]:
    found = _unless_missing(
        lambda: clients("sagemaker").get_paginator("list_tags").paginate(ResourceArn=arn).build_full_result()
    )
    return {one["Key"]: one["Value"] for one in (found or {}).get("Tags", ())}


def _models(clients: Clients, name: str) -> list[str]:
    pages = clients("sagemaker").get_paginator("list_models").paginate(NameContains=f"{names.base(name)}-m-")
    found = [one["ModelName"] for page in pages for one in page["Models"]]
    return [model for model in found if names.is_model_of(name, model)]


def _configs(clients: Clients, name: str) -> list[str]:
    pages = clients("sagemaker").get_paginator("list_endpoint_configs").paginate(NameContains=f"{names.base(name)}-c-")
    found = [one["EndpointConfigName"] for page in pages for one in page["EndpointConfigs"]]
    return [config for config in found if names.is_config_of(name, config)]


def _alarms(clients: Clients, name: str) -> dict[str, str]:
    """Alarm → its state."""
    pages = clients("cloudwatch").get_paginator("describe_alarms").paginate(AlarmNamePrefix=f"{names.base(name)}-a-")
    found = {one["AlarmName"]: one["StateValue"] for page in pages for one in page.get("MetricAlarms") or ()}
    return {alarm: state for alarm, state in found.items() if names.is_alarm_of(name, alarm)}


def _stored(clients: Clients, where: Account, digests: Sequence[str]) -> tuple[bool, frozenset[str]]:
    """Whether the bucket is there, and which digests have their artifact in it."""
    if _unless_missing(clients("s3").head_bucket, Bucket=where.bucket) is None:
        return False, frozenset()
    head = clients("s3").head_object
    found = [one for one in digests if _unless_missing(head, Bucket=where.bucket, Key=names.archive_key(one))]
    return True, frozenset(found)


def _unless_missing(call: Callable[..., Any], **request: Any) -> Any:
    """What `call` answers, None when what it asks for is not there."""
    import botocore.exceptions

    try:
        return call(**request)
    except botocore.exceptions.ClientError as error:
        if missing(error):
            return None
        raise


def missing(error: Any) -> bool:
    """Does AWS say that there is no such thing?"""
    absent = ("404", "NotFound", "NoSuchKey", "NoSuchBucket", "ResourceNotFound", "ResourceNotFoundException")
    return code(error) in absent or (code(error) == "ValidationException" and "Could not find" in message(error))
