"""One measure, champion against challenger: means, and the interval of the difference that holds at every look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from captioner.experiment.sequences import Floats, contributions, intervals, tuned, variance
from captioner.experiment.users import User
from captioner.experimentparams import ExperimentParams

Bits = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]

POINTS = 200  # of an interval over time: as many as a plot shows


@dataclass(frozen=True)
class Measure:
    """What is measured of a user (None: nothing), and what is known of it beforehand, which makes intervals narrow."""

    name: str
    of: Callable[[User], float | None]
    typical: float
    deviation: float

    def rho(self, users: int, share: float, alpha: float) -> float:
        """The interval's parameter: narrowest when `users` have told, of whom `share` met the challenger."""
        return tuned(variance(self.deviation, share) * users, alpha)


@dataclass(frozen=True)
class Comparison:
    """Means by arm, and challenger minus champion with its bounds; None while too few users tell of it."""

    name: str
    champion: float | None
    challenger: float | None
    difference: float | None
    low: float | None
    high: float | None
    users: int


@dataclass(frozen=True)
class Moment:
    """The interval as it was when `users` had told. `at`: when the last of them did."""

    at: str
    users: int
    difference: float | None
    low: float | None
    high: float | None


def measures(params: ExperimentParams) -> dict[str, Measure]:
    """What is measured, by name. Latency is compared by its logarithm: one slow answer must not be all that is seen."""
    found = (
        Measure("rating", attrgetter("rating"), 3.0, params.deviation),
        Measure("corrected", attrgetter("corrected"), 0.1, 0.3),
        Measure("edit_distance", attrgetter("distance"), 0.5, 0.3),
        Measure("latency_ms", attrgetter("log_ms"), 5.0, 0.5),
        Measure("errors", attrgetter("failed"), 0.0, 0.05),
    )
    return {one.name: one for one in found}


@dataclass(frozen=True)
class Told:
    """What users brought of one measure, in the order in which they did."""

    at: Sequence[str]
    outcomes: Floats
    challenger: Bits
    shares: Floats

    def arm(self, challenger: bool) -> float | None:
        chosen = self.outcomes[self.challenger == challenger]
        return float(chosen.mean()) if chosen.size else None


def told(measure: Measure, users: Sequence[User]) -> Told:
    """Everybody of whom there is something to tell. Whoever had no choice of arm (a share of 0 or 1) tells nothing."""
    rows = []
    for user in users:
        value = measure.of(user)
        if value is not None and 0.0 < user.share < 1.0:
            rows.append((user.first_rated if measure.name == "rating" else user.since, value, user))
    rows.sort(key=lambda row: row[0])
    return Told(
        [at for at, _, _ in rows],
        np.array([value for _, value, _ in rows], np.float64),
        np.array([user.challenger for _, _, user in rows], bool),
        np.array([user.share for _, _, user in rows], np.float64),
    )


def moments(measure: Measure, seen: Told, alpha: float, users: int, share: float, least: int) -> list[Moment]:
    """The interval as users told, at POINTS moments at most, the last one included.

    `users`: as many as are planned, at the challenger's `share`, where it is narrowest; `least`: of each arm, before
    there is an interval.
    """
    if not seen.outcomes.size:
        return []
    phi = contributions(seen.outcomes, seen.challenger, seen.shares, measure.typical)
    mean, radius = intervals(phi, measure.rho(users, share, alpha), alpha)
    met = np.cumsum(seen.challenger)
    count = np.arange(1, met.size + 1)
    enough = np.minimum(met, count - met) >= least
    step = -(-met.size // POINTS)
    return [
        Moment(seen.at[i], i + 1, float(mean[i]), float(mean[i] - radius[i]), float(mean[i] + radius[i]))
        if enough[i]
        else Moment(seen.at[i], i + 1, None, None, None)
        for i in range((met.size - 1) % step, met.size, step)
    ]


def compared(
    measure: Measure, users: Sequence[User], alpha: float, planned: int, share: float, least: int
) -> tuple[Comparison, list[Moment]]:
    """The comparison now, and how it came about."""
    seen = told(measure, users)
    over_time = moments(measure, seen, alpha, planned, share, least)
    now = over_time[-1] if over_time else Moment("", 0, None, None, None)
    found = Comparison(measure.name, seen.arm(False), seen.arm(True), now.difference, now.low, now.high, now.users)
    return found, over_time
