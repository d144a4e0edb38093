"""An update's clock: waits scaled, time-outs counted as AWS would count them, alarms and the end heard at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from captioner.emulator.delays import Delays
from captioner.emulator.guardrails import Rollout, Step
from captioner.emulator.rollouts import STOPPING, Clock, carry_out
from captioner.emulator.series import Series
from captioner.emulator.watching import Alarms, Watch

SCALE = 1e-4
STEPS = (Step({"v": 1}, 0.5), Step({"v": 2}, 1.0))


class Moves:
    """Notes the shares that traffic is given; stands for `Traffic`."""

    def __init__(self) -> None:
        self.shares: list[float] = []

    def shift(self, coming: object, share: float, active: object) -> None:
        self.shares.append(share)


def run(plan: Rollout, watch: Watch, delays: Delays) -> tuple[str | None, list[float], list[str]]:
    moves, shown = Moves(), []
    clock = Clock(delays, plan.timeout_s)
    failure = carry_out(moves, None, plan, clock, watch, lambda status, message: shown.append(status))  # type: ignore[arg-type]
    return failure, moves.shares, shown


def test_steps_and_waits_in_order() -> None:
    plan = Rollout(STEPS, interval_s=600, termination_s=300, timeout_s=1000)
    found = run(plan, Watch([]), Delays(scale=SCALE))
    assert found == (None, [0.5, 1.0], ["ActivatingTraffic", "Baking", "ActivatingTraffic", "Baking"])
    found = run(Rollout(STEPS), Watch([]), Delays(scale=SCALE))
    assert found == (None, [0.5, 1.0], ["ActivatingTraffic", "ActivatingTraffic"])


def test_the_time_limit_counts_waits_at_their_full_length() -> None:
    """What guardrails would have refused, so that the limit is met without waiting for it."""
    plan = Rollout(STEPS, interval_s=700, termination_s=700, timeout_s=900)
    failure, shares, _ = run(plan, Watch([]), Delays(scale=SCALE))
    assert failure == "The deployment took longer than its MaximumExecutionTimeoutInSeconds, 900."
    assert shares == [0.5, 1.0]


def test_what_is_waited_for_is_scaled_and_what_works_is_not() -> None:
    clock = Clock(Delays(scale=SCALE), None)
    before = clock.elapsed()
    assert clock.wait(1000, Watch([])) is None
    assert clock.elapsed() - before == pytest.approx(1000, abs=20)


def test_an_alarm_is_heard_at_once(tmp_path: Path) -> None:
    alarms = Alarms(tmp_path / "alarms.json", Series())
    alarms.put(
        {
            "AlarmName": "a",
            "Namespace": "n",
            "MetricName": "m",
            "Statistic": "Sum",
            "Period": 60,
            "EvaluationPeriods": 1,
            "Threshold": 1.0,
            "ComparisonOperator": "GreaterThanThreshold",
        }
    )
    plan = Rollout(STEPS, interval_s=3600)
    with alarms.watch(["a", "b"]) as watch:
        alarms.set_state("a", "ALARM", "a test")
        # Calm again before anybody looked: it was on during the deployment all the same.
        alarms.set_state("a", "OK", "a test")
        assert run(plan, watch, Delays())[:2] == ("The CloudWatch alarm a was in ALARM during the deployment.", [])
    alarms.set_state("a", "ALARM", "a test")
    with alarms.watch(["a"]) as watch:
        assert watch.fired == "a"
    with alarms.watch(["b"]) as watch:
        assert watch.fired is None


def test_the_end_of_the_emulator_is_heard_at_once() -> None:
    delays, watch = Delays(), Watch([])
    delays.closing.set()
    watch.event.set()
    assert run(Rollout(STEPS, interval_s=3600), watch, delays)[:2] == (STOPPING, [])
