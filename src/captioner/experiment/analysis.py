"""An experiment as it stands at one moment: metrics, guardrails, sample ratio, slices, and the verdict on them.

`analyse` may be called at any time and as often as one likes: its intervals hold at all looks together. numpy only, so
that the REST API can do it. Knows nothing of where exposures and feedback lie.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from captioner.experiment import slicing
from captioner.experiment.contrast import Floats, Path, path
from captioner.experiment.document import Experiment
from captioner.experiment.events import Exposure, Feedback
from captioner.experiment.joined import Joined, joined, seconds
from captioner.experiment.plan import decided, plan
from captioner.experiment.ratio import Ratio, sample_ratio
from captioner.experiment.sequences import Sequence, planned_information
from captioner.experiment.verdict import Guardrail, Interval, Known, verdict
from captioner.experimentparams import ExperimentParams
from captioner.ledger import CHALLENGER, CHAMPION

_POINTS = 100  # of the plot over time
_EFFECTS = {"corrected": 0.05, "edit_distance": 0.05}  # that the secondary metrics' sequences are tuned to
_LOG_LATENCY_SPAN = 2.0  # a factor of seven: for the floor of the variance only


@dataclass(frozen=True)
class Metric:
    """Means of both arms over users, with the same weights of shares, and their difference."""

    name: str
    champion: float | None
    challenger: float | None
    difference: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Analysis:
    """What `as_json` shows; the fields are described in its docstring."""

    as_of: str
    verdict: str
    reasons: list[str]
    arms: Mapping[str, Mapping[str, float | int | None]]
    difference: Interval
    metrics: list[Metric]
    guardrails: list[Guardrail]
    sample_ratio: Ratio
    over_time: list[Mapping[str, Any]]
    by_day: list[Mapping[str, Any]]
    slices: list[Mapping[str, Any]]
    excluded: Mapping[str, int]
    plan: Mapping[str, Any]
    runtime_h: float


def analyse(
    experiment: Experiment,
    exposures: Iterable[Exposure],
    feedback: Iterable[Feedback],
    params: ExperimentParams,
    now: datetime,
) -> Analysis:
    """What `experiment` shows at `now` (with a time zone). What its design decided comes before `params`."""
    rules = decided(experiment.design, params)
    data = joined(experiment, exposures, feedback, now)
    sequence = Sequence.for_effect(rules.alpha, rules.effect, rules.power)
    ratings = data.ratings
    looks = _looks(ratings.at, now.timestamp())
    over = path(ratings, looks)
    difference = _interval(over, sequence, rules.min_users)
    metrics = [_metric("rating", over, sequence, rules.min_users), *_secondary(data, rules, now)]
    guardrails = _guardrails(data, rules, now)
    ratio = _sample_ratio(data, rules.srm_alpha)
    ended = seconds(experiment.ended) if experiment.ended else now.timestamp()
    runtime = max(0.0, (min(ended, now.timestamp()) - seconds(experiment.started)) / 3600)
    progress = float(over.information[-1]) / planned_information(rules.alpha, rules.effect, rules.power)
    rated = (int(over.users[-1, 0]), int(over.users[-1, 1]))
    known = Known(difference, guardrails, ratio.ok, _ratio_sentence(ratio), runtime, rated, progress)
    outcome, reasons = verdict(known, rules)
    return Analysis(
        as_of=now.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        verdict=outcome,
        reasons=reasons,
        arms=_arms(data, metrics, guardrails),
        difference=difference,
        metrics=metrics,
        guardrails=guardrails,
        sample_ratio=ratio,
        over_time=_over_time(over, looks, sequence, rules.min_users),
        by_day=slicing.by_day(ratings, sequence, rules.min_users),
        slices=slicing.by_fact(data, rules.slices, sequence, rules.min_users),
        excluded=data.excluded,
        plan=_plan(experiment, rules, rated, progress),
        runtime_h=runtime,
    )


def as_json(analysis: Analysis) -> dict[str, Any]:
    """The analysis as JSON holds it: null for what is not known, no NaN, no infinity."""
    found: dict[str, Any] = _finite(dataclasses.asdict(analysis))
    return found


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _looks(at: Floats, now: float) -> Floats:
    """Moments with equally many ratings between them, and now."""
    if not len(at):
        return np.array([now])
    ordered = np.sort(at)
    chosen = np.unique(np.linspace(0, len(at) - 1, min(_POINTS, len(at))).astype(np.int64))
    return np.append(ordered[chosen], now)


def _interval(over: Path, sequence: Sequence, fewest: int, look: int = -1) -> Interval:
    value, radius = float(over.difference[look]), float(sequence.radius(over.information[look]))
    if not math.isfinite(value):
        return Interval(None, None, None, sequence.alpha)
    if over.users[look].min() < fewest:
        return Interval(value, None, None, sequence.alpha)
    return Interval(value, value - radius, value + radius, sequence.alpha)


def _metric(name: str, over: Path, sequence: Sequence, fewest: int) -> Metric:
    found = _interval(over, sequence, fewest)
    means = (_known(over.means[-1, 0]), _known(over.means[-1, 1]))
    return Metric(name, *means, found.value, found.low, found.high)


def _secondary(data: Joined, rules: ExperimentParams, now: datetime) -> list[Metric]:
    corrected = np.where(data.failed, np.nan, np.isfinite(data.distance).astype(np.float64))
    found = []
    for name, column in (("corrected", corrected), ("edit_distance", data.distance)):
        over = path(data.values(column, 1.0), [now.timestamp()])
        sequence = Sequence.for_effect(rules.alpha, _EFFECTS[name], rules.power)
        found.append(_metric(name, over, sequence, rules.min_users))
    return found


def _guardrails(data: Joined, rules: ExperimentParams, now: datetime) -> list[Guardrail]:
    """Both at half of alpha: either may reject."""
    limits = rules.guardrails
    log_latency = np.log(np.maximum(data.latency_ms, 0.1))
    latency = path(data.values(log_latency, _LOG_LATENCY_SPAN), [now.timestamp()])
    errors = path(data.values(data.failed.astype(np.float64), 1.0), [now.timestamp()])
    bound = math.log(limits.latency_ratio)
    slower = _interval(latency, Sequence.for_effect(rules.alpha / 2, bound, rules.power), rules.min_users)
    worse = _interval(errors, Sequence.for_effect(rules.alpha / 2, limits.errors, rules.power), rules.min_users)
    return [_latency(latency.means[-1], slower, limits.latency_ratio), _errors(errors.means[-1], worse, limits.errors)]


def _latency(means: Floats, slower: Interval, limit: float) -> Guardrail:
    """From means and differences of logarithms to milliseconds (geometric means) and a ratio."""
    champion, challenger = (None if math.isnan(mean) else math.exp(mean) for mean in means)
    low, high = (None if end is None else math.exp(min(end, 700.0)) for end in (slower.low, slower.high))
    ok, state = _state(low, high, limit)
    bounds = "" if low is None or high is None else f": {low:.2f} to {high:.2f} times the champion's"
    sentence = f"The guardrail on latency {state}{bounds}; up to {limit:.2f} times is allowed."
    return Guardrail("latency", champion, challenger, low, high, limit, ok, sentence)


def _errors(means: Floats, worse: Interval, limit: float) -> Guardrail:
    ok, state = _state(worse.low, worse.high, limit)
    known = worse.low is not None and worse.high is not None
    bounds = f": {worse.low:+.1%} to {worse.high:+.1%} of requests against the champion's" if known else ""
    sentence = f"The guardrail on errors {state}{bounds}; up to {limit:+.1%} is allowed."
    return Guardrail("errors", _known(means[0]), _known(means[1]), worse.low, worse.high, limit, ok, sentence)


def _state(low: float | None, high: float | None, limit: float) -> tuple[bool, str]:
    """Broken is what is shown to be; with little known nothing is."""
    if low is None or high is None:
        return True, "has too few users to tell"
    if low > limit:
        return False, "is broken"
    return True, "is kept" if high <= limit else "is not shown to be broken"


def _sample_ratio(data: Joined, alpha: float) -> Ratio:
    _, first = np.unique(data.user, return_index=True)
    first.sort()
    return sample_ratio(data.shares[data.stratum[first]], data.arm[first] == 1, alpha)


def _ratio_sentence(ratio: Ratio) -> str:
    if ratio.ok or ratio.expected is None or ratio.observed is None:
        return "As many users met each arm as were meant to."
    return (
        f"Nothing can be judged: {ratio.observed:.1%} of the users met the challenger, {ratio.expected:.1%} were meant "
        f"to (p = {ratio.p_value:.2g}). Find out who is lost, and start anew."
    )


def _arms(data: Joined, metrics: list[Metric], guardrails: list[Guardrail]) -> dict[str, dict[str, Any]]:
    found = {}
    for number, arm in enumerate((CHAMPION, CHALLENGER)):
        own = data.arm == number
        means = {one.name: getattr(one, arm) for one in metrics}
        limits = {one.name: getattr(one, arm) for one in guardrails}
        found[arm] = {
            "users": len(np.unique(data.user[own])),
            "exposures": int(own.sum()),
            "ratings": int(np.isfinite(data.rating[own]).sum()),
            **means,
            "errors": limits["errors"],
            "latency_ms": limits["latency"],
        }
    return found


def _over_time(over: Path, looks: Floats, sequence: Sequence, fewest: int) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for look, moment in enumerate(looks):
        one = _interval(over, sequence, fewest, look)
        if one.value is not None:
            at = datetime.fromtimestamp(float(moment), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            users = int(over.users[look].sum())
            found.append({"at": at, "users": users, "difference": one.value, "low": one.low, "high": one.high})
    return found


def _plan(experiment: Experiment, rules: ExperimentParams, rated: tuple[int, int], progress: float) -> dict[str, Any]:
    """The design's plan, or one for what was decided; how far it is."""
    planned = dataclasses.asdict(plan(rules))
    written = {name: experiment.design[name] for name in planned if name in experiment.design}
    return {**planned, **written, "min_hours": rules.min_hours, "rated": sum(rated), "progress": progress}


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
