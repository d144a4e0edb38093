"""Made-up experiments whose truth is known: how often the rule that judges real ones is wrong, and how often it finds.

Users come over time and return; they have a taste of their own, the mood of all of them drifts, and a ramp moves some
of them. Ratings are whole numbers from 1 to 5. What is simulated is judged by the code that judges what was logged
(`contrast.path`, `Sequence`), beside a t-test that is looked at as often.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence as Many
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from captioner.experiment.bandit import next_share
from captioner.experiment.contrast import Floats, Integers, Values, path
from captioner.experiment.joined import RATING_SPAN
from captioner.experiment.plan import plan
from captioner.experiment.sequences import Sequence
from captioner.experimentparams import ExperimentParams
from captioner.progress import track

LOOKS = 200


@dataclass(frozen=True)
class World:
    """How users come and rate. Times run from 0 to 1.

    `effect`: points that the challenger's captions are rated higher. `level`, `taste` (between users) and `mood` (within
    one) make up ratings before they are rounded; `drift`: how much the level rises from beginning to end. `returns`:
    ratings that a user gives after the first, on average. `crowd`: share of the users who are there from the beginning.
    `shares`: the challenger's, in equal parts of the time; `updates`: how often a bandit chooses it after those, whose
    last part is that much longer.
    """

    users: int
    effect: float = 0.0
    level: float = 3.4
    taste: float = 0.8
    mood: float = 0.9
    drift: float = 0.0
    returns: float = 0.5
    crowd: float = 0.0
    shares: Many[float] = (0.5,)
    updates: int = 0


@dataclass(frozen=True)
class Simulated:
    """Shares of the experiments. `found`, `t_test`: difference called at any look; `promoted`: called for the challenger.

    `missed`: the true difference lay outside of the interval at any look, which `alpha` bounds. `median_users`: who had
    rated when it was called, in half of those experiments.
    """

    effect: float
    experiments: int
    looks: int
    users: int
    alpha: float
    found: float
    promoted: float
    missed: float
    t_test: float
    median_users: int | None

    def render(self) -> str:
        """For a terminal."""
        what = "false positives" if self.effect == 0 else f"a true difference of {self.effect:+g} found"
        lines = [
            f"{self.experiments:,} experiments of {self.users:,} users who rate, looked at {self.looks} times each",
            f"{what}: {self.found:.1%} (for the challenger: {self.promoted:.1%})",
            f"the true difference ever outside of the interval: {self.missed:.1%}, of {self.alpha:.0%} allowed",
            f"a t-test, looked at as often: {self.t_test:.1%}",
        ]
        if self.median_users is not None:
            lines.append(f"called after {self.median_users:,} users, in half of those where it was")
        return "\n".join(lines)


def drawn(world: World, random: np.random.Generator, params: ExperimentParams | None = None) -> Values:
    """One experiment's ratings; `params` for the bandit, where there is one."""
    count = 1 + random.poisson(world.returns, world.users) if world.returns else np.ones(world.users, np.int64)
    user = np.repeat(np.arange(world.users), count)
    came = np.where(random.random(world.users) < world.crowd, 0.0, random.random(world.users))
    at = came[user] + (1 - came[user]) * random.random(len(user))
    taste = random.normal(0.0, world.taste, world.users)
    exact = world.level + world.drift * (at - 0.5) + taste[user] + random.normal(0.0, world.mood, len(user))
    rating = np.clip(np.round(exact), 1, 5)
    better = _shifted(rating, world.effect, random)
    place = random.random(world.users)[user]
    parts = len(world.shares) + world.updates
    part = np.minimum((at * parts).astype(np.int64), parts - 1)
    share = np.asarray(world.shares, np.float64)[np.minimum(part, len(world.shares) - 1)]

    def told(rows: npt.NDArray[np.bool_] | slice) -> Values:
        met = place[rows] < share[rows]
        given = np.where(met, better[rows], rating[rows])
        stratum = np.round(share[rows] * 1000).astype(np.int64)
        _, stratum = np.unique(stratum, return_inverse=True)
        return Values(user[rows], met.astype(np.int64), stratum.reshape(-1), given, at[rows], RATING_SPAN)

    for step in range(len(world.shares), parts):
        before = next_share(told(part < step), params or ExperimentParams(), float(share[part == step][0]))
        share[part >= step] = before
    return told(slice(None))


def simulate(
    params: ExperimentParams,
    effect: float = 0.0,
    experiments: int = 500,
    users: int | None = None,
    seed: int = 0,
    world: World | None = None,
) -> Simulated:
    """Run that many experiments of the planned size (or of `users`), in `world` (default: `ordinary`). Deterministic."""
    random = np.random.default_rng(seed)
    here = world or ordinary(params, effect, users)
    sequence = Sequence.for_effect(params.alpha, params.effect, params.power)
    ends: list[int] = []
    promoted = missed = peeked = 0
    with track("simulate", experiments, "experiments") as progress:
        for _ in range(experiments):
            values = drawn(here, random, params)
            moments = looks(values, params.min_users)
            found = path(values, moments)
            enough = found.users.min(axis=1) >= params.min_users
            radius = np.where(enough, sequence.radius(found.information), np.inf)
            difference = np.nan_to_num(found.difference)
            called = np.abs(difference) > radius
            if called.any():
                first = int(called.argmax())
                ends.append(int(found.users[first].sum()))
                promoted += bool(difference[first] > 0)
            missed += bool((np.abs(difference - here.effect) > radius).any())
            peeked += bool((np.abs(t_statistic(values, moments)) > _quantile(params.alpha)).any())
            progress.advance()
    return Simulated(
        here.effect,
        experiments,
        LOOKS,
        here.users,
        params.alpha,
        len(ends) / experiments,
        promoted / experiments,
        missed / experiments,
        peeked / experiments,
        int(np.median(ends)) if ends else None,
    )


def ordinary(params: ExperimentParams, effect: float = 0.0, users: int | None = None) -> World:
    """At the ramp's last share, as the plan takes it: users whose mean ratings vary by `rating_sd`."""
    planned = plan(params)
    half = _before_rounding(params.rating_sd) * math.sqrt(0.5)
    once = World(1, taste=half, mood=half)
    return dataclasses.replace(
        once, users=users or planned.users, effect=effect, returns=0.0, level=3.0, shares=(planned.share,)
    )


def looks(values: Values, fewest: int) -> Floats:
    """LOOKS moments with equally many ratings between them, from when an interval may first be there."""
    first = min(2 * fewest, len(values)) - 1
    return np.sort(values.at)[np.linspace(first, len(values) - 1, LOOKS).astype(np.int64)]


def t_statistic(values: Values, moments: Floats) -> Floats:
    """Welch's t of all ratings, as somebody computes it who looks at the two arms at each of `moments`."""
    order = np.argsort(values.at, kind="stable")
    ends = np.searchsorted(values.at[order], moments, side="right") - 1
    value, arm = values.value[order], values.arm[order]

    def known(own: Integers) -> tuple[Floats, Floats]:
        count = np.maximum(np.cumsum(own)[ends], 2).astype(np.float64)
        mean = np.cumsum(own * value)[ends] / count
        return mean, np.maximum(np.cumsum(own * value**2)[ends] / count - mean**2, 1e-9) / (count - 1)

    (old, old_error), (new, new_error) = known(1 - arm), known(arm)
    return np.asarray((new - old) / np.sqrt(old_error + new_error))


def _shifted(rating: Floats, effect: float, random: np.random.Generator) -> Floats:
    """What the challenger would have been given: some ratings one point higher (or lower), `effect` in the mean."""
    movable = rating < 5 if effect > 0 else rating > 1
    moved = movable & (random.random(len(rating)) < abs(effect) / max(float(movable.mean()), 1e-9))
    return rating + np.sign(effect) * moved


def _before_rounding(deviation: float) -> float:
    """The standard deviation whose ratings, rounded and cut to 1 to 5 around 3, have `deviation`."""
    low, high = 0.01, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        at = NormalDist(0.0, middle).cdf
        variance = 2 * (4 * (1 - at(1.5)) + (at(1.5) - at(0.5)))
        low, high = (middle, high) if variance < deviation**2 else (low, middle)
    return low


def _quantile(alpha: float) -> float:
    return NormalDist().inv_cdf(1 - alpha / 2)
