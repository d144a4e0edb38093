"""DeploymentConfig: what an update asks for, checked as AWS does, and turned into steps of traffic.

Traffic moves with capacity: a step turns whole instances of the new fleet on, at least one a variant, and its share of
the traffic is theirs of the capacity. Between two steps lies WaitIntervalInSeconds, after the last one
TerminationWaitInSeconds: in both the alarms are watched. Pure: moves nothing, waits for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from captioner.emulator.faults import AwsError, invalid
from captioner.emulator.store import Resource

SIZES = {"CANARY": "CanarySize", "LINEAR": "LinearStepSize"}
MOST = 50  # per cent of a variant's instances, for a canary and for a linear step
LEAST = {"CANARY": 0, "LINEAR": 10}


@dataclass(frozen=True)
class Step:
    """How much of the new fleet answers: instances by variant, and the share of the traffic that they are given."""

    active: Mapping[str, int]
    share: float


@dataclass(frozen=True)
class Rollout:
    """An update's steps, and the seconds and alarms around them. The default is all at once, unwatched."""

    steps: tuple[Step, ...]
    interval_s: int = 0
    termination_s: int = 0
    timeout_s: int | None = None
    alarms: tuple[str, ...] = ()


def rollout(
    config: Mapping[str, Any] | None, old: Sequence[Resource], new: Sequence[Resource], is_alarm: Callable[[str], bool]
) -> Rollout:
    """The steps from the variants `old` to the variants `new`. Raises AwsError for what AWS would refuse."""
    config = config or {}
    alarms = tuple(one["AlarmName"] for one in (config.get("AutoRollbackConfiguration") or {}).get("Alarms") or [])
    unknown = [name for name in alarms if not is_alarm(name)]
    if unknown:
        raise invalid(
            f"There is no CloudWatch alarm {', '.join(unknown)}: AutoRollbackConfiguration needs existing ones."
        )
    policy = config.get("BlueGreenUpdatePolicy")
    if config.get("RollingUpdatePolicy"):
        raise _rolling(bool(policy), new)
    if not policy:
        return Rollout((_all(new),), alarms=alarms)
    _check_names(old, new)
    routing = policy["TrafficRoutingConfiguration"]
    steps = _steps(routing, new)
    interval, termination = routing["WaitIntervalInSeconds"], policy.get("TerminationWaitInSeconds") or 0
    timeout = policy.get("MaximumExecutionTimeoutInSeconds")
    waits = max(interval, interval * (len(steps) - 1)) + termination
    if timeout is not None and timeout <= waits:
        raise invalid(
            f"MaximumExecutionTimeoutInSeconds ({timeout}) must be larger than the total waiting time of "
            f"WaitIntervalInSeconds and TerminationWaitInSeconds ({waits} for {len(steps)} steps)."
        )
    return Rollout(steps, interval, termination, timeout, alarms)


def _rolling(both: bool, new: Sequence[Resource]) -> AwsError:
    if both:
        return invalid("Only one update policy may be given: BlueGreenUpdatePolicy or RollingUpdatePolicy.")
    if len(new) > 1:
        return invalid("RollingUpdatePolicy cannot be used on an endpoint with several variants.")
    if any(one.get("Serverless") for one in new):
        return invalid("RollingUpdatePolicy cannot be used on a serverless endpoint.")
    return invalid("The local SageMaker does not have RollingUpdatePolicy; use a BlueGreenUpdatePolicy.")


def _check_names(old: Sequence[Resource], new: Sequence[Resource]) -> None:
    before, after = (sorted(one["VariantName"] for one in some) for some in (old, new))
    if before != after:
        raise invalid(
            "With a BlueGreenUpdatePolicy the new endpoint config must have the same variant names as the old one; "
            f"they are {', '.join(before)} and would be {', '.join(after)}."
        )


def _steps(routing: Mapping[str, Any], new: Sequence[Resource]) -> tuple[Step, ...]:
    kind = routing["Type"]
    for other, member in SIZES.items():
        if bool(routing.get(member)) != (other == kind):
            must = "needs" if other == kind else "cannot have"
            raise invalid(f"TrafficRoutingConfiguration of the type {kind} {must} {member}.")
    if kind == "ALL_AT_ONCE":
        return (_all(new),)
    sizes = {one["VariantName"]: _size(kind, routing[SIZES[kind]], one) for one in new}
    if kind == "CANARY":
        return (_step(new, sizes, 1), _all(new))
    count = max(-(-_capacity(one) // sizes[one["VariantName"]]) for one in new)
    return (*(_step(new, sizes, number) for number in range(1, count)), _all(new))


def _size(kind: str, size: Mapping[str, Any], variant: Resource) -> int:
    """How much of the variant's capacity one step turns on. Raises AwsError when that is too much or too little."""
    name, value, capacity = variant["VariantName"], size["Value"], _capacity(variant)
    if size["Type"] == "INSTANCE_COUNT":
        if variant.get("Serverless"):
            raise invalid(f"Variant {name} is serverless and has no instances: give {SIZES[kind]} as CAPACITY_PERCENT.")
        found, percent = value, 100 * value / capacity
    else:
        found, percent = max(1, capacity * value // 100), max(value, 100 / capacity)
    if not LEAST[kind] <= percent <= MOST or (size["Type"] == "CAPACITY_PERCENT" and value < LEAST[kind]):
        limits = f"at most {MOST}" if kind == "CANARY" else f"between {LEAST[kind]} and {MOST}"
        raise invalid(
            f"{SIZES[kind]} must be {limits} percent of a variant's instances; of variant {name}'s {capacity} it would "
            f"take {found}, which are {percent:.0f} percent."
        )
    return int(found)


def _capacity(variant: Resource) -> int:
    # What serverless scales to has no instances to count: its capacity is shared by the percent.
    return 100 if variant.get("Serverless") else int(variant["Instances"])


def _step(new: Sequence[Resource], sizes: Mapping[str, int], number: int) -> Step:
    parts = {one["VariantName"]: min(1.0, sizes[one["VariantName"]] * number / _capacity(one)) for one in new}
    total = sum(one["Weight"] for one in new)
    share = sum(parts[one["VariantName"]] * (one["Weight"] / total if total else 1 / len(new)) for one in new)
    active = {
        one["VariantName"]: one["Instances"]
        if one.get("Serverless")
        else min(one["Instances"], sizes[one["VariantName"]] * number)
        for one in new
    }
    return Step(active, share)


def _all(new: Sequence[Resource]) -> Step:
    return Step({one["VariantName"]: one["Instances"] for one in new}, 1.0)
