"""Made-up experiments, many at once: how often the interval is wrong when nothing differs, and finds what does.

Ratings are whole points from 1 to 5, as people give them: a normal distribution of the params' deviation, rounded and
clipped, and an effect that moves as many users up a point as it takes. Beside it the t-test that is looked at as often,
which is what intervals for many looks are for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from captioner.experiment.bandit import better, shared
from captioner.experiment.comparing import Bits, measures
from captioner.experiment.planning import plan
from captioner.experiment.sequences import Floats, contributions, intervals
from captioner.experimentparams import BanditParams, ExperimentParams
from captioner.progress import track

Ints = np.ndarray[tuple[int, ...], np.dtype[np.int_]]

LOOKS = 200
MEAN = 3.2
BLOCK = 100  # experiments at a time: a few megabytes


@dataclass(frozen=True)
class Simulated:
    """Shares of the experiments. `promoted` and `demoted`: the interval excluded 0 at any look, above or below;
    `t_test`: a t-test did at any of the same looks; `at_the_end`: the interval is above 0 at the last look."""

    effect: float
    experiments: int
    users: int
    looks: int
    promoted: float
    demoted: float
    at_the_end: float
    t_test: float
    met_challenger: float  # of all users
    median_users: int | None  # until a promotion, of those that were promoted


def simulate(
    params: ExperimentParams, effect: float, experiments: int, users: int | None = None, seed: int = 0
) -> Simulated:
    """Run `experiments` of `users` each, at the last step of the ramp, or with the bandit from its first look on where
    there is one; the same seed gives the same."""
    planned = plan(params)
    count = planned.users if users is None else users
    share = planned.share
    looks = np.unique(np.linspace(min(2 * params.min_users, count), count, LOOKS).astype(int)) - 1
    random = np.random.default_rng(seed)
    rating = measures(params)["rating"]
    rho = rating.rho(planned.users, share, params.alpha)
    above, below, last, peeked, met_challenger, stops = 0, 0, 0, 0, 0, []
    with track("simulate", experiments, "experiments") as progress:
        for begun in range(0, experiments, BLOCK):
            several = min(BLOCK, experiments - begun)
            drawn = ratings(random, (several, count), effect, params.deviation)
            shares = thompson(params.bandit, drawn, looks, share, params.min_users) if params.bandit else share
            met = drawn.places < shares
            outcomes = np.where(met, drawn.challenger, drawn.champion)
            mean, radius = intervals(contributions(outcomes, met, shares, rating.typical), rho, params.alpha)
            enough = np.minimum(np.cumsum(met, 1), np.cumsum(~met, 1)) >= params.min_users
            higher, lower = ((mean > radius) & enough)[:, looks], ((mean < -radius) & enough)[:, looks]
            above, below = above + int(higher.any(1).sum()), below + int(lower.any(1).sum())
            last += int(higher[:, -1].sum())
            peeked += int((np.abs(t_statistics(outcomes, met))[:, looks] > 1.96).any(1).sum())
            met_challenger += int(met.sum())
            stops += (looks[higher.argmax(1)] + 1)[higher.any(1)].tolist()
            progress.advance(several)
    return Simulated(
        effect, experiments, count, len(looks), above / experiments, below / experiments, last / experiments,
        peeked / experiments, met_challenger / experiments / count, int(np.median(stops)) if stops else None,
    )  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """What each user would rate a caption of either variant, and the user's place; all [experiments, users]."""

    champion: Floats
    challenger: Floats
    places: Floats


def ratings(random: np.random.Generator, shape: tuple[int, int], effect: float, deviation: float) -> Drawn:
    """Users whose ratings of the challenger are `effect` points higher on average."""
    champion = np.clip(np.round(random.normal(MEAN, deviation, shape)), 1, 5)
    places = random.random(shape)
    movable = champion < 5 if effect > 0 else champion > 1
    moved = movable & (random.random(shape) < abs(effect) / movable.mean())
    return Drawn(champion, np.asarray(champion + np.sign(effect) * moved), places)


def thompson(params: BanditParams, drawn: Drawn, looks: Ints, share: float, least: int) -> Floats:
    """The challenger's share that each user meets, [experiments, users]: `share` until `least` users of each variant
    have rated, then what the bandit made of everybody up to the last of `looks`, indices of users."""
    liked = [one >= params.liked_from for one in (drawn.champion, drawn.challenger)]
    experiments, users = drawn.places.shape
    shares, counts = np.full((experiments, users), share), np.zeros((experiments, 2, 2))
    begin = 0
    for end in [*(looks + 1), users]:
        if begin:
            known = counts.sum(2).min(1) >= max(least, 1)
            wanted = shared(better(counts), params)
            shares[:, begin:end] = np.where(known, wanted, share)[:, None]
        met = drawn.places[:, begin:end] < shares[:, begin:end]
        for variant, chosen in enumerate((~met, met)):
            for success in (0, 1):
                counts[:, variant, success] += (chosen & (liked[variant][:, begin:end] == bool(success))).sum(1)
        begin = end
    return shares


def t_statistics(outcomes: Floats, met: Bits) -> Floats:
    """Welch's t after each user, [experiments, users]."""

    def moments(chosen: Bits) -> tuple[Floats, Floats, Floats]:
        count = np.maximum(np.cumsum(chosen, 1), 2)
        total, squares = np.cumsum(outcomes * chosen, 1), np.cumsum(outcomes**2 * chosen, 1)
        mean = total / count
        return mean, np.maximum(squares / count - mean**2, 1e-9), count

    (old, old_variance, old_count), (new, new_variance, new_count) = moments(~met), moments(met)
    return np.asarray((new - old) / np.sqrt(old_variance / old_count + new_variance / new_count))
