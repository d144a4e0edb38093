"""From what is known to a verdict with its reasons: promote, reject or continue. No statistics here, only the rules.

In this order: a sample ratio mismatch means that the arms are not comparable, so nothing is judged; a guardrail that is
shown to be broken rejects; a challenger that is shown to be worse is rejected at once; before the minimum run time
nothing else is judged; one that is shown to be better is promoted; one that is shown not to be better by as much as is
worth having is rejected, so that experiments end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from captioner.experimentparams import ExperimentParams

PROMOTE, REJECT, CONTINUE = "promote", "reject", "continue"


@dataclass(frozen=True)
class Interval:
    """Challenger minus champion, and where it lies at any look with the chance 1 - alpha; None: not known yet."""

    value: float | None
    low: float | None
    high: float | None
    alpha: float


@dataclass(frozen=True)
class Guardrail:
    """One thing that must not get worse; `low` and `high` are in the unit of `limit`."""

    name: str
    champion: float | None
    challenger: float | None
    low: float | None
    high: float | None
    limit: float
    ok: bool
    sentence: str


@dataclass(frozen=True)
class Known:
    """What a verdict is made of. `rated`: users who rated, by arm; `progress`: of the planned information, 1 is all."""

    difference: Interval
    guardrails: Sequence[Guardrail]
    ratio_ok: bool
    ratio_sentence: str
    runtime_h: float
    rated: tuple[int, int]
    progress: float


def verdict(known: Known, params: ExperimentParams) -> tuple[str, list[str]]:
    """The verdict and its reasons, a sentence each."""
    broken = [one.sentence for one in known.guardrails if not one.ok]
    if not known.ratio_ok:
        return CONTINUE, [known.ratio_sentence, *broken]
    if broken:
        return REJECT, broken
    found = known.difference
    if found.low is None or found.high is None:
        return CONTINUE, [_too_few(known.rated, params.min_users)]
    where = f"between {found.low:+.2f} and {found.high:+.2f} rating points ({1 - found.alpha:.0%}, at any look)"
    early = known.runtime_h < params.min_hours
    if found.high < 0:
        return REJECT, [f"The challenger is rated worse: the difference lies {where}."]
    better, pointless = found.low > 0, found.high < params.effect
    if early:
        state = "is rated better" if better else "is not better by what is worth having" if pointless else "is open"
        subject = "The difference" if state == "is open" else "The challenger"
        wait = f"It has run {known.runtime_h:.1f} of at least {params.min_hours:g} hours."
        return CONTINUE, [f"{subject} {state}: it lies {where}.", wait]
    if better:
        return PROMOTE, [f"The challenger is rated better: the difference lies {where}.", *_well(known.guardrails)]
    if pointless:
        return REJECT, [
            f"The challenger is not better by {params.effect:g} rating points, the least that is worth having: the "
            f"difference lies {where}."
        ]
    return CONTINUE, [f"The difference is open: it lies {where}.", _far(known.progress)]


def _too_few(rated: tuple[int, int], fewest: int) -> str:
    return (
        f"Too few users have rated for a comparison: {rated[0]} met the champion and {rated[1]} the challenger, "
        f"{fewest} each are needed."
    )


def _far(progress: float) -> str:
    if progress >= 1:
        return "All that was planned for is known: the true difference is probably smaller than the planned one."
    return f"{progress:.0%} of what was planned for is known."


def _well(guardrails: Sequence[Guardrail]) -> list[str]:
    return [one.sentence for one in guardrails]
