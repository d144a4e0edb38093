"""The life of an experiment: one starts, the time ramps it, the verdict moves the endpoint, kills are made good."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from captioner.book import Book
from captioner.clock import stamp
from captioner.errors import BadInput, CaptionerError, GateFailed
from captioner.experiment.document import Experiment
from captioner.experiment.events import EXPOSURES, FEEDBACK, Exposure, as_line
from captioner.experimentparams import BanditParams, ExperimentParams
from captioner.experiments import Experiments
from captioner.ledger import CHALLENGER, CHAMPION, Cause, Model
from captioner.params import load_params
from captioner.paths import Paths
from captioner.ports import EndpointState, ModelVersion, Variant
from captioner.release.names import status_key
from captioner.stages import experiment as stage
from captioner.stages.experiment_run import record
from captioner.stages.moving import Release
from tests.experiment.worlds import START, logs
from tests.fakes import FakeDocuments, FakeEndpoint, FakeEvents, FakeRegistry, FakeTracker

NAME = "captioner-sample"
WHO = Cause("the tests", "to see")
A, B = Model("1", "a" * 64), Model("2", "b" * 64)


class Endpoint(FakeEndpoint):
    """An endpoint whose state is said."""

    def __init__(self) -> None:
        super().__init__()
        self.arms = {CHAMPION: A, CHALLENGER: B}
        self.said = "InService"

    def state(self, name: str) -> EndpointState | None:
        variants = tuple(Variant(alias, 0.5, one.version, one.digest) for alias, one in self.arms.items())
        return EndpointState(name, self.said, "config", variants)


class World:
    """An experiment's surroundings, with a clock of hours since START."""

    def __init__(self, paths: Paths, root: Path) -> None:
        self.hours = 0.0
        self.documents, self.endpoint, self.registry = FakeDocuments(), Endpoint(), FakeRegistry()
        self.events = FakeEvents(self.now)
        self.experiments = Experiments(self.documents, self.events, NAME, self.now)
        book = Book(self.documents, self.registry, paths, NAME)
        self.release = Release(load_params(root / "params.yaml").deploy, paths, self.registry, self.endpoint, book)
        self.params = ExperimentParams(min_hours=24.0, step_hours=1.0)
        for alias, model in ((CHAMPION, A), (CHALLENGER, B)):
            self.hold(alias, model)
        self.done: list[Any] = []
        self.broken: set[str] = set()

    def hold(self, alias: str, model: Model) -> None:
        self.registry.versions[NAME, model.version] = ModelVersion(NAME, model.version, model.digest)
        self.registry.set_alias(NAME, alias, model.version)

    def now(self) -> datetime:
        return (START + timedelta(hours=self.hours)).astimezone(UTC)

    def start(self) -> Experiment:
        return stage.start(self.params, self.endpoint, self.experiments, self.release, WHO).experiment

    def rate(self, experiment: Experiment, users: int = 2000, better: float = 0.0, **more: Any) -> None:
        """Users come over 30 hours and rate what they are shown; `share` is the last step's, all the time."""
        shown, said = logs(users, better, hours=30.0, share=0.5, **more)
        self.events.write(EXPOSURES, NAME, [as_line(replace(one, experiment=experiment.id)) for one in shown])
        self.events.write(FEEDBACK, NAME, [as_line(one) for one in said])

    def look(self, found: stage.Status | None = None) -> stage.Act:
        def ramp(cause: Cause, share: float) -> None:
            if "ramp" in self.broken:
                raise GateFailed("The challenger answers with errors.")
            self.done.append(("ramp", share, cause.who))
            key = f"experiments/{NAME}/running.json"
            found = self.documents.read(key)
            assert found
            shares = {CHAMPION: 1 - share, CHALLENGER: share}
            assert self.documents.replace(key, {**found.value, "shares": shares}, found.tag)

        def promote(cause: Cause) -> None:
            marked = self.registry.get(NAME, B.version).tags.get("captioner.experiment", "")
            self.done.append(("promote", cause.why, marked))
            self.endpoint.arms = {CHAMPION: B}

        found = found or stage.look(self.experiments)
        return stage.act(found, self.endpoint, self.experiments, self.release, WHO, ramp, promote)

    def entries(self) -> list[dict[str, Any]]:
        return [one.evidence["experiment"] for one in self.release.book.entries() if one.action == "experiment"]


@pytest.fixture
def world(paths: Paths, root: Path) -> World:
    return World(paths, root)


def test_an_experiment_starts_small_and_is_written_down(world: World) -> None:
    one = world.start()
    assert (one.share, one.arms, one.running) == (0.05, {CHAMPION: A, CHALLENGER: B}, True)
    assert world.experiments.current() == one
    assert world.entries() == [{"started": one.id, "share": 0.05}]
    with pytest.raises(GateFailed, match="is running"):
        world.start()


def test_of_two_who_start_one_does(world: World) -> None:
    def start(_: int) -> bool:
        try:
            world.experiments.start({CHAMPION: A, CHALLENGER: B}, world.params, 0.05)
        except CaptionerError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(start, range(8))) == 1


@pytest.mark.parametrize(
    ("arms", "status", "said"),
    [
        ({CHAMPION: A}, "InService", "does not serve a champion and a challenger"),
        ({CHAMPION: A, CHALLENGER: A}, "InService", "are the same model"),
        ({CHAMPION: A, CHALLENGER: B}, "Updating", "is Updating"),
    ],
)
def test_where_nothing_can_be_compared_nothing_starts(world: World, arms: Any, status: str, said: str) -> None:
    world.endpoint.arms, world.endpoint.said = arms, status
    with pytest.raises(BadInput, match=said):
        world.start()
    assert world.experiments.current() is None


def test_time_ramps_it_and_a_look_that_comes_twice_changes_nothing(world: World) -> None:
    world.start()
    seen = []
    for hours in (0.5, 1.0, 1.5, 2.0, 5.0, 6.0):
        world.hours = hours
        seen.append(world.look().what)
    assert seen == ["continue", "ramp", "continue", "ramp", "ramp", "continue"]
    assert [share for _, share, _ in world.done] == [0.1, 0.25, 0.5]


def test_a_bandit_takes_over_where_the_ramp_ends_and_may_go_back(world: World) -> None:
    world.params = ExperimentParams(min_hours=200.0, step_hours=1.0, bandit=BanditParams())
    experiment = world.start()
    world.rate(experiment, better=1.0)
    world.hours = 2.5
    assert world.look().share == 0.25
    world.hours = 31.0
    first = world.look()
    assert (first.what, first.share) == ("ramp", 0.9)
    assert first.why.startswith("The bandit: ")
    assert world.look().what == "continue"


def test_a_ramp_that_fails_leaves_the_experiment_as_it_was(world: World) -> None:
    one = world.start()
    world.hours, world.broken = 1.0, {"ramp"}
    with pytest.raises(GateFailed):
        world.look()
    assert world.experiments.current() == one


def test_a_better_challenger_is_promoted_and_the_experiment_is_over(world: World) -> None:
    one = world.start()
    world.rate(one, better=0.6)
    world.hours = 12.0
    world.look()  # ramps
    assert world.experiments.current().running  # type: ignore[union-attr]
    world.hours = 31.0
    assert world.look().what == "promote"
    ended = world.experiments.current()
    assert ended is not None
    assert (ended.running, ended.outcome) == (False, "promote")
    assert ended.why.endswith("better.")
    kept = world.documents.read(f"experiments/{NAME}/{one.id}.json")
    assert kept is not None
    assert kept.value["outcome"] == "promote"
    assert world.entries()[-1]["verdict"]["verdict"] == "promote"
    assert [what for what, *_ in world.done].count("promote") == 1
    assert world.look().what == "nothing"


def test_the_verdict_is_there_before_the_promotion_that_it_is_the_evidence_of(world: World) -> None:
    world.rate(world.start(), better=0.6)
    world.hours = 31.0
    world.look()
    assert world.done[-1][2].startswith("promote (")


def test_an_experiment_that_was_stopped_while_a_person_was_asked_is_not_acted_on(world: World) -> None:
    world.rate(world.start(), better=0.6)
    world.hours = 31.0
    seen = stage.look(world.experiments)
    stage.stop(world.experiments, world.release, WHO)
    following = world.start()
    assert world.look(seen).what == "nothing"
    assert world.done == []
    assert world.experiments.current() == following


def test_another_challenger_in_the_registry_is_not_promoted_on_this_ones_verdict(world: World) -> None:
    world.rate(world.start(), better=0.6)
    world.hours = 31.0
    world.hold(CHALLENGER, Model("3", "c" * 64))
    with pytest.raises(GateFailed, match="verdict is on version 2"):
        world.look()
    assert world.done == []


def test_whoever_was_killed_after_the_entry_writes_no_second_one(world: World) -> None:
    one = world.start()
    world.rate(one, better=-0.6)
    world.hours = 31.0
    key = f"experiments/{NAME}/running.json"
    before = world.documents.read(key)
    world.look()
    now = world.documents.read(key)
    assert before is not None
    assert now is not None
    world.documents.replace(key, before.value, now.tag)  # as if the end had not been reached
    assert world.look().what == "reject"
    assert [entry.get("ended") for entry in world.entries()].count(one.id) == 1


def test_a_worse_one_gets_no_traffic_any_more(world: World) -> None:
    world.rate(world.start(), better=-0.6)
    world.hours = 31.0
    assert world.look().what == "reject"
    assert world.done == [("ramp", 0.0, "the tests")]
    ended = world.experiments.current()
    assert ended is not None
    assert (ended.outcome, ended.share) == ("reject", 0.0)


def test_what_users_meet_while_the_challenger_is_promoted_does_not_count(world: World) -> None:
    one = world.start()
    world.rate(one, better=0.6)
    world.hours = 31.0
    seen = stage.look(world.experiments)
    lost = [
        Exposure(f"late-{number}", stamp(world.now() + timedelta(seconds=1)), f"late-{number}", CHAMPION, 200, 50.0,
                 experiment=one.id, assigned=CHALLENGER, share=0.5, fallback=True)
        for number in range(500)
    ]  # fmt: skip
    world.events.write(EXPOSURES, NAME, [as_line(shown) for shown in lost])
    assert world.look(seen).what == "promote"
    world.hours = 32.0
    after = stage.look(world.experiments)
    assert after.analysis is not None
    assert seen.analysis is not None
    assert after.analysis.verdict.outcome == "promote"
    assert after.analysis.excluded["after the verdict"] == 500
    assert after.analysis.arms == seen.analysis.arms


def test_whoever_was_killed_after_the_promotion_is_finished(world: World) -> None:
    world.start()
    world.endpoint.arms = {CHAMPION: B}
    assert world.look().what == "promote"
    assert world.done == []  # it is the champion already
    assert world.experiments.current().outcome == "promote"  # type: ignore[union-attr]


def test_whoever_was_killed_while_ending_is_finished(world: World) -> None:
    one = world.start()
    world.documents.create(f"experiments/{NAME}/{one.id}.json", {"the copy": "was written"})
    assert world.experiments.end("stopped", "again").outcome == "stopped"


def test_other_models_under_the_names_end_it(world: World) -> None:
    world.start()
    world.endpoint.arms = {CHAMPION: A, CHALLENGER: Model("3", "c" * 64)}
    assert world.look().what == "stopped"
    assert world.experiments.current().outcome == "stopped"  # type: ignore[union-attr]


def test_stopping_by_hand(world: World) -> None:
    with pytest.raises(BadInput, match="No experiment is running"):
        stage.stop(world.experiments, world.release, WHO)
    world.start()
    ended = stage.stop(world.experiments, world.release, WHO).experiment
    assert (ended.outcome, ended.why) == ("stopped", "to see")
    world.start()  # another one may follow


def test_the_status_is_published_and_can_be_read(world: World) -> None:
    before = stage.look(world.experiments)
    stage.publish(before, NAME, world.documents)
    assert "There has been no experiment" in before.render()
    world.rate(world.start(), better=0.6)
    world.hours = 31.0
    found = stage.look(world.experiments)
    stage.publish(found, NAME, world.documents, "http://mlflow")
    stage.publish(found, NAME, world.documents)  # by somebody who does not know the run
    published = world.documents.read(status_key(NAME))
    assert published is not None
    assert published.value == {**found.as_json(), "links": {"mlflow": "http://mlflow"}}
    text = found.render()
    assert "verdict       promote" in text
    assert "●" in text
    assert "sample ratio" in text


def test_each_look_goes_onto_the_run_in_mlflow_until_it_is_over(world: World, paths: Paths) -> None:
    tracker = FakeTracker()
    assert record(stage.look(world.experiments), tracker, paths) == ""
    one = world.start()
    world.rate(one, better=0.6)
    world.hours = 20.0
    assert record(stage.look(world.experiments), tracker, paths) == "http://mlflow/run-1"
    world.hours = 31.0
    seen = stage.look(world.experiments)
    assert world.look(seen).what == "promote"
    for _ in range(2):
        record(stage.look(world.experiments), tracker, paths)
    (run,) = tracker.runs
    assert run.kept_params["experiment"]["effect"] == world.params.effect
    assert run.kept_tags["captioner.experiment_outcome"] == "promote"
    assert run.status == "finished"
    assert run.files["experiment/difference.png"].startswith(b"\x89PNG")
    assert json.loads(run.files["experiment/analysis.json"])["analysis"]["verdict"] == "promote"
    lows = [values["difference_low"] for _, values in run.history if "difference_low" in values]
    assert len(lows) == 2  # one for each look, none after the end
