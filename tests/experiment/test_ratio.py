"""The sample ratio: found when it is wrong, silent when it is right, at every look."""

from __future__ import annotations

import numpy as np
import pytest

from captioner.experiment.ratio import sample_ratio


def test_55_to_45_meant_as_50_to_50_is_found_with_5000_users() -> None:
    random = np.random.default_rng(0)
    found = [sample_ratio({0.5: (5000, int(random.binomial(5000, 0.55)))}).p_value < 0.001 for _ in range(500)]
    assert np.mean(found) > 0.99


def test_at_any_of_many_looks_it_is_silent_when_nothing_is_wrong() -> None:
    random = np.random.default_rng(1)
    alarms = 0
    for _ in range(300):
        met = np.cumsum(random.random(2000) < 0.5)
        alarms += any(sample_ratio({0.5: (n, int(met[n - 1]))}).p_value < 0.05 for n in range(20, 2001, 60))
    # 5 % would be 15 of 300; 28 and more have a chance of 0.1 % then.
    assert alarms <= 27


def test_a_ramp_expects_what_its_steps_say() -> None:
    right = sample_ratio({0.05: (1000, 50), 0.25: (1000, 250), 0.5: (1000, 500)})
    assert (right.expected, right.observed, right.p_value) == (pytest.approx(800), 800, 1.0)
    assert sample_ratio({0.05: (1000, 250), 0.5: (1000, 500)}).p_value < 1e-6


def test_no_users_are_no_alarm_and_the_impossible_is_one() -> None:
    assert sample_ratio({}).p_value == 1.0
    assert sample_ratio({0.0: (10, 0), 1.0: (10, 10)}).p_value == 1.0
    assert sample_ratio({0.0: (10, 1)}).p_value == 0.0
