"""Taking turns, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest

from benchmarks.rounds import Ratio, race, seconds_per_unit, take_turns


def test_contestants_take_turns() -> None:
    played: list[str] = []

    def player(name: str) -> Callable[[], int]:
        return lambda: played.append(name) or len(played)

    found = take_turns({"a": player("a"), "b": player("b")}, rounds=3)
    assert played == ["a", "b", "a", "b", "a", "b"]
    assert found == {"a": [1, 3, 5], "b": [2, 4, 6]}


def test_a_race_does_not_count_its_warm_up() -> None:
    calls = count(1)
    numbers: list[int] = []

    def work() -> float:
        numbers.append(next(calls))
        return 1.0

    assert len(race({"a": work}, rounds=4)["a"]) == 4
    assert numbers == [1, 2, 3, 4, 5]
    assert len(race({"a": work}, rounds=4, warm_up=False)["a"]) == 4


def test_a_cost_is_seconds_for_a_unit() -> None:
    clock = iter([10.0, 16.0])
    assert seconds_per_unit(lambda: 3.0, lambda: next(clock))() == 2.0


def test_a_ratio_is_the_median_of_the_rounds_ratios_not_the_ratio_of_medians() -> None:
    ratio = Ratio.of(ours=[1.0, 2.0, 10.0], peers=[8.0, 6.0, 20.0])
    assert ratio == Ratio(median=3.0, min=2.0, max=8.0)


@pytest.mark.parametrize(("ours", "peers"), [([1.0], [1.0, 2.0]), ([], []), ([0.0], [1.0]), ([1.0], [-1.0])])
def test_rounds_that_do_not_pair_up_are_refused(ours: list[float], peers: list[float]) -> None:
    with pytest.raises(ValueError, match=r"rounds|cost"):
        Ratio.of(ours, peers)
