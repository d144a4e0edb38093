"""The log of a running experiment, read once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from captioner.api.lines import Lines, TooMany
from captioner.experiment.document import RUNNING, Experiment
from captioner.experiment.events import Exposure, Feedback, as_line
from tests.api.conftest import ARMS, NAME, World, picture
from tests.fakes import FakeEvents

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
SHARES = {"champion": 0.5, "challenger": 0.5}


def experiment(id: str = "e1") -> Experiment:
    return Experiment(id, NAME, "salt", RUNNING, SHARES, ARMS, "2026-11-26T11:30:00Z")


def exposure(number: int, of: str = "e1") -> dict[str, Any]:
    return as_line(Exposure(f"id-{number}", "2026-11-26T12:00:00Z", "user", "champion", 200, 1.0, experiment=of))


def feedback(number: int) -> dict[str, Any]:
    return as_line(Feedback(f"id-{number}", "2026-11-26T12:00:00Z", "user", rating=3))


class CountedEvents(FakeEvents):
    """Counts the objects that were read."""

    def __init__(self) -> None:
        super().__init__(lambda: NOON)
        self.read: list[str] = []

    def lines(self, key: str) -> Iterator[dict[str, Any]]:
        self.read.append(key)
        return super().lines(key)


def test_only_what_is_new_is_read() -> None:
    events = CountedEvents()
    lines = Lines(events, NAME)
    events.write("exposures", NAME, [exposure(1), exposure(2, of="another"), exposure(3, of="")])
    events.write("feedback", NAME, [feedback(1)])
    shown, said = lines.of(experiment())
    assert [one.inference_id for one in shown] == ["id-1"]
    assert [one.rating for one in said] == [3]
    events.write("exposures", NAME, [exposure(4)])
    for _ in range(3):
        shown, said = lines.of(experiment())
    assert [one.inference_id for one in shown] == ["id-1", "id-4"]
    assert len(events.read) == len(set(events.read)) == 3


def test_another_experiment_begins_anew() -> None:
    events = CountedEvents()
    lines = Lines(events, NAME)
    events.write("exposures", NAME, [exposure(1), exposure(2, of="e2")])
    assert [one.inference_id for one in lines.of(experiment())[0]] == ["id-1"]
    assert [one.inference_id for one in lines.of(experiment("e2"))[0]] == ["id-2"]


def test_what_is_nobodys_line_is_passed_over_and_too_many_are_said() -> None:
    events = CountedEvents()
    events.write("exposures", NAME, [{"nonsense": True}])
    events.write("exposures", NAME, [exposure(1)])
    assert [one.inference_id for one in Lines(events, NAME).of(experiment())[0]] == ["id-1"]
    events.write("exposures", NAME, [exposure(number) for number in range(5)])
    events.write("exposures", NAME, [exposure(9)])
    with pytest.raises(TooMany):
        Lines(events, NAME, most=3).of(experiment())


def test_a_running_experiment_is_shown_with_an_analysis_of_now(world: World) -> None:
    published = world.api.published
    assert published.experiment()["analysis"] is None
    published._look = lambda running: {"verdict": "continue", "of": running.id}
    world.run_experiment()
    status = {"experiment": {"id": "e1"}, "analysis": {"verdict": "old"}, "links": {"mlflow": "http://m"}, "as_of": "x"}
    world.documents.create(f"experiments/{NAME}/status.json", status)
    found = published.experiment()
    assert found["analysis"] == {"verdict": "continue", "of": "e1"}
    assert (found["experiment"]["state"], found["links"]) == ("running", {"mlflow": "http://m"})
    published._look = lambda running: None  # it cannot be made here
    assert published.experiment() == status
    world.run_experiment(state="stopped")
    published._look = lambda running: {"verdict": "not looked at"}
    assert published.experiment() == status


def test_what_users_saw_and_said_is_in_the_analysis_soon(world: World) -> None:
    world.run_experiment(share=0.5, started="2026-11-26T00:00:00Z")
    for user in range(20):
        headers = {"x-user-id": str(user)}
        id = world.ask(content=picture(), headers=headers).json()["inference_id"]
        rated = world.ask(f"/v1/captions/{id}/feedback", json={"rating": 1 + user % 5}, headers=headers)
        assert rated.status_code == 200
    assert len(world.exposures()) == 20
    found = world.ask("/v1/experiment", "GET").json()
    arms = found["analysis"]["arms"]
    assert sum(arms[name]["users"] for name in arms) == 20
    assert sum(arms[name]["ratings"] for name in arms) == 20
    assert found["analysis"]["verdict"] == "continue"
    assert found["experiment"]["id"] == "e1"
