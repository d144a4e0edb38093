"""An experiment on a terminal: the verdict and why, the arms side by side, the interval drawn in text."""

from __future__ import annotations

from captioner.experiment.analysis import Analysis, Arm
from captioner.experiment.comparing import Comparison
from captioner.experiment.document import Experiment
from captioner.ledger import CHALLENGER, CHAMPION

WIDTH = 41  # of the drawn interval, in characters


def render(experiment: Experiment | None, analysis: Analysis | None) -> str:
    """All of it, a few lines."""
    if experiment is None or analysis is None:
        return "There has been no experiment on this endpoint: captioner experiment start."
    state = f"since {experiment.started}" if experiment.running else f"ended {experiment.ended} ({experiment.outcome})"
    verdict = analysis.verdict
    lines = [
        f"{experiment.id} on {experiment.endpoint}, {state}; {experiment.share:.0%} meet the challenger",
        f"verdict       {verdict.outcome}",
        *(f"              {reason}" for reason in verdict.reasons),
        "",
        f"{'':<13} {'users':>7} {'shown':>7} {'ratings':>8} {'mean':>6} {'corrected':>10} {'errors':>7} {'ms':>6}",
        *(_arm(name, experiment, analysis.arms[name]) for name in (CHAMPION, CHALLENGER)),
        "",
        *_interval(analysis.rating),
    ]
    for one in analysis.guardrails:
        lines.append(f"{one.name:<13} {one.bounds}, limit {one.limit:g}: {'ok' if one.ok else 'HARMED'}")
    ratio = analysis.sample_ratio
    sound = "ok" if verdict.sample_ratio_ok else "WRONG"
    lines.append(f"sample ratio  {ratio.observed} of {ratio.expected:.0f} expected, p = {ratio.p_value:.2g}: {sound}")
    if analysis.bandit:
        lines.append(f"bandit        {analysis.bandit.words}")
    lines += [f"left out      {count}: {reason}" for reason, count in analysis.excluded.items()]
    return "\n".join(lines)


def _arm(name: str, experiment: Experiment, arm: Arm) -> str:
    def number(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    shown = f"{arm.users:>7} {arm.exposures:>7} {arm.ratings:>8} {number(arm.rating, '.2f'):>6}"
    rest = f"{number(arm.corrected, '.1%'):>10} {number(arm.errors, '.1%'):>7} {number(arm.latency_ms, '.0f'):>6}"
    return f"{name + ' ' + experiment.arms[name].version:<13} {shown} {rest}"


def _interval(rating: Comparison) -> list[str]:
    """The interval on a line, with zero marked."""
    if rating.low is None or rating.high is None or rating.difference is None:
        return []
    reach = max(abs(rating.low), abs(rating.high), 0.1)

    def at(value: float) -> int:
        return round((value + reach) / (2 * reach) * (WIDTH - 1))

    line = [" "] * WIDTH
    for column in range(at(rating.low), at(rating.high) + 1):
        line[column] = "─"
    line[at(0.0)] = "│"
    line[at(rating.difference)] = "●"
    words = f"{rating.difference:+.2f} points, between {rating.low:+.2f} and {rating.high:+.2f}"
    return [f"difference    [{''.join(line)}] {words}"]
