"""Statistics of metrics by period: exact on known values."""

import pytest

from captioner.emulator.series import Datum, Metric, Series, is_statistic

METRIC = Metric.of("n", "m", [("b", "2"), ("a", "1")])


def measured(series: Series, at: float, *values: float, unit: str = "None") -> None:
    datum = Datum(at, unit)
    for value in values:
        datum.add(value)
    series.put(METRIC, datum)


@pytest.mark.parametrize(
    ("statistic", "value"),
    [("SampleCount", 4), ("Sum", 10), ("Average", 2.5), ("Minimum", 1), ("Maximum", 4), ("p50", 2), ("p75", 3)],
)
def test_the_statistics_of_four_values(statistic: str, value: float) -> None:
    series = Series()
    measured(series, 120, 4, 1)
    measured(series, 130, 3, 2)
    assert series.points(METRIC, statistic, 120, 180, 60) == [(120, value)]


def test_a_percentile_is_the_least_value_that_covers_its_share() -> None:
    series = Series()
    measured(series, 0, *range(1, 101))
    found = {name: series.points(METRIC, name, 0, 60, 60)[0][1] for name in ("p0", "p1", "p99", "p99.9", "p100")}
    assert found == {"p0": 1, "p1": 1, "p99": 99, "p99.9": 100, "p100": 100}
    # Three digits are kept, so it is right to half a per cent; the sum is exact.
    series = Series()
    measured(series, 0, 123_456)
    assert series.points(METRIC, "p99", 0, 60, 60)[0][1] == pytest.approx(123_456, rel=0.005)
    assert series.points(METRIC, "Sum", 0, 60, 60) == [(0, 123_456)]


def test_statistics_alone_have_no_percentile_unless_there_is_one_value() -> None:
    series = Series()
    series.put(METRIC, Datum(0, count=2, total=5, least=2, most=3, whole=False))
    assert series.points(METRIC, "p99", 0, 60, 60) == []
    series.put(METRIC, Datum(60, count=2, total=6, least=3, most=3, whole=False))
    assert series.points(METRIC, "p99", 0, 120, 60) == [(60, 3)]


def test_periods_are_aligned_and_end_before_the_end() -> None:
    series = Series()
    for at in (59, 60, 119, 120):
        measured(series, at, 1)
    assert series.points(METRIC, "Sum", 61, 120, 60) == [(60, 2)]
    assert series.points(METRIC, "Sum", 0, 121, 60) == [(0, 1), (60, 2), (120, 1)]


def test_points_at_the_edges_of_short_periods_stay_in_them() -> None:
    series, period = Series(), 0.6
    for index in range(1000, 1100):
        measured(series, index * period, 1)
    found = series.points(METRIC, "Sum", 1000 * period, 1100 * period, period)
    assert found == [(index * period, 1) for index in range(1000, 1100)]


def test_dimensions_in_any_order_are_the_same_metric_and_others_are_not() -> None:
    series = Series()
    measured(series, 0, 1)
    assert series.points(Metric.of("n", "m", [("a", "1"), ("b", "2")]), "Sum", 0, 60, 60) == [(0, 1)]
    assert series.points(Metric.of("n", "m", [("a", "1")]), "Sum", 0, 60, 60) == []


def test_another_unit_is_not_counted() -> None:
    series = Series()
    measured(series, 0, 1, unit="Seconds")
    assert series.points(METRIC, "Sum", 0, 60, 60, unit="Bytes") == []
    assert series.points(METRIC, "Sum", 0, 60, 60, unit="Seconds") == [(0, 1)]


def test_what_is_a_statistic() -> None:
    assert all(is_statistic(name) for name in ("Sum", "p0", "p99", "p99.95", "p100"))
    assert not any(is_statistic(name) for name in ("sum", "p101", "tm99", "p", "IQM", ""))
