"""Taking turns: A, B, A, B …, so that whatever else the machine does falls on both. Knows nothing of what is timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

ROUNDS = 5
MANY = 11  # where other users of the machine move a round by a quarter, and a round is short

T = TypeVar("T")


@dataclass(frozen=True)
class Ratio:
    """How many times better we were, over the rounds: above 1 is better."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, ours: Sequence[float], peers: Sequence[float]) -> Ratio:
        """The peer's cost over ours, round by round; a cost is seconds for a unit of work, or anything that should be
        small.

        Raises ValueError for rounds that do not pair up, or a cost that is not positive.
        """
        if len(ours) != len(peers) or not ours:
            raise ValueError(f"{len(ours)} rounds of ours and {len(peers)} of the peer's do not pair up")
        if min(*ours, *peers, 1.0) <= 0:
            raise ValueError("a cost must be more than nothing")
        ratios = [peer / our for our, peer in zip(ours, peers, strict=True)]
        return cls(statistics.median(ratios), min(ratios), max(ratios))


def take_turns(contestants: Mapping[str, Callable[[], T]], rounds: int = ROUNDS) -> dict[str, list[T]]:
    """What each contestant returned in each round; all of them play a round before the next begins."""
    found: dict[str, list[T]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, play in contestants.items():
            found[name].append(play())
    return found


def seconds_per_unit(work: Callable[[], float], clock: Callable[[], float] = time.perf_counter) -> Callable[[], float]:
    """`work` does something and returns how many units it was; the result returns the seconds for one of them."""

    def timed() -> float:
        started = clock()
        units = work()
        return (clock() - started) / units

    return timed


def race(
    contestants: Mapping[str, Callable[[], float]], rounds: int = ROUNDS, warm_up: bool = True
) -> dict[str, list[float]]:
    """Seconds for a unit of work, by contestant and round. One round before them is not counted, if `warm_up`."""
    timed = {name: seconds_per_unit(work) for name, work in contestants.items()}
    if warm_up:
        take_turns(timed, 1)
    return take_turns(timed, rounds)


def once(work: Callable[[], object]) -> float:
    """The seconds of one call: a cold start."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
