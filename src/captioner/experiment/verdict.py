"""promote, reject or continue, and why: what follows from the intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from captioner.experiment.comparing import Comparison
from captioner.experiment.planning import Plan
from captioner.experiment.ratio import SampleRatio
from captioner.experimentparams import ExperimentParams

PROMOTE, REJECT, CONTINUE = "promote", "reject", "continue"


@dataclass(frozen=True)
class Guardrail:
    """What the challenger costs. It is harmed once the whole interval lies above the limit; `unit` says of what.

    `bounds` says in words where the interval lies.
    """

    name: str
    champion: float | None
    challenger: float | None
    low: float | None
    high: float | None
    limit: float
    unit: str
    ok: bool = field(init=False)
    bounds: str = field(init=False)

    def __post_init__(self) -> None:
        early = self.low is None or self.high is None
        bounds = "too early to say" if early else f"between {self.low:.3g} and {self.high:.3g} {self.unit}"
        object.__setattr__(self, "bounds", bounds)
        object.__setattr__(self, "ok", self.low is None or self.low <= self.limit)


@dataclass(frozen=True)
class Verdict:
    """`reasons`: whole sentences, the deciding one first."""

    outcome: str
    reasons: tuple[str, ...]
    sample_ratio_ok: bool


def judged(
    rating: Comparison,
    guardrails: Sequence[Guardrail],
    ratio: SampleRatio,
    params: ExperimentParams,
    planned: Plan,
    runtime_h: float,
) -> Verdict:
    """The verdict. A mismatch of the sample ratio blocks any; a harmed guardrail rejects, even early."""
    sound = ratio.p_value >= params.srm_alpha
    harmed = [
        f"The challenger costs too much: {one.name}, at least {one.low:.3g} {one.unit} where {one.limit:g} are allowed."
        for one in guardrails
        if not one.ok
    ]
    if not sound:
        reason = (
            f"The sample ratio is wrong: {ratio.observed} users met the challenger where {ratio.expected:.0f} should "
            f"have (p = {ratio.p_value:.1g}); something loses or moves users, and nothing can be concluded until it is "
            "found."
        )
        return Verdict(CONTINUE, (reason, *harmed), False)
    if harmed:
        return Verdict(REJECT, tuple(harmed), True)
    outcome, reasons = _by_rating(rating, params, planned)
    if outcome != CONTINUE and runtime_h < params.min_hours:
        early = f"It runs for {runtime_h:.1f} h; no verdict before {params.min_hours:g} h."
        return Verdict(CONTINUE, (early, *reasons), True)
    return Verdict(outcome, tuple(reasons), True)


def _by_rating(rating: Comparison, params: ExperimentParams, planned: Plan) -> tuple[str, list[str]]:
    if rating.difference is None or rating.low is None or rating.high is None:
        few = (
            f"Too few users have rated: {rating.users} in all; {params.min_users} of each variant are needed to begin."
        )
        return CONTINUE, [few]
    shown = (
        f"The challenger's captions are rated {rating.difference:+.2f} points "
        f"(between {rating.low:+.2f} and {rating.high:+.2f}, {1 - params.alpha:.0%} at any look, {rating.users} users)"
    )
    if rating.low > 0:
        return PROMOTE, [f"{shown}: better."]
    if rating.high < 0:
        return REJECT, [f"{shown}: worse."]
    if rating.high < params.effect:
        return REJECT, [f"{shown}: not better by {params.effect:g}, which would be worth it."]
    far = f"{rating.users} of the {planned.users} planned users have rated."
    if rating.users >= planned.users:
        far = (
            f"All {planned.users} planned users have rated: the difference is smaller than {params.effect:g}, or "
            "ratings vary more than was assumed; going on is allowed and costs no validity."
        )
    return CONTINUE, [f"{shown}: not yet told from nothing.", far]
