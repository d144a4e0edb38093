"""Metric math: what alarms on rates need, and a refusal of the rest before it would count."""

import pytest

from captioner.emulator.expressions import BadExpression, Expression, Values

PERIODS = [0.0, 60.0, 120.0]
KNOWN: dict[str, Values] = {"a": {0.0: 1.0, 60.0: 2.0}, "b": {60.0: 4.0, 120.0: 0.0}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a", {0: 1, 60: 2}),
        ("100 * a / 4", {0: 25, 60: 50}),
        ("a + b", {60: 6}),
        ("a / b", {60: 0.5}),
        ("1 / b", {60: 0.25}),  # nothing over nothing is no point, not an error
        ("-(a - 3)", {0: 2, 60: 1}),
        ("SUM([a, b])", {0: 1, 60: 6, 120: 0}),
        ("MAX([a, b])", {0: 1, 60: 4, 120: 0}),
        ("AVG(METRICS())", {0: 1, 60: 3, 120: 0}),
        ("SUM(a)", {0: 3, 60: 3, 120: 3}),
        ("FILL(a, 0)", {0: 1, 60: 2, 120: 0}),
        ("FILL(a, 0) + FILL(b, 0)", {0: 1, 60: 6, 120: 0}),
        ("a > 1", {0: 0, 60: 1}),
        ("IF(b > 1, a / b, 0)", {60: 0.5, 120: 0}),
        ("ABS(a - 2)", {0: 1, 60: 0}),
    ],
)
def test_values(text: str, value: Values) -> None:
    assert Expression(text).value(KNOWN, PERIODS) == value


@pytest.mark.parametrize(
    "text",
    [
        "a +",
        "ANOMALY_DETECTION_BAND(a)",
        "SEARCH('x')",
        "RATE(a)",
        "a ** 2",
        "FILL(a, REPEAT)",
        "SUM([a, 1])",
        "a.b",
        "SUM(a, b)",
    ],
)
def test_what_is_not_known_is_refused_when_it_is_read(text: str) -> None:
    with pytest.raises(BadExpression):
        Expression(text)


def test_several_results_are_not_one() -> None:
    for text in ("[a, b]", "METRICS()", "METRICS() + 1"):
        with pytest.raises(BadExpression):
            Expression(text).value(KNOWN, PERIODS)


def test_ids_are_known() -> None:
    assert Expression("SUM([a, c]) / b").ids == {"a", "b", "c"}
