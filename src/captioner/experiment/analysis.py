"""From the log of an experiment to what is known of it now: intervals, guardrails, sample ratio, verdict.

May be asked at any time and as often as wanted: everything in it that decides holds at every look.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from captioner.clock import stamp
from captioner.experiment.bandit import Allocation, allocation
from captioner.experiment.comparing import Comparison, Moment, compared, measures
from captioner.experiment.document import Experiment
from captioner.experiment.events import Exposure, Feedback
from captioner.experiment.planning import Plan, plan
from captioner.experiment.ratio import SampleRatio, sample_ratio
from captioner.experiment.users import Log, User, collect
from captioner.experiment.verdict import Guardrail, Verdict, judged
from captioner.experimentparams import ExperimentParams

GUARDED = ("latency_ms", "errors")


@dataclass(frozen=True)
class Arm:
    """One variant, plain counts and means; None where nothing tells. `latency_ms` is a geometric mean."""

    users: int
    exposures: int
    ratings: int
    rating: float | None
    corrected: float | None
    edit_distance: float | None
    latency_ms: float | None
    errors: float | None


@dataclass(frozen=True)
class Slice:
    """The difference among some users only; its interval is wide enough to look at all slices at once."""

    slice: str
    value: str
    users: int
    difference: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Analysis:
    """What is known at `as_of`. Differences are challenger minus champion."""

    as_of: str
    verdict: Verdict
    arms: Mapping[str, Arm]
    rating: Comparison
    metrics: Sequence[Comparison]
    guardrails: Sequence[Guardrail]
    sample_ratio: SampleRatio
    over_time: Sequence[Moment]
    by_day: Sequence[Moment]
    slices: Sequence[Slice]
    excluded: Mapping[str, int]
    bandit: Allocation | None
    plan: Plan
    runtime_h: float


def analyse(
    experiment: Experiment,
    exposures: Iterable[Exposure],
    feedback: Iterable[Feedback],
    params: ExperimentParams,
    now: datetime,
) -> Analysis:
    """Judge the experiment by everything that was logged until `now`."""
    log = collect(experiment, exposures, feedback)
    users = list(log.users.values())
    planned, measured = plan(params), measures(params)

    def compare(name: str, some: Sequence[User], alpha: float = params.alpha) -> tuple[Comparison, list[Moment]]:
        return compared(measured[name], some, alpha, planned.users, planned.share, params.min_users)

    rating, over_time = compare("rating", users)
    metrics = [rating, *(compare(name, users)[0] for name in ("corrected", "edit_distance"))]
    guards = {name: compare(name, users, params.alpha / len(GUARDED))[0] for name in GUARDED}
    guardrails = _guardrails(guards, params)
    ratio = sample_ratio(_shares(users))
    ended = datetime.fromisoformat(experiment.ended) if experiment.ended else now
    runtime = (ended - datetime.fromisoformat(experiment.started)).total_seconds() / 3600
    return Analysis(
        as_of=stamp(now),
        verdict=judged(rating, guardrails, ratio, params, planned, runtime),
        arms={"champion": _arm(False, log, metrics, guards), "challenger": _arm(True, log, metrics, guards)},
        rating=rating,
        metrics=metrics,
        guardrails=guardrails,
        sample_ratio=ratio,
        over_time=over_time,
        by_day=_by_day(users, compare),
        slices=_slices(users, compare, params.alpha),
        excluded=dict(log.excluded),
        bandit=allocation(params.bandit, users, params.min_users) if params.bandit else None,
        plan=planned,
        runtime_h=max(runtime, 0.0),
    )


def as_json(analysis: Analysis) -> dict[str, Any]:
    """For a document, a page or a terminal: no value that JSON does not know."""
    found: dict[str, Any] = asdict(analysis)
    rating, ratio = found.pop("rating"), found["sample_ratio"]
    verdict = found.pop("verdict")
    ratio["ok"] = verdict["sample_ratio_ok"]
    bounds = {"value": rating["difference"], "low": rating["low"], "high": rating["high"]}
    return {
        "verdict": verdict["outcome"],
        "reasons": list(verdict["reasons"]),
        "difference": {**bounds, "alpha": analysis.plan.alpha},
        **found,
    }


def _guardrails(guards: Mapping[str, Comparison], params: ExperimentParams) -> list[Guardrail]:
    """Latency as a ratio (its logarithms were compared), errors as a difference of shares."""
    slow, bad = guards["latency_ms"], guards["errors"]
    limits = params.guardrails
    return [
        Guardrail("latency", _exp(slow.champion), _exp(slow.challenger), _exp(slow.low), _exp(slow.high),
                  limits.latency_ratio, "times the champion's typical latency"),
        Guardrail("errors", bad.champion, bad.challenger, bad.low, bad.high,
                  limits.errors, "more of users' first requests failing"),
    ]  # fmt: skip


def _exp(value: float | None) -> float | None:
    return None if value is None else math.exp(value)


def _arm(challenger: bool, log: Log, metrics: Sequence[Comparison], guards: Mapping[str, Comparison]) -> Arm:
    side = "challenger" if challenger else "champion"
    mine = [user for user in log.users.values() if user.challenger == challenger]
    rating, corrected, distance = (getattr(one, side) for one in metrics)
    return Arm(
        users=len(mine),
        exposures=log.exposures[challenger],
        ratings=sum(user.ratings for user in mine),
        rating=rating,
        corrected=corrected,
        edit_distance=distance,
        latency_ms=_exp(getattr(guards["latency_ms"], side)),
        errors=getattr(guards["errors"], side),
    )


def _shares(users: Sequence[User]) -> dict[float, tuple[int, int]]:
    everybody, met = Counter(user.share for user in users), Counter(user.share for user in users if user.challenger)
    return {share: (count, met[share]) for share, count in everybody.items()}


def _by_day(users: Sequence[User], compare: Any) -> list[Moment]:
    """Each day's users alone: whether the first days, when it is new, tell another story. To look at, not to decide."""
    days = sorted({user.first_rated[:10] for user in users if user.first_rated})
    found = []
    for day in days:
        one, _ = compare("rating", [user for user in users if user.first_rated[:10] == day])
        found.append(Moment(day, one.users, one.difference, one.low, one.high))
    return found


def _slices(users: Sequence[User], compare: Any, alpha: float) -> list[Slice]:
    """By each fact of the first picture; the chance of error is shared out among all slices (Bonferroni)."""
    groups = {(name, value) for user in users for name, value in user.facts.items()}
    found = []
    for name, value in sorted(groups):
        one, _ = compare("rating", [user for user in users if user.facts.get(name) == value], alpha / len(groups))
        found.append(Slice(name, value, one.users, one.difference, one.low, one.high))
    return found
