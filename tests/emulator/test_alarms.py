"""The state of an alarm from its data points: the examples of the CloudWatch user guide, and what follows from them."""

import pytest

from captioner.emulator.alarms import EXTRA, judge

NOW = "as it was"


def points(text: str) -> list[bool | None]:
    return [{"0": False, "X": True, "-": None}[one] for one in text.split()]


# The guide's two tables: 5 data points are looked at, 3 evaluated; 3 or 2 of them make an alarm.
@pytest.mark.parametrize(
    ("to_alarm", "text", "missing", "ignore", "breaching", "not_breaching"),
    [
        (3, "0 - X - X", "OK", "OK", "OK", "OK"),
        (3, "0 - - - -", "OK", "OK", "OK", "OK"),
        (3, "- - - - -", "INSUFFICIENT_DATA", NOW, "ALARM", "OK"),
        (3, "0 X X - X", "ALARM", "ALARM", "ALARM", "ALARM"),
        (3, "- - - - X", "INSUFFICIENT_DATA", NOW, "ALARM", "OK"),
        (3, "X - - - -", "ALARM", NOW, "ALARM", "OK"),
        (2, "0 - X - X", "ALARM", "ALARM", "ALARM", "ALARM"),
        (2, "0 0 X 0 X", "ALARM", "ALARM", "ALARM", "ALARM"),
        (2, "0 - X - -", "OK", "OK", "ALARM", "OK"),
        (2, "- - - - 0", "OK", "OK", "ALARM", "OK"),
        (2, "- - - - X", "INSUFFICIENT_DATA", NOW, "ALARM", "OK"),
    ],
)
def test_the_guides_examples(
    to_alarm: int, text: str, missing: str, ignore: str, breaching: str, not_breaching: str
) -> None:
    found = [judge(points(text), 3, to_alarm, how, NOW) for how in ("missing", "ignore", "breaching", "notBreaching")]
    assert found == [missing, ignore, breaching, not_breaching]


@pytest.mark.parametrize(("text", "state"), [("- - X", "ALARM"), ("- - 0", "OK"), ("X - -", "ALARM"), ("X 0 -", "OK")])
def test_one_of_one_takes_the_newest_point_that_there_is(text: str, state: str) -> None:
    assert len(points(text)) == 1 + EXTRA
    assert judge(points(text), 1, 1, "notBreaching", "OK") == state


def test_an_alarm_ends_when_too_few_points_breach() -> None:
    assert judge(points("X X X X X"), 3, 2, "missing", "OK") == "ALARM"
    assert judge(points("X X X 0 0"), 3, 2, "missing", "ALARM") == "OK"
