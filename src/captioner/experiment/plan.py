"""How many users an experiment needs, and how long that takes, before it starts.

The rule planned for is the one that judges (`sequences.py`), so the plan pays for looking at any time. Pure; knows
nothing of what was seen.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from captioner.errors import BadData, BadInput
from captioner.experiment.sequences import planned_information
from captioner.experimentparams import ExperimentParams

_HOURS = 24.0


@dataclass(frozen=True)
class Plan:
    """What finding `effect` takes. Users are those who rate; `days` is None when nobody said how many come.

    `single_look_users`: what a test that is looked at once would need: the rest is the price of looking at any time.
    """

    effect: float
    alpha: float
    power: float
    rating_sd: float
    share: float
    users: int
    single_look_users: int
    users_per_day: float | None
    days: float | None

    def render(self) -> str:
        """For a terminal."""
        lines = [
            f"A difference of {self.effect:g} rating points is found with {self.power:.0%} power, "
            f"at most {self.alpha:.0%} false alarms at any look, by {self.users:,} users who rate",
            f"({math.ceil(self.users * self.share):,} of them meet the challenger, at a share of {self.share:.0%}; "
            f"users' mean ratings vary by {self.rating_sd:g}). A test looked at once would need "
            f"{self.single_look_users:,}.",
        ]
        if self.days is not None:
            lines.append(f"With {self.users_per_day:,.0f} users a day who rate, ramp included: {self.days:.1f} days.")
        return "\n".join(lines)


def plan(params: ExperimentParams, share: float | None = None, users_per_day: float | None = None) -> Plan:
    """The plan for a final `share` of the challenger (default: the ramp's last) and so many new users who rate a day.

    Raises BadInput for a share or a number of users that cannot be.
    """
    last = params.ramp[-1] / 100 if share is None else share
    if not 0 < last < 1:
        raise BadInput(f"The challenger's share must lie between 0 and 1, not {last:g}.")
    if users_per_day is not None and users_per_day <= 0:
        raise BadInput("The number of users a day must be more than 0.")
    needed = planned_information(params.alpha, params.effect, params.power)
    once = _single_look(params.alpha, params.effect, params.power)
    variance = params.rating_sd**2
    days = None if users_per_day is None else _days(params, last, users_per_day, needed * variance)
    return Plan(
        params.effect,
        params.alpha,
        params.power,
        params.rating_sd,
        last,
        math.ceil(needed * variance / (last * (1 - last))),
        math.ceil(once * variance / (last * (1 - last))),
        users_per_day,
        days,
    )


def design(params: ExperimentParams, planned: Plan) -> dict[str, Any]:
    """What goes into an experiment's document: what was decided, and what was planned for it."""
    return {**params.model_dump(mode="json"), **dataclasses.asdict(planned)}


def decided(written: Mapping[str, Any], params: ExperimentParams) -> ExperimentParams:
    """The params that hold for an experiment with the design `written`: its own, what it does not say from `params`.

    Raises BadData for a design that holds no params.
    """
    own = {name: _tuple(written[name]) for name in ExperimentParams.model_fields if name in written}
    try:
        return ExperimentParams.model_validate({**params.model_dump(), **own})
    except ValidationError as error:
        raise BadData(
            f"The experiment's design is none: {error.errors()[0]['loc']} {error.errors()[0]['msg']}."
        ) from None


def _days(params: ExperimentParams, share: float, per_day: float, effective: float) -> float:
    """Until users have n share (1 - share) = `effective` in sum over the ramp's steps and the time after it."""
    hours, left = 0.0, effective
    for percent in params.ramp:
        step = percent / 100
        if step >= share:
            break
        rate = per_day / _HOURS * step * (1 - step)
        if rate * params.step_hours >= left:
            return max((hours + left / rate), params.min_hours) / _HOURS
        hours, left = hours + params.step_hours, left - rate * params.step_hours
    hours += left / (per_day / _HOURS * share * (1 - share))
    return max(hours, params.min_hours) / _HOURS


def _single_look(alpha: float, effect: float, power: float) -> float:
    from statistics import NormalDist

    quantile = NormalDist().inv_cdf
    return float((quantile(1 - alpha / 2) + quantile(power)) ** 2 / effect**2)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
