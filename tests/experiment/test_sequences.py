"""The interval that holds at every look: against the formula written out, and against thousands of experiments."""

from __future__ import annotations

import math

import numpy as np
import pytest

from captioner.experiment.planning import plan
from captioner.experiment.sequences import contributions, intervals, tuned, variance
from captioner.experimentparams import ExperimentParams

PARAMS = ExperimentParams()


def test_contributions_and_intervals_are_the_formulas() -> None:
    outcomes, met, shares = [4.0, 2.0, 5.0], [True, False, True], [0.5, 0.25, 0.25]
    phi = [(4 - 3) / 0.5, -(2 - 3.5) / 0.75, (5 - 3) / 0.25]
    assert contributions(outcomes, met, shares, start=3.0) == pytest.approx(phi)
    mean, radius = intervals(np.array(phi), rho=0.5, alpha=0.05)
    average = sum(phi) / 3
    spread = sum((one - average) ** 2 for one in phi)
    grown = spread * 0.25 + 1
    assert mean[-1] == pytest.approx(average)
    assert radius[-1] == pytest.approx(math.sqrt(2 * grown / 0.25 * math.log(math.sqrt(grown) / 0.05)) / 3)


def test_a_guess_knows_nothing_of_who_is_guessed() -> None:
    outcomes = np.array([5.0, 1.0, 3.0])
    met = np.array([True, True, True])
    changed = contributions([5.0, 1.0, 4.0], met, 0.5, start=3.0)
    assert contributions(outcomes, met, 0.5, start=3.0)[:2] == pytest.approx(changed[:2])
    assert changed[2] - contributions(outcomes, met, 0.5, start=3.0)[2] == pytest.approx(2.0)


def test_the_tuned_interval_is_about_the_narrowest() -> None:
    phi = np.random.default_rng(0).normal(0, 2, 1000)
    spread = float(((phi - phi.mean()) ** 2).sum())
    radius = {factor: intervals(phi, factor * tuned(spread, 0.05), 0.05)[1][-1] for factor in (0.5, 0.9, 1.0, 1.1, 2.0)}
    assert radius[1.0] < min(radius[0.5], radius[2.0])
    assert radius[1.0] == pytest.approx(min(radius.values()), rel=0.001)


def experiments(count: int, users: int, seed: int, shares: np.ndarray, drift: float = 0.0) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(seed)
    met = random.random((count, users)) < shares
    mean = 3.3 + np.linspace(0, drift, users)
    return np.clip(np.round(random.normal(mean, 1.2, (count, users))), 1, 5), met


@pytest.mark.parametrize("shares", [[0.5], [0.05, 0.1, 0.25, 0.5]])
def test_nobody_is_promoted_for_nothing_at_any_look(shares: list[float]) -> None:
    users = 2000
    share = np.repeat(shares, users // len(shares))
    outcomes, met = experiments(400, users, 1, share, drift=1.0)
    mean, radius = intervals(
        contributions(outcomes, met, share, start=3.0), tuned(variance(1.2, 0.5) * users, 0.05), 0.05
    )
    enough = np.minimum(np.cumsum(met, 1), np.cumsum(~met, 1)) >= PARAMS.min_users
    wrong = ((np.abs(mean) > radius) & enough).any(axis=1).mean()
    # 5 % would be 20 of 400; 34 and more have a chance below 0.1 % then.
    assert wrong <= 33 / 400
    # The plain difference of means takes the drift for an effect.
    if len(shares) > 1:
        plain = [row[arm].mean() - row[~arm].mean() for row, arm in zip(outcomes, met, strict=True)]
        assert np.mean(plain) > 0.1
        assert abs(mean[:, -1].mean()) < 0.05


def test_the_planned_size_has_the_power_that_was_asked_for() -> None:
    planned = plan(PARAMS)
    outcomes, met = experiments(400, planned.users, 2, np.array([0.5]))
    deviation = outcomes.std()
    outcomes = outcomes * PARAMS.deviation / deviation + PARAMS.effect * met
    mean, radius = intervals(
        contributions(outcomes, met, 0.5, start=3.0),
        tuned(variance(PARAMS.deviation, 0.5) * planned.users, PARAMS.alpha),
        PARAMS.alpha,
    )
    # 80 % of 400 are 320; below 296 has a chance of 0.1 %.
    assert (mean[:, -1] > radius[:, -1]).mean() >= 296 / 400
    assert planned.fixed < planned.users < 2.5 * planned.fixed


def test_a_plan_takes_as_long_as_its_users_do() -> None:
    assert plan(PARAMS, users_a_day=1000).hours == pytest.approx(24 * plan(PARAMS).users / 1000)
    assert plan(PARAMS, users_a_day=1e9).hours == PARAMS.min_hours
    assert plan(PARAMS.model_copy(update={"effect": 0.1})).users > 3.5 * plan(PARAMS).users
    assert plan(PARAMS.model_copy(update={"effect": 4.0})).users == 200  # 100 of each variant
