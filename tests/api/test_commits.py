"""Feedback: durable before it is answered for, together where it comes together, the same as often as it is sent."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from captioner.api.commits import Commits
from captioner.api.identity import InferenceIds
from captioner.errors import ServiceUnavailable
from captioner.experiment.events import Feedback, event_of, last_words
from tests.api.conftest import NAME, UnsureEvents, World, fault, picture


def feedback(number: int, rating: int = 3) -> Feedback:
    return Feedback(f"id-{number}", f"2026-11-26T10:00:{number:02d}.000Z", "user", rating)


class HeldEvents(UnsureEvents):
    """A log whose first write waits."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.go = threading.Event(), threading.Event()

    def write(self, kind: str, name: str, lines: Sequence[Mapping[str, Any]]) -> str:
        self.entered.set()
        assert self.go.wait(30)
        return super().write(kind, name, lines)


def test_what_comes_during_one_write_is_the_next() -> None:
    events = HeldEvents()
    commits = Commits(events, NAME)
    first = commits.add(feedback(0))
    assert events.entered.wait(30)
    others = [commits.add(feedback(number)) for number in range(1, 20)]
    assert not first.done()
    events.go.set()
    for one in (first, *others):
        one.result(30)
    assert events.writes == 2
    assert [line["inference_id"] for line in events.all("feedback")] == [f"id-{n}" for n in range(20)]


def test_the_same_words_at_once_are_one_line() -> None:
    events = HeldEvents()
    commits = Commits(events, NAME)
    first = commits.add(feedback(0))
    assert events.entered.wait(30)
    others = [commits.add(feedback(1)) for _ in range(5)]
    events.go.set()
    for one in (first, *others):
        one.result(30)
    assert len(events.all("feedback")) == 2


def test_a_failure_is_everybodys_and_the_next_one_is_written() -> None:
    events = UnsureEvents()
    commits = Commits(events, NAME)
    events.down = True
    with pytest.raises(ServiceUnavailable):
        commits.add(feedback(1)).result(30)
    events.down = False
    commits.add(feedback(2)).result(30)
    assert [line["inference_id"] for line in events.all("feedback")] == ["id-2"]


def give(world: World, id: str, **body: Any) -> Any:
    return world.ask(f"/v1/captions/{id}/feedback", json=body, headers={"x-user-id": "ada"})


def test_it_is_in_the_log_when_it_is_answered_and_joins_what_was_shown(world: World) -> None:
    id = world.ask(content=picture(), headers={"x-user-id": "ada"}).json()["inference_id"]
    answer = give(world, id, rating=4, correction="  a red\n square \t")
    assert (answer.status_code, answer.json()) == (
        200,
        {"inference_id": id, "rating": 4, "correction": "a red square"},
    )
    (line,) = world.events.all("feedback")
    (exposure,) = world.exposures()
    assert (line["inference_id"], line["user"]) == (exposure["inference_id"], exposure["user"])
    assert (line["rating"], line["correction"]) == (4, "a red square")


def test_again_changes_nothing_and_answers_the_same(world: World) -> None:
    id = world.ask(content=picture()).json()["inference_id"]
    answers = [give(world, id, rating=2).text for _ in range(3)]
    assert len(set(answers)) == 1
    said = last_words(event_of(Feedback, line) for line in world.events.all("feedback"))
    assert [(one.inference_id, one.rating) for one in said.values()] == [(id, 2)]
    give(world, id, rating=5)
    give(world, id, correction="better")
    said = last_words(event_of(Feedback, line) for line in world.events.all("feedback"))
    assert [(one.rating, one.correction) for one in said.values()] == [(5, "better")]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"rating": None},
        {"rating": 0},
        {"rating": 6},
        {"rating": 3.5},
        {"rating": True},
        {"rating": "3"},
        {"correction": ""},
        {"correction": " \n "},
        {"correction": "x" * 301},
        {"correction": 3},
        {"rating": 3, "stars": 5},
        [3],
    ],
)
def test_what_says_nothing_is_refused(world: World, body: Any) -> None:
    id = world.ask(content=picture()).json()["inference_id"]
    assert fault(world.ask(f"/v1/captions/{id}/feedback", json=body)) == (422, "bad_feedback")
    assert world.events.all("feedback") == []


def test_ids_that_are_unknown_too_old_or_of_nobody_are_refused(tmp_path: Path) -> None:
    now = [1_800_000_000.0]
    world = World(tmp_path, ids=InferenceIds(b"secret", NAME, clock=lambda: now[0]))
    id = world.ask(content=picture()).json()["inference_id"]
    assert give(world, id, rating=1).status_code == 200
    assert fault(give(world, id[:-1] + ("A" if id[-1] != "A" else "B"), rating=1)) == (404, "unknown_id")
    assert fault(give(world, "nonsense", rating=1)) == (404, "unknown_id")
    now[0] += 31 * 24 * 3600
    assert fault(give(world, id, rating=1)) == (410, "expired_id")
    assert len(world.events.all("feedback")) == 1
    refused = world.ask(f"/v1/captions/{world.ask(content=picture()).json()['inference_id']}/feedback", content=b"{")
    assert fault(refused) == (422, "bad_feedback")
    large = world.ask(
        f"/v1/captions/{world.ask(content=picture()).json()['inference_id']}/feedback", content=b"x" * 20_000
    )
    assert fault(large) == (413, "too_large")


def test_a_log_that_does_not_answer_is_not_hidden(world: World) -> None:
    id = world.ask(content=picture()).json()["inference_id"]
    world.events.down = True
    answer = give(world, id, rating=3)
    assert fault(answer) == (503, "unavailable")
    assert answer.headers["retry-after"] == "1"
    world.events.down = False
    assert give(world, id, rating=3).status_code == 200
    assert len(world.events.all("feedback")) == 1


def test_a_hundred_at_once_are_all_written(world: World) -> None:
    ids = [world.ask(content=picture()).json()["inference_id"] for _ in range(5)]

    async def all_at_once() -> list[int]:
        async with world.client() as client:
            sent = [
                client.post(f"/v1/captions/{id}/feedback", json={"rating": 1 + n % 5}, headers={"x-user-id": str(n)})
                for n in range(20)
                for id in ids
            ]
            return [one.status_code for one in await asyncio.gather(*sent)]

    assert asyncio.run(all_at_once()) == [200] * 100
    assert len(world.events.all("feedback")) == 100
