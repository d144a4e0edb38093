"""Inference ids: recognised where they were given out, for as long as they are good, and by nobody else."""

from __future__ import annotations

import re

import pytest

from captioner.api.identity import VALID_S, ExpiredId, InferenceIds, UnknownId


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def test_ids_are_what_sagemaker_takes_unique_and_sorted_by_time() -> None:
    clock = Clock()
    ids = InferenceIds(b"secret", "endpoint", clock=clock)
    found = []
    for _ in range(500):
        found.append(ids.new())
        clock.now += 0.001
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{40}", one) for one in found)
    assert len(set(found)) == 500
    later = ids.new()
    clock.now += 3600
    assert later[:8] < ids.new()[:8]


def test_an_id_is_good_for_thirty_days() -> None:
    clock = Clock()
    ids = InferenceIds(b"secret", "endpoint", clock=clock)
    one = ids.new()
    ids.check(one)
    clock.now += VALID_S - 1
    ids.check(one)
    clock.now += 2
    with pytest.raises(ExpiredId):
        ids.check(one)


def test_another_process_with_the_same_secret_knows_it_and_no_other_endpoint_or_secret_does() -> None:
    one = InferenceIds(b"secret", "endpoint").new()
    InferenceIds(b"secret", "endpoint").check(one)
    for stranger in (InferenceIds(b"secret", "other"), InferenceIds(b"other", "endpoint")):
        with pytest.raises(UnknownId):
            stranger.check(one)


def test_nothing_that_was_changed_or_made_up_is_known() -> None:
    ids = InferenceIds(b"secret", "endpoint")
    one = ids.new()
    for at in range(len(one)):
        other = "A" if one[at] != "A" else "B"
        with pytest.raises(UnknownId):
            ids.check(one[:at] + other + one[at + 1 :])
    for made_up in (
        "",
        "x",
        one[:-1],
        one + "A",
        one[:-2],
        "é" * 40,
        "A" * 40,
        "!" * 40,
        one + "=",
        " " + one,
        one + "\n",
    ):
        with pytest.raises(UnknownId):
            ids.check(made_up)
