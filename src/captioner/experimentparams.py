"""The section ``experiment`` of params.yaml: how an A/B test is planned, judged and guarded. All of it has defaults."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from captioner.section import Section

Percent = Annotated[float, Field(gt=0, lt=100)]
Error = Annotated[float, Field(gt=0, lt=0.5)]


class GuardrailParams(Section):
    """What the challenger may cost; shown to cost more, it is rejected whatever its captions are rated."""

    latency_ratio: float = Field(default=1.25, gt=1, description="typical latency, challenger over champion")
    errors: float = Field(default=0.01, gt=0, lt=1, description="more of users' first requests that fail")


class BanditParams(Section):
    """Thompson sampling in the ramp's place, once its last step is reached."""

    liked_from: int = Field(default=4, ge=2, le=5, description="a first rating from which on a user liked the caption")
    floor: float = Field(default=0.1, ge=0.01, lt=0.5, description="share of the users that each variant keeps")


class ExperimentParams(Section):
    """Ratings are points from 1 to 5; what is compared is a user's first one."""

    alpha: Error = Field(default=0.05, description="chance of a wrong promotion at any look, when nothing differs")
    effect: float = Field(default=0.2, gt=0, le=4, description="rating points that are worth a promotion")
    power: float = Field(default=0.8, ge=0.5, lt=1, description="chance to see that effect at the planned size")
    deviation: float = Field(default=1.2, gt=0, le=2, description="standard deviation of users' ratings, for the plan")
    min_hours: float = Field(default=24.0, ge=0, description="no verdict before; a guardrail's excepted")
    min_users: int = Field(default=100, ge=50, description="who rated, of each variant, before any interval is shown")
    srm_alpha: Error = Field(default=0.001, description="chance of a false alarm of the sample ratio, at any look")
    ramp: tuple[Percent, ...] = Field(default=(5.0, 10.0, 25.0, 50.0), min_length=1)
    step_hours: float = Field(default=1.0, ge=0, description="how long each step of the ramp lasts at least")
    guardrails: GuardrailParams = GuardrailParams()
    bandit: BanditParams | None = Field(default=None, description="left out: the ramp's last share stays")
    human: bool = Field(default=False, description="a person confirms each promotion and each rejection")

    @model_validator(mode="after")
    def _the_ramp_goes_up(self) -> ExperimentParams:
        if list(self.ramp) != sorted(set(self.ramp)):
            raise ValueError("ramp must go up: users move from champion to challenger only")
        return self
