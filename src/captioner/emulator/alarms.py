"""When an alarm is in ALARM: CloudWatch's rules for data points, missing ones among them. Pure: no clock, no store.

The rules and the examples that the tests hold are those of the CloudWatch user guide, "Configuring how CloudWatch
alarms treat missing data".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

OK, ALARM, INSUFFICIENT = "OK", "ALARM", "INSUFFICIENT_DATA"
EXTRA = 2  # periods looked at beyond the evaluation periods, as the guide's examples do
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": lambda value, threshold: value >= threshold,
    "GreaterThanThreshold": lambda value, threshold: value > threshold,
    "LessThanThreshold": lambda value, threshold: value < threshold,
    "LessThanOrEqualToThreshold": lambda value, threshold: value <= threshold,
}
MISSING = ("missing", "ignore", "breaching", "notBreaching")


def judge(breaching: Sequence[bool | None], periods: int, to_alarm: int, missing: str, state: str) -> str:
    """The alarm's next state.

    `breaching` has the last `periods` + EXTRA periods, oldest first; None is a period without data. `to_alarm` of
    `periods` must breach; `missing` is TreatMissingData; `state` is the present state.
    """
    real = [one for one in breaching if one is not None]
    if len(real) >= periods:
        return ALARM if sum(real[-periods:]) >= to_alarm else OK
    bad = sum(real)
    if missing == "breaching":
        return ALARM if bad + periods - len(real) >= to_alarm else OK
    if missing == "notBreaching":
        return ALARM if bad >= to_alarm else OK
    if real and (bad >= to_alarm or bad < len(real)):
        return ALARM if bad >= to_alarm else OK
    if missing == "ignore":
        return state
    # Nothing but breaching points, and too few: an alarm only when the oldest is old enough not to be premature.
    oldest = next((age for age, one in zip(range(len(breaching), 0, -1), breaching, strict=True) if one), 0)
    return ALARM if real and oldest >= to_alarm else INSUFFICIENT
