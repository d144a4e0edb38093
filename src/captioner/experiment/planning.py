"""How many users an experiment needs, before it starts: the size at which its own interval would show the effect."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from captioner.experiment.sequences import radius, tuned, variance
from captioner.experimentparams import ExperimentParams

MOST = 100_000_000


@dataclass(frozen=True)
class Plan:
    """`users`: who rate, both variants together; `fixed`: what a test that may be looked at once would need.

    `hours` is None where nobody said how many users rate in a day. `effect`, `deviation`: rating points.
    """

    effect: float
    deviation: float
    alpha: float
    power: float
    share: float
    users: int
    fixed: int
    hours: float | None


def plan(params: ExperimentParams, users_a_day: float | None = None) -> Plan:
    """The plan of an experiment with these params, at the last step of its ramp."""
    share = params.ramp[-1] / 100.0
    one = variance(params.deviation, share)
    users = _least(params, one)
    normal = NormalDist()
    z = normal.inv_cdf(1.0 - params.alpha / 2.0) + normal.inv_cdf(params.power)
    fixed = math.ceil(one * (z / params.effect) ** 2)
    least = math.ceil(params.min_users / min(share, 1.0 - share))
    users = max(users, least)
    hours = None if users_a_day is None else max(24.0 * users / users_a_day, params.min_hours)
    return Plan(params.effect, params.deviation, params.alpha, params.power, share, users, max(fixed, least), hours)


def _least(params: ExperimentParams, one: float) -> int:
    """The least number of users whose interval, tuned for them, excludes 0 with the wanted power."""
    z = NormalDist().inv_cdf(params.power)

    def shows(users: int) -> bool:
        spread = one * users
        reach = float(radius(spread, users, tuned(spread, params.alpha), params.alpha))
        return reach + z * math.sqrt(one / users) <= params.effect

    low, high = 1, 2
    while not shows(high) and high < MOST:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if shows(middle) else (middle, high)
    return high
