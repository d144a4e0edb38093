"""The section ``experiment`` of params.yaml: what an experiment on users must show, and how it is let in.

What is decided before an experiment starts is copied into its document (``design``) and holds until it ends: a changed
params.yaml changes the next experiment only.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from captioner.section import Section

Percent = Annotated[float, Field(gt=0, le=99)]
Level = Annotated[float, Field(gt=0, le=0.2)]


class GuardrailParams(Section):
    """What the challenger must not be shown to do to users, whatever they say of its captions."""

    latency_ratio: float = Field(default=1.5, gt=1, description="challenger's latency / champion's, geometric means")
    errors: float = Field(default=0.02, gt=0, lt=1, description="share of failed requests more than the champion's")


class ExperimentParams(Section):
    metric: Literal["rating"] = Field(default="rating", description="mean over users of their mean rating, 1 to 5")
    alpha: Level = Field(default=0.05, description="chance of a wrong interval at any look, however many")
    effect: float = Field(default=0.2, gt=0, le=4, description="rating points: the least difference worth having")
    power: float = Field(default=0.8, ge=0.5, lt=1, description="chance to find that difference at the planned size")
    rating_sd: float = Field(default=1.2, gt=0, le=2, description="of users' mean ratings, for the plan only")
    min_hours: float = Field(default=24.0, ge=0, description="before which nothing is promoted")
    min_users: int = Field(default=30, ge=10, description="who rated, in each arm, before there is an interval")
    srm_alpha: Level = Field(default=0.01, description="chance of a false alarm of the sample ratio check, at any look")
    ramp: tuple[Percent, ...] = Field(
        default=(5, 10, 25, 50), min_length=1, description="the challenger's share, step by step"
    )
    step_hours: float = Field(default=1.0, ge=0, description="that each step of the ramp lasts")
    guardrails: GuardrailParams = GuardrailParams()
    slices: tuple[str, ...] = Field(default=("source", "type"), description="facts of exposures to slice by")
    human: bool = Field(default=False, description="whether a person confirms a promotion or a rejection")
    bandit: bool = Field(default=False, description="Thompson sampling chooses the share after the ramp")
    bandit_reward: int = Field(default=4, ge=2, le=5, description="the least rating that is a success for the bandit")
    bandit_floor: float = Field(default=0.1, ge=0.05, le=0.5, description="share that each arm keeps under the bandit")

    @model_validator(mode="after")
    def _ramp_rises(self) -> ExperimentParams:
        if list(self.ramp) != sorted(set(self.ramp)):
            raise ValueError(f"ramp must rise from step to step, so that users move one way only: {list(self.ramp)}")
        return self
