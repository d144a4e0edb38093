"""Do verdicts keep their word? Made-up experiments, 2,500 of each kind, against what was promised.

A row's ratio is how many times better than promised: the chance of error that is allowed over the one that was met, the
power that was met over the one that was asked for. The t-test that is looked at as often stands in the details.
"""

from __future__ import annotations

import itertools
import time

import numpy as np

from benchmarks.results import Result
from benchmarks.rounds import Ratio
from captioner.experiment.assignment import assigned
from captioner.experiment.document import RUNNING, Experiment
from captioner.experiment.planning import plan
from captioner.experiment.ratio import sample_ratio
from captioner.experiment.simulating import LOOKS, simulate
from captioner.experimentparams import BanditParams, ExperimentParams
from captioner.ledger import CHALLENGER, CHAMPION, Model

BATCHES, BATCH = 5, 500
PARAMS = ExperimentParams()
BANDIT = ExperimentParams(bandit=BanditParams())
ALARM = 0.05  # of the sample ratio here: one in a thousand could not be told from none
LIMIT_US = 50.0


def run() -> list[Result]:
    return [*_verdicts(), *_sample_ratio(), _assignment()]


def _verdicts() -> list[Result]:
    planned = plan(PARAMS)
    same = [simulate(PARAMS, 0.0, BATCH, seed=seed) for seed in range(BATCHES)]
    better = [simulate(PARAMS, PARAMS.effect, BATCH, seed=100 + seed) for seed in range(BATCHES)]
    moved = [simulate(BANDIT, 0.0, BATCH, seed=200 + seed) for seed in range(BATCHES)]
    drawn = [simulate(BANDIT, PARAMS.effect, BATCH, seed=300 + seed) for seed in range(BATCHES)]
    wrong = [one.promoted + one.demoted for one in same]
    power = [one.at_the_end for one in better]
    details = {
        "experiments": BATCHES * BATCH,
        "looks": LOOKS,
        "users": planned.users,
        "fixed_size_users": planned.fixed,
    }
    peeked = float(np.mean([one.t_test for one in same]))
    return [
        Result(
            name=f"A/A experiments with a wrong verdict at any of {LOOKS} looks",
            peer=f"the {PARAMS.alpha:.0%} that are allowed (a t-test that peeks: {peeked:.0%})",
            ratio=_times([PARAMS.alpha / max(one, 1 / BATCH) for one in wrong]),
            goal=1.0,
            ours=float(np.mean(wrong)),
            peers=PARAMS.alpha,
            details={**details, "t_test": peeked},
        ),
        Result(
            name=f"power at the planned {planned.users} users",
            peer=f"the {PARAMS.power:.0%} that were asked for",
            ratio=_times([one / PARAMS.power for one in power]),
            goal=1.0,
            ours=float(np.mean(power)),
            peers=PARAMS.power,
            details={**details, "promoted_at_any_look": float(np.mean([one.promoted for one in better]))},
        ),
        Result(
            name=f"A/A experiments with a bandit and a wrong verdict at any of {LOOKS} looks",
            peer=f"the {PARAMS.alpha:.0%} that are allowed",
            ratio=_times([PARAMS.alpha / max(one.promoted + one.demoted, 1 / BATCH) for one in moved]),
            goal=1.0,
            ours=float(np.mean([one.promoted + one.demoted for one in moved])),
            peers=PARAMS.alpha,
            details={
                **details,
                "met_a_better_challenger": float(np.mean([one.met_challenger for one in drawn])),
                "power": float(np.mean([one.at_the_end for one in drawn])),
            },
        ),
    ]


def _sample_ratio(users: int = 5000) -> list[Result]:
    random = np.random.default_rng(0)
    looks = np.linspace(100, users, LOOKS).astype(int)
    found, alarms = [], []
    for _ in range(BATCHES):
        skewed = random.binomial(users, 0.55, BATCH)
        found.append(np.mean([sample_ratio({0.5: (users, int(one))}).p_value < PARAMS.srm_alpha for one in skewed]))
        met = np.cumsum(random.random((BATCH, users)) < 0.5, axis=1)[:, looks - 1]
        # How surprising a number is follows from the number alone, so each is worked out once.
        known = {
            pair: sample_ratio({0.5: pair}).p_value < ALARM
            for pair in {(int(n), int(one)) for row in met for n, one in zip(looks, row, strict=True)}
        }
        alarms.append(np.mean([any(known[int(n), int(one)] for n, one in zip(looks, row, strict=True)) for row in met]))
    return [
        Result(
            name=f"55/45 meant as 50/50, found with {users:,} users",
            peer="99 % of experiments",
            ratio=_times([float(one) / 0.99 for one in found]),
            goal=1.0,
            ours=float(np.mean(found)),
            peers=0.99,
        ),
        Result(
            name=f"false alarms of the sample ratio at any of {LOOKS} looks",
            peer=f"the {ALARM:.0%} that are allowed",
            ratio=_times([ALARM / max(float(one), 1 / BATCH) for one in alarms]),
            goal=1.0,
            ours=float(np.mean(alarms)),
            peers=ALARM,
        ),
    ]


def _assignment(users: int = 100_000) -> Result:
    arms = {CHAMPION: Model("1", "a" * 64), CHALLENGER: Model("2", "b" * 64)}
    names = [f"user-{number}" for number in range(users)]
    took, met = [], []
    for share in (0.05, 0.1, 0.25, 0.5):
        shares = {CHAMPION: 1 - share, CHALLENGER: share}
        experiment = Experiment("e", "captioner", "salt", RUNNING, shares, arms, "2026-01-01T00:00:00Z")
        began = time.perf_counter()
        met.append([assigned(experiment, name) for name in names])
        took.append((time.perf_counter() - began) / users * 1e6)
    moves = {pair for before, after in itertools.pairwise(met) for pair in zip(before, after, strict=True)}
    assert (CHALLENGER, CHAMPION) not in moves, "a ramp moved somebody back"
    return Result(
        name="assigning a user",
        peer=f"the {LIMIT_US:.0f} µs that are allowed",
        ratio=_times([LIMIT_US / one for one in took]),
        goal=1.0,
        unit="µs",
        ours=float(np.median(took)),
        peers=LIMIT_US,
        equal=f"{users:,} users over a ramp 5, 10, 25, 50 %: nobody moved but from champion to challenger",
    )


def _times(ratios: list[float]) -> Ratio:
    return Ratio(float(np.median(ratios)), min(ratios), max(ratios))
