"""Taking an endpoint down: the steps that leave nothing of it, and what is left when they are done.

Archives are kept: they lie under their digest, other endpoints may serve the same model, and a rollback needs them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from captioner.release import names
from captioner.release.facts import Live
from captioner.release.steps import Step, delete_endpoint


@dataclass(frozen=True)
class Remains:
    """What there is of an endpoint. `captured` counts objects of captured data."""

    endpoint: str | None = None
    configs: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    alarms: tuple[str, ...] = ()
    captured: int = 0

    def lines(self) -> Iterator[str]:
        """What is there, one kind a line."""
        if self.endpoint:
            yield f"endpoint {self.endpoint}"
        for called, found in (("config", self.configs), ("model", self.models), ("alarm", self.alarms)):
            yield from (f"{called} {name}" for name in found)
        if self.captured:
            yield f"{self.captured} objects of captured data"


def remains(name: str, live: Live, captured: int) -> Remains:
    """What `live` holds of the endpoint `name`."""
    there = name if live.status else None
    return Remains(there, tuple(sorted(live.configs)), tuple(sorted(live.models)), tuple(sorted(live.alarms)), captured)


def removal(name: str, live: Live, captured: bool) -> tuple[Step, ...]:
    """The steps that take the endpoint `name` down; its captured data too when it is asked for."""
    steps = delete_endpoint(name) if live.status else []
    for config in sorted(live.configs):
        steps.append(Step("sagemaker", "DeleteEndpointConfig", config, {"EndpointConfigName": config}))
    for model in sorted(live.models):
        steps.append(Step("sagemaker", "DeleteModel", model, {"ModelName": model}))
    if live.alarms:
        alarms = sorted(live.alarms)
        steps.append(Step("cloudwatch", "DeleteAlarms", ", ".join(alarms), {"AlarmNames": alarms}))
    if captured:
        prefix = names.capture_prefix(name)
        steps.append(Step("s3", "DeleteObjects", prefix, {"Bucket": live.place.bucket, "Prefix": prefix}))
    return tuple(steps)
