"""The ledger's entries: there and back as JSON, what changed in words, and what a rollback restores."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from captioner.errors import BadData, BadInput
from captioner.ledger import (
    Entry,
    Model,
    Served,
    Serving,
    Snapshot,
    Verified,
    entry_of,
    judged_in,
    render,
    tag_of,
    to_roll_back_to,
)


def moment(champion: str | None, challenger: str | None = None, share: float = 0.1, served: bool = True) -> Snapshot:
    held = {"champion": champion, "challenger": challenger}
    aliases = {alias: Model(version, f"digest-{version}") for alias, version in held.items() if version}
    if not served:
        return Snapshot(aliases)
    weights = {"champion": 1 - share if challenger else 1.0, "challenger": share}
    variants = {alias: Served(one.version, one.digest, weights[alias]) for alias, one in aliases.items()}
    return Snapshot(aliases, Serving("InService", f"config-{champion}-{challenger}", variants))


def entry(number: int, action: str, before: Snapshot, after: Snapshot, why: str = "") -> Entry:
    return Entry(f"id-{number}", "2026-01-02T03:04:05+00:00", "ada@host", action, why, before, after, number)


HISTORY = [
    entry(1, "register", Snapshot(), moment("1", "2", served=False)),
    entry(2, "deploy", moment("1", "2", served=False), moment("1", "2")),
    entry(3, "promote", moment("1", "2"), moment("2"), "fewer mistakes on dogs"),
    entry(4, "register", moment("2"), moment("2", "3")),
]


def test_an_entry_survives_json() -> None:
    one = replace(HISTORY[2], verified={"champion": Verified(6, "2", "digest-2")}, evidence={"run": "abc"}, note="n")
    assert entry_of(json.loads(json.dumps(one.to_json()))) == one
    assert entry_of(json.loads(json.dumps(HISTORY[0].to_json()))) == HISTORY[0]


@pytest.mark.parametrize("value", [{}, [], {"number": 1}, {**HISTORY[0].to_json(), "extra": 1}])
def test_something_else_is_no_entry(value: object) -> None:
    with pytest.raises(BadData, match="no entry of the ledger"):
        entry_of(value)


def test_changes_are_told_in_a_few_words() -> None:
    assert HISTORY[0].changes == ["champion none → 1", "challenger none → 2"]
    assert HISTORY[1].changes == [
        "endpoint created",
        "challenger serves none → 2 (0.1)",
        "champion serves none → 1 (0.9)",
    ]
    assert "champion 1 → 2" in HISTORY[2].changes
    assert "challenger 2 → none" in HISTORY[2].changes
    ramp = entry(5, "ramp", moment("2", "3"), moment("2", "3", share=0.5))
    assert ramp.changes == ["challenger serves 3 (0.1) → 3 (0.5)", "champion serves 2 (0.9) → 2 (0.5)"]
    config = Snapshot(moment("2").aliases, replace(moment("2").endpoint, config="other"))
    assert entry(6, "deploy", moment("2"), config).changes == ["config config-2-None → other"]
    assert HISTORY[2].summary == "champion 1 → 2; challenger 2 → none; serves champion 2 (1)"
    assert ramp.summary == "serves challenger 3 (0.5), champion 2 (0.5)"
    assert HISTORY[0].summary == "champion none → 1; challenger none → 2"
    gone = Snapshot(moment("2").aliases, Serving("none"))
    assert entry(7, "down", moment("2"), gone).changes == ["endpoint deleted", "champion serves 2 (1) → none"]


def test_what_was_not_looked_at_differs_from_nothing() -> None:
    assert moment("1").same_endpoint(moment("1", served=False))
    assert not moment("1").same_endpoint(moment("2"))
    # AWS keeps weights in single precision.
    assert moment("1", "2", 0.1).same_endpoint(moment("1", "2", 0.1 + 1e-9))


def test_a_rollback_restores_what_was_before_the_champion_last_changed() -> None:
    state, called = to_roll_back_to(HISTORY, None)
    assert (state, called) == (moment("1", "2"), "as it was before entry 3 (promote)")


def test_a_rollback_to_an_entry_restores_what_it_left() -> None:
    assert to_roll_back_to(HISTORY, 2)[0] == moment("1", "2")
    assert to_roll_back_to(HISTORY, 4)[0] == moment("2", "3")


def test_there_may_be_nothing_to_roll_back() -> None:
    with pytest.raises(BadInput, match="has never changed"):
        to_roll_back_to([], None)
    with pytest.raises(BadInput, match="There was no champion"):
        to_roll_back_to(HISTORY[:2], None)
    with pytest.raises(BadInput, match="no entry 9; it has 1 to 4"):
        to_roll_back_to(HISTORY, 9)
    with pytest.raises(BadInput, match="no entry 1; it has none"):
        to_roll_back_to([], 1)


def test_a_change_that_was_taken_back_is_no_change_of_champion() -> None:
    failed = replace(entry(5, "promote", moment("2", "3"), moment("2", "3")), failed="it did not start")
    assert to_roll_back_to([*HISTORY, failed], None)[1] == "as it was before entry 3 (promote)"
    assert "taken back: it did not start" in render([failed])


def test_the_gate_report_is_found_by_version() -> None:
    first, later = (replace(HISTORY[n], evidence={"gate report": {v: {}}}) for n, v in ((0, "2"), (3, "3")))
    assert judged_in([first, *HISTORY[1:3], later], "2") is first
    assert judged_in([first, *HISTORY[1:3], later], "8") is None


def test_the_table_is_newest_last_and_says_what_waits() -> None:
    lines = render([*HISTORY, replace(HISTORY[0], number=0)]).splitlines()
    assert lines[0].split() == ["#", "when", "(UTC)", "who", "what", "why", "changes"]
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "3", "4", "waits"]
    assert "fewer mistakes on dogs" in lines[3]
    starts = {line.index("ada@host") for line in lines[1:]}
    assert len(starts) == 1
    assert "is empty" in render([])


def test_a_tag_is_one_short_line() -> None:
    told = tag_of(replace(HISTORY[2], why="because " * 200))
    assert told.startswith("promote by ada@host, 2026-01-02T03:04:05+00:00 (champion 1 → 2; challenger 2 → none")
    assert len(told) == 500
