"""The section ``deploy`` of params.yaml: what the endpoint is made of, and how a change of it is let in.

The limits of sizes and waits are SageMaker's own. What cannot be said here (a canary of one instance, serverless with
two variants) is refused by ``release/rules.py``, which knows what is live.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from captioner.section import Section, Share

InstanceType = Annotated[str, Field(pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+$")]
Seconds = Annotated[int, Field(ge=0, le=3600)]
Strategy = Literal["ab", "canary", "linear", "all-at-once", "shadow"]


class VariantParams(Section):
    """What one variant has of its own; what is left out is the endpoint's."""

    instance_type: InstanceType | None = None
    instances: int | None = Field(default=None, ge=1)


class CanaryParams(Section):
    size_percent: int = Field(default=25, ge=1, le=50, description="of the instances, that take traffic first")
    wait_s: Seconds = 300


class LinearParams(Section):
    step_percent: int = Field(default=25, ge=10, le=50, description="of the instances, that take traffic at each step")
    wait_s: Seconds = 300


class LimitsParams(Section):
    """What a healthy variant keeps to: what alarms watch and what a ramp is guarded by."""

    errors_5xx: Share = Field(default=0.01, description="share of requests that the model answers with 5xx")
    model_errors: Share = Field(default=0.1, description="share that it does not answer with 2xx, bad pictures too")
    latency_ms: float = Field(default=3000.0, gt=0, description="of the model, mean over a minute")


class AlarmParams(Section):
    """CloudWatch alarms on the limits; an update that they fire in is rolled back."""

    minutes: int = Field(default=1, ge=1, le=60, description="in a row, over a limit, before an alarm fires")


class CaptureParams(Section):
    """Requests and answers into S3."""

    sampling_percent: int = Field(default=100, ge=0, le=100)


class ServerlessParams(Section):
    memory_mb: Literal[1024, 2048, 3072, 4096, 5120, 6144] = 4096
    max_concurrency: int = Field(default=4, ge=1, le=200)


class VpcParams(Section):
    subnets: tuple[str, ...] = Field(min_length=1, max_length=16)
    security_groups: tuple[str, ...] = Field(min_length=1, max_length=5)


class RampParams(Section):
    wait_s: int = Field(default=300, ge=0, description="that each step is watched for")
    min_requests: int = Field(default=20, ge=0, description="that a variant must have answered in a step")


class DeployParams(Section):
    instance_type: InstanceType
    instances: int = Field(ge=1)
    challenger_share: Share
    max_wait_s: int = Field(ge=1, default=600)
    strategy: Strategy = "ab"
    champion: VariantParams = VariantParams()
    challenger: VariantParams = VariantParams()
    canary: CanaryParams = CanaryParams()
    linear: LinearParams = LinearParams()
    shadow_share: Share = Field(default=1.0, description="of the champion's requests that a shadow gets a copy of")
    bake_s: Seconds = Field(default=300, description="that the old instances stay after all traffic has moved")
    limits: LimitsParams = LimitsParams()
    alarms: AlarmParams | None = None
    capture: CaptureParams | None = None
    serverless: ServerlessParams | None = None
    vpc: VpcParams | None = None
    kms_key: str | None = Field(default=None, min_length=1, max_length=2048)
    tags: dict[str, str] = Field(default={}, description="of everything that is created")
    ttl_hours: int | None = Field(default=None, ge=1)
    prices: dict[InstanceType, float] = Field(default={}, description="US dollars an hour, before the package's table")
    ramp: RampParams = RampParams()
