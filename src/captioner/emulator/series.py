"""CloudWatch's numbers: data points by metric, and their statistics by period.

Knows nothing of endpoints, alarms or HTTP. Everything is in memory; what is older than ``KEPT`` points of a metric is
forgotten.
"""

from __future__ import annotations

import math
import re
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

KEPT = 20_000  # points a metric: two weeks of minutes
STATISTICS = ("SampleCount", "Sum", "Average", "Minimum", "Maximum")
_PERCENTILE = re.compile(r"p(\d{1,2}(\.\d{1,10})?|100)")
Point = tuple[float, float]  # (start of the period in seconds since the epoch, value)


@dataclass(frozen=True)
class Metric:
    """What a series is known by. Dimensions belong to the name: with others it is another metric."""

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, namespace: str, name: str, dimensions: Iterable[tuple[str, str]]) -> Metric:
        return cls(namespace, name, tuple(sorted(dimensions)))


@dataclass
class Datum:
    """What was measured at one moment or in one interval that began then: values with how often each was seen.

    `whole` is False when only count, sum, least and most are known: such points have no percentiles.
    """

    at: float
    unit: str | None = None
    count: float = 0
    total: float = 0
    least: float = math.inf
    most: float = -math.inf
    values: Counter[float] = field(default_factory=Counter)
    whole: bool = True

    def add(self, value: float, times: float = 1) -> None:
        self.count += times
        self.total += value * times
        self.least, self.most = min(self.least, value), max(self.most, value)
        # Three digits are enough for a percentile and keep a busy minute small.
        self.values[float(f"{value:.3g}")] += times  # type: ignore[assignment]

    def include(self, other: Datum) -> None:
        self.count += other.count
        self.total += other.total
        self.least, self.most = min(self.least, other.least), max(self.most, other.most)
        self.values.update(other.values)
        self.whole = self.whole and other.whole


class Series:
    """All metrics. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._points: dict[Metric, deque[Datum]] = {}

    def put(self, metric: Metric, datum: Datum) -> None:
        with self._lock:
            self._points.setdefault(metric, deque(maxlen=KEPT)).append(datum)

    def metrics(self) -> list[Metric]:
        with self._lock:
            return list(self._points)

    def points(
        self, metric: Metric, statistic: str, start: float, end: float, period: float, unit: str | None = None
    ) -> list[Point]:
        """The statistic of each period that begins in [start, end) and has data, oldest first."""
        value = statistic_of(statistic)
        found = ((at, value(whole)) for at, whole in self.periods(metric, start, end, period, unit))
        return [(at, one) for at, one in found if one is not None]

    def periods(
        self, metric: Metric, start: float, end: float, period: float, unit: str | None = None
    ) -> list[tuple[float, Datum]]:
        """What is known of each period that begins in [start, end) and has data. Periods are aligned to the clock."""
        first = math.floor(start / period + 1e-6) * period
        found: dict[float, Datum] = {}
        with self._lock:
            for one in self._points.get(metric, ()):
                # A point at the very edge belongs to the period that begins there, also after rounding.
                at = math.floor(one.at / period + 1e-6) * period
                if first <= at < end and unit in (None, one.unit):
                    found.setdefault(at, Datum(at, one.unit)).include(one)
        return sorted(found.items())


def is_statistic(name: str) -> bool:
    return name in STATISTICS or _PERCENTILE.fullmatch(name) is not None


def statistic_of(name: str) -> Callable[[Datum], float | None]:
    """How `name` is computed. Raises ValueError for one that is not known here."""
    simple: dict[str, Callable[[Datum], float | None]] = {
        "SampleCount": lambda one: one.count,
        "Sum": lambda one: one.total,
        "Average": lambda one: one.total / one.count if one.count else None,
        "Minimum": lambda one: one.least,
        "Maximum": lambda one: one.most,
    }
    if name in simple:
        return simple[name]
    if not is_statistic(name):
        raise ValueError(name)
    share = float(name[1:]) / 100
    return lambda one: percentile(one, share)


def percentile(one: Datum, share: float) -> float | None:
    """The least value that at least `share` of the samples do not exceed; None when only their sum is known."""
    if not one.whole or not one.count:
        return one.least if one.least == one.most else None
    left = share * one.count
    for value in sorted(one.values):
        left -= one.values[value]
        if left <= 1e-9:
            return value
    return one.most
