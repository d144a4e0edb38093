"""MetricDataQueries, in GetMetricData and in alarms: metrics with a statistic, and math over them.

Knows the series; knows nothing of HTTP or of alarms' states.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from captioner.emulator.expressions import BadExpression, Expression, Values
from captioner.emulator.series import Metric, Series, is_statistic

SHORT_PERIODS = (1, 5, 10, 20, 30)


class BadQuery(ValueError):
    """A query that CloudWatch would refuse, or that the local one cannot answer; the message says why."""


def metric(described: Mapping[str, Any]) -> Metric:
    """From the members Namespace, MetricName and Dimensions."""
    named = ((one["Name"], one["Value"]) for one in described.get("Dimensions") or [])
    return Metric.of(described["Namespace"], described["MetricName"], named)


def check_statistic(name: str) -> None:
    """Raises BadQuery."""
    if not is_statistic(name):
        raise BadQuery(f"The local CloudWatch has no statistic {name}: it knows the simple ones and percentiles (p99).")


def check_period(period: int) -> None:
    """Raises BadQuery."""
    if period not in SHORT_PERIODS and (period <= 0 or period % 60):
        raise BadQuery(f"A period is {', '.join(map(str, SHORT_PERIODS))} or a multiple of 60 seconds; got {period}.")


def check(queries: Sequence[Mapping[str, Any]]) -> None:
    """Raises BadQuery unless `evaluate` can answer these."""
    known = [one["Id"] for one in queries]
    if len(set(known)) < len(known):
        raise BadQuery(f"The ids of queries must be unique; got {', '.join(known)}.")
    for one in queries:
        if bool(one.get("MetricStat")) == bool(one.get("Expression")):
            raise BadQuery(f"The query {one['Id']} needs either MetricStat or Expression.")
        if one.get("MetricStat"):
            check_statistic(one["MetricStat"]["Stat"])
            check_period(one["MetricStat"]["Period"])
        else:
            _read(one, known)
    if not any(one.get("MetricStat") for one in queries):
        raise BadQuery("At least one query needs a MetricStat.")


def period_of(queries: Sequence[Mapping[str, Any]]) -> int:
    """The one period of all metrics. Raises BadQuery when there are several."""
    found = {one["MetricStat"]["Period"] for one in queries if one.get("MetricStat")}
    if len(found) != 1:
        raise BadQuery(f"All metrics of an expression need the same period; got {sorted(found)}.")
    return int(found.pop())


def evaluate(
    queries: Sequence[Mapping[str, Any]], series: Series, start: float, end: float, scale: float = 1.0
) -> dict[str, Values]:
    """The values of each query by period. `scale` shortens the periods: see ``delays``. Raises BadQuery."""
    found: dict[str, Values] = {}
    for one in queries:
        if wanted := one.get("MetricStat"):
            points = series.points(
                metric(wanted["Metric"]), wanted["Stat"], start, end, wanted["Period"] * scale, wanted.get("Unit")
            )
            found[one["Id"]] = dict(points)
    waiting = {one["Id"]: _read(one, [query["Id"] for query in queries]) for one in queries if one.get("Expression")}
    if not waiting:
        return found
    period = period_of(queries) * scale
    first, last = math.floor(start / period + 1e-6), math.ceil(end / period - 1e-6)
    periods = [index * period for index in range(first, last)]
    measured = dict(found)
    while waiting:
        ready = [name for name, one in waiting.items() if one.ids <= found.keys()]
        if not ready:
            raise BadQuery(f"The expressions {', '.join(waiting)} need each other.")
        for name in ready:
            expression = waiting.pop(name)
            try:
                found[name] = expression.value(measured if expression.all_metrics else found, periods)
            except BadExpression as error:
                raise BadQuery(str(error)) from None
    return found


def _read(one: Mapping[str, Any], known: Sequence[str]) -> Expression:
    try:
        expression = Expression(one["Expression"])
    except BadExpression as error:
        raise BadQuery(str(error)) from None
    unknown = sorted(expression.ids - set(known))
    if unknown:
        raise BadQuery(f"The expression of {one['Id']} names {', '.join(unknown)}; there are {', '.join(known)}.")
    return expression
