"""Assignment: sticky without a table, in proportion, and moving one way only when the share grows."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from captioner.experiment.assignment import assigned, place
from captioner.ledger import CHALLENGER, CHAMPION
from tests.experiment.worlds import running

USERS = [f"user-{number}" for number in range(20_000)]


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5])
def test_users_are_shared_out_in_proportion(share: float) -> None:
    met = sum(assigned(running(share), user) == CHALLENGER for user in USERS)
    # 4 standard deviations of the binomial.
    assert abs(met - share * len(USERS)) < 4 * (len(USERS) * share * (1 - share)) ** 0.5


def test_nobody_and_everybody() -> None:
    assert {assigned(running(0.0), user) for user in USERS} == {CHAMPION}
    assert {assigned(running(1.0), user) for user in USERS} == {CHALLENGER}


def test_a_ramp_moves_users_from_champion_to_challenger_only() -> None:
    steps = [[assigned(running(share), user) for user in USERS] for share in (0.05, 0.1, 0.25, 0.5)]
    moves = {(was, now) for before, after in itertools.pairwise(steps) for was, now in zip(before, after, strict=True)}
    assert moves == {(CHAMPION, CHAMPION), (CHALLENGER, CHALLENGER), (CHAMPION, CHALLENGER)}


@pytest.mark.parametrize("other", [{"id": "e2"}, {"salt": "pepper"}])
def test_another_experiment_or_salt_shares_them_out_anew(other: dict[str, str]) -> None:
    one, two = running(0.5), dataclasses.replace(running(0.5), **other)
    both = sum(assigned(one, user) == assigned(two, user) for user in USERS)
    assert abs(both - len(USERS) / 2) < 4 * (len(USERS) / 4) ** 0.5


def test_places_are_where_they_were() -> None:
    # A changed hash would move every user of a running experiment.
    assert place("salt", "e1", "user-1") == 0.03505089435139186
    assert place("salt", "e1", "1:user-1") != place("salt", "e11", ":user-1")
