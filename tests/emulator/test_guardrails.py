"""DeploymentConfig as steps of traffic, and the refusals of AWS."""

import pytest

from captioner.emulator.faults import AwsError
from captioner.emulator.guardrails import Rollout, rollout


def variant(name: str = "champion", instances: int = 4, weight: float = 1.0, serverless: bool = False) -> dict:
    return {"VariantName": name, "Instances": instances, "Weight": weight, "Serverless": serverless or None}


def policy(kind: str, size: dict | None = None, wait: int = 60, **more: int) -> dict:
    sizes = {{"CANARY": "CanarySize", "LINEAR": "LinearStepSize"}.get(kind, "CanarySize"): size} if size else {}
    routing = {"Type": kind, "WaitIntervalInSeconds": wait, **sizes}
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing, **more}}


def percent(value: int) -> dict:
    return {"Type": "CAPACITY_PERCENT", "Value": value}


def count(value: int) -> dict:
    return {"Type": "INSTANCE_COUNT", "Value": value}


def planned(config: dict | None, *new: dict, old: tuple[dict, ...] = ()) -> Rollout:
    return rollout(config, old or new, new, {"high-errors"}.__contains__)


def refused(config: dict, *new: dict, old: tuple[dict, ...] = ()) -> str:
    with pytest.raises(AwsError) as error:
        planned(config, *(new or (variant(),)), old=old)
    assert error.value.code == "ValidationException"
    return error.value.message


def shares(found: Rollout) -> list[float]:
    return [round(step.share, 4) for step in found.steps]


def test_without_a_config_all_moves_at_once_and_names_may_change() -> None:
    found = planned(None, variant("new"), old=(variant("old"),))
    assert (shares(found), found.alarms, found.interval_s, found.termination_s) == ([1.0], (), 0, 0)


@pytest.mark.parametrize(
    ("size", "instances", "share", "active"),
    [
        (percent(25), 4, 0.25, 1),
        (percent(50), 4, 0.5, 2),
        (count(1), 2, 0.5, 1),
        (count(2), 5, 0.4, 2),
        (percent(30), 4, 0.25, 1),  # whole instances: 1.2 are 1
        (percent(10), 4, 0.25, 1),  # and at least one
    ],
)
def test_a_canary_is_whole_instances(size: dict, instances: int, share: float, active: int) -> None:
    found = planned(policy("CANARY", size), variant(instances=instances))
    assert shares(found) == [share, 1.0]
    assert [step.active["champion"] for step in found.steps] == [active, instances]


@pytest.mark.parametrize(
    ("size", "instances", "steps"),
    [
        (percent(50), 2, [0.5, 1.0]),
        (percent(20), 5, [0.2, 0.4, 0.6, 0.8, 1.0]),
        (percent(33), 3, [0.3333, 0.6667, 1.0]),
        (percent(50), 3, [0.3333, 0.6667, 1.0]),
        (count(2), 5, [0.4, 0.8, 1.0]),
    ],
)
def test_linear_steps_end_at_everything(size: dict, instances: int, steps: list[float]) -> None:
    assert shares(planned(policy("LINEAR", size), variant(instances=instances))) == steps


def test_variants_move_together_and_the_share_is_weighted() -> None:
    found = planned(policy("CANARY", count(1)), variant("a", 2, 0.9), variant("b", 4, 0.1))
    assert shares(found) == [0.475, 1.0]
    assert found.steps[0].active == {"a": 1, "b": 1}
    found = planned(policy("LINEAR", count(1)), variant("a", 2, 0.9), variant("b", 4, 0.1))
    assert [step.active for step in found.steps] == [{"a": n, "b": m} for n, m in ((1, 1), (2, 2), (2, 3), (2, 4))]


def test_what_is_serverless_moves_by_the_percent() -> None:
    found = planned(policy("CANARY", percent(10)), variant(instances=1, serverless=True))
    assert shares(found) == [0.1, 1.0]
    assert "has no instances" in refused(policy("CANARY", count(1)), variant(instances=1, serverless=True))


def test_one_instance_cannot_be_split() -> None:
    for kind in ("CANARY", "LINEAR"):
        for size in (percent(10), percent(50), count(1)):
            assert "100 percent" in refused(policy(kind, size), variant(instances=1))


def test_sizes_have_limits() -> None:
    assert "at most 50" in refused(policy("CANARY", percent(51)))
    assert "at most 50" in refused(policy("CANARY", count(3)))
    assert "between 10 and 50" in refused(policy("LINEAR", percent(9)))
    assert "between 10 and 50" in refused(policy("LINEAR", count(1)), variant(instances=11))
    assert "variant b" in refused(policy("CANARY", count(2)), variant("a", 4), variant("b", 2))


def test_each_type_has_its_own_size() -> None:
    assert "needs CanarySize" in refused(policy("CANARY"))
    assert "needs LinearStepSize" in refused(policy("LINEAR"))
    assert "cannot have CanarySize" in refused(policy("ALL_AT_ONCE", percent(10)))


def test_the_timeout_is_longer_than_all_waits() -> None:
    fits = policy("LINEAR", percent(25), wait=300, TerminationWaitInSeconds=300, MaximumExecutionTimeoutInSeconds=1201)
    assert planned(fits, variant()).timeout_s == 1201
    short = policy("LINEAR", percent(25), wait=300, TerminationWaitInSeconds=300, MaximumExecutionTimeoutInSeconds=1200)
    assert "must be larger than the total waiting time" in refused(short)
    # What the developer guide shows as an example of each type is accepted.
    for kind, size, wait, limit in (("CANARY", percent(30), 600, 1800), ("LINEAR", percent(20), 300, 3600)):
        shown = policy(kind, size, wait, TerminationWaitInSeconds=wait, MaximumExecutionTimeoutInSeconds=limit)
        assert planned(shown, variant(instances=5)).timeout_s == limit


def test_names_of_variants_stay_with_a_policy() -> None:
    assert "same variant names" in refused(policy("ALL_AT_ONCE"), variant("new"), old=(variant("old"),))


def test_alarms_must_exist() -> None:
    def watched(name: str) -> dict:
        return policy("ALL_AT_ONCE") | {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": name}]}}

    assert planned(watched("high-errors"), variant()).alarms == ("high-errors",)
    assert "no CloudWatch alarm nobody" in refused(watched("nobody"))


def test_rolling_updates_are_refused_with_the_reason() -> None:
    rolling = {"RollingUpdatePolicy": {"MaximumBatchSize": count(1), "WaitIntervalInSeconds": 0}}
    assert "several variants" in refused(rolling, variant("a"), variant("b"))
    assert "serverless" in refused(rolling, variant(serverless=True))
    assert "does not have RollingUpdatePolicy" in refused(rolling)
    assert "Only one update policy" in refused(rolling | policy("ALL_AT_ONCE"))
