"""Thompson sampling: the probability against sampling and symmetry, the floor, and what it does to verdicts."""

from __future__ import annotations

import numpy as np
import pytest

from captioner.experiment.bandit import allocation, better, shared
from captioner.experiment.simulating import simulate
from captioner.experiment.users import User
from captioner.experimentparams import BanditParams, ExperimentParams

PARAMS = BanditParams()


def rated(challenger: bool, rating: float | None) -> User:
    return User(challenger, 0.5, "2026-01-01T00:00:00.000Z", {}, rating=rating)


@pytest.mark.parametrize(
    "counts", [((3, 5), (2, 9)), ((40, 60), (300, 420)), ((0, 0), (7, 0)), ((9_000, 9_000), (900, 950))]
)
def test_the_probability_is_what_sampling_both_posteriors_finds(counts: tuple[tuple[int, int], ...]) -> None:
    draw = np.random.default_rng(0)
    (failed, liked), (others, more) = counts
    first, second = draw.beta(liked + 1, failed + 1, 400_000), draw.beta(more + 1, others + 1, 400_000)
    assert better(counts) == pytest.approx((second > first).mean(), abs=0.003)


def test_it_is_symmetric_and_many_at_once_are_as_one() -> None:
    one = [[[10, 20], [12, 30]], [[12, 30], [10, 20]], [[5, 5], [5, 5]]]
    found = better(one)
    assert found[0] + found[1] == pytest.approx(1.0)
    assert found[2] == pytest.approx(0.5)
    assert found[0] == better(one[0])


def test_each_variant_keeps_the_floor() -> None:
    assert shared([0.0, 0.031, 0.5, 0.876, 1.0], PARAMS).tolist() == [0.1, 0.1, 0.5, 0.88, 0.9]


def test_it_waits_for_enough_ratings_of_both_and_counts_first_ones_only() -> None:
    few = [*(rated(False, 4.0) for _ in range(60)), *(rated(True, 5.0) for _ in range(49)), rated(True, None)]
    assert allocation(PARAMS, few, 50) is None
    found = allocation(PARAMS, [*few, rated(True, 3.0)], 50)
    assert found is not None
    assert (found.champion, found.challenger) == (1.0, 0.98)
    assert found.probability < 0.3
    assert found.words.startswith("100% like the champion's captions and 98% the challenger's")


def test_simulated_users_meet_the_better_one_more_often_and_errors_stay_below_alpha() -> None:
    fixed, bandit = ExperimentParams(), ExperimentParams(bandit=PARAMS)
    same, better_one = simulate(bandit, 0.0, 200, seed=1), simulate(bandit, 0.3, 100, seed=1)
    assert same.promoted + same.demoted <= 0.05
    assert better_one.met_challenger > 0.7
    assert better_one.promoted <= simulate(fixed, 0.3, 100, seed=1).promoted
