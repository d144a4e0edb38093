"""The ramp: traffic in steps, watched, and back by itself."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from captioner.errors import BadEnvironment, BadInput, BadParams, GateFailed, ServiceUnavailable
from captioner.params import DeployParams
from captioner.paths import Paths
from captioner.release.health import Health
from captioner.stages import deploy, ramp
from tests.fakes import FakeDocuments, FakeEndpoint, FakeRegistry

NAME = "captioner-sample"
KEY = f"experiments/{NAME}/running.json"
PARAMS = DeployParams(instance_type="ml.m5.large", instances=1, challenger_share=0.05)
WELL = Health(invocations=200, errors_5xx=0, model_errors=2, latency_ms=120)
ILL = Health(invocations=200, errors_5xx=10, model_errors=10, latency_ms=120)


class Clock:
    """Time that passes only where somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


class World:
    """Champion 1 and challenger 2 are deployed, 95 to 5."""

    def __init__(self, paths: Paths) -> None:
        self.paths, self.registry, self.endpoint, self.documents = (
            paths,
            FakeRegistry(),
            FakeEndpoint(),
            FakeDocuments(),
        )
        self.clock = Clock()
        for number, content in enumerate(("one", "two", "three"), start=1):
            artifact = paths.root / f"{content}.tar.gz"
            artifact.write_text(content)
            self.registry.create(NAME, artifact, "run", {"captioner.gate": "passed"})
            if number < 3:
                self.registry.set_alias(NAME, ("champion", "challenger")[number - 1], str(number))
        self.deploy()
        self.health(WELL, WELL)

    def deploy(self, params: DeployParams = PARAMS) -> deploy.DeployReport:
        return deploy.run(params, self.paths, self.registry, self.endpoint, NAME)

    def health(self, champion: Health, challenger: Health) -> None:
        self.endpoint.healths = [{"champion": champion, "challenger": challenger}]

    def ramp(self, *percents: float, wait_s: float = 100) -> ramp.RampReport:
        return ramp.run(
            PARAMS, self.paths, self.endpoint, self.documents, NAME, percents, wait_s, self.clock, self.clock.pause
        )

    @property
    def weights(self) -> tuple[float, ...]:
        return tuple(one.weight for one in self.endpoint.states[NAME].variants)

    @property
    def all_weights(self) -> list[tuple[float, ...]]:
        """As they were, change by change, since the deployment."""
        return [tuple(one.weight for one in variants) for _, variants in self.endpoint.applied[1:]]


@pytest.fixture
def world(paths: Paths) -> World:
    return World(paths)


def test_each_step_is_as_long_as_it_is_to_be_and_watched(world: World) -> None:
    report = world.ramp(10, 25, 50)
    assert world.all_weights == [(0.9, 0.1), (0.75, 0.25), (0.5, 0.5)]
    assert (report.before, report.share) == (0.05, 0.5)
    assert world.clock.now == 1300
    # Looked at within the step, not only at its end, and each time from its beginning.
    assert [one for one in world.endpoint.asked if one[0] == 1000] == [
        (1000, 1030),
        (1000, 1060),
        (1000, 1090),
        (1000, 1100),
    ]
    assert "from 5% to 50%" in report.render()
    assert "at  25% challenger  200 requests, 0 with 5xx, 120 ms" in report.render()


def test_it_goes_back_by_itself_and_says_why(world: World) -> None:
    world.endpoint.healths = [{"champion": WELL, "challenger": WELL}] * 4 + [{"champion": WELL, "challenger": ILL}]
    with pytest.raises(GateFailed, match=r"stopped at 25%: challenger answered 5.0% of 200 .* 5xx .*share is 5% again"):
        world.ramp(10, 25, 50)
    assert world.all_weights == [(0.9, 0.1), (0.75, 0.25), (0.95, 0.05)]
    # At the first look: not after the whole step.
    assert world.clock.now == 1130


@pytest.mark.parametrize(
    ("champion", "challenger", "said"),
    [
        (WELL, Health(200, 0, 30, 120), "challenger answered 15.0% of 200 requests other than with 2xx"),
        (WELL, Health(200, 0, 0, 3500), "challenger took 3500 ms"),
        (Health(200, 5, 5, 120), WELL, "champion answered 2.5% of 200 requests with 5xx"),
        (WELL, Health(19, 0, 0, 120), "challenger answered 19 requests, and 20 are needed"),
        (WELL, Health(), "challenger answered 0 requests"),
    ],
)
def test_each_limit_stops_it(world: World, champion: Health, challenger: Health, said: str) -> None:
    world.health(champion, challenger)
    with pytest.raises(GateFailed, match=said):
        world.ramp(10)
    assert world.weights == (0.95, 0.05)


def test_a_variant_that_is_given_nothing_need_not_have_answered(world: World) -> None:
    world.health(WELL, Health())
    world.ramp(0)
    world.health(Health(), WELL)
    world.ramp(100)
    assert world.weights == (0.0, 1.0)


def test_the_experiments_shares_move_with_the_weights_and_back(world: World) -> None:
    world.documents.create(KEY, {"experiment": "e1", "salt": "s", "shares": {"champion": 1.0}, "state": "running"})
    world.ramp(10, 50)
    found = world.documents.read(KEY)
    assert found
    assert found.value == {
        "experiment": "e1",
        "salt": "s",
        "shares": {"champion": 0.5, "challenger": 0.5},
        "state": "running",
    }
    world.health(WELL, ILL)
    with pytest.raises(GateFailed):
        world.ramp(75)
    again = world.documents.read(KEY)
    assert again
    assert again.value["shares"] == {"champion": 0.5, "challenger": 0.5}


def test_no_experiment_is_none_made(world: World) -> None:
    world.ramp(10)
    assert world.documents.kept == {}


def test_an_experiment_that_others_write_is_not_overwritten(world: World) -> None:
    """Somebody ends the experiment between our reading and our writing: that must stay."""

    class Busy(FakeDocuments):
        def replace(self, key: str, value: object, tag: str) -> bool:
            if self.kept[key].value["state"] == "running":
                super().replace(key, {**self.kept[key].value, "state": "ended"}, tag)
            return super().replace(key, value, tag)

    world.documents = Busy()
    world.documents.create(KEY, {"experiment": "e1", "shares": {}, "state": "running"})
    world.ramp(10)
    assert world.documents.kept[KEY].value == {
        "experiment": "e1",
        "shares": {"champion": 0.9, "challenger": 0.1},
        "state": "ended",
    }


def test_a_reconcile_keeps_what_the_ramp_left(world: World) -> None:
    world.ramp(50)
    report = world.deploy()
    assert not report.changed
    assert world.weights == (0.5, 0.5)
    assert any("those of the last ramp" in one for one in report.warnings)
    world.ramp(100 * PARAMS.challenger_share)
    assert not any("those of the last ramp" in one for one in world.deploy().warnings)  # both say the same
    # Until somebody wants another share, or another challenger comes.
    assert world.deploy(PARAMS.model_copy(update={"challenger_share": 0.2})).changed
    assert world.weights == (0.8, 0.2)
    world.registry.set_alias(NAME, "challenger", "3")
    world.deploy()
    assert world.weights == (0.95, 0.05)


def test_an_interrupt_and_a_blind_watch_go_back_too(world: World) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ramp.run(PARAMS, world.paths, world.endpoint, world.documents, NAME, [50], 10, world.clock, interrupted)
    assert world.weights == (0.95, 0.05)

    class Blind(FakeEndpoint):
        def health(self, *_: object) -> dict[str, Health]:
            raise ServiceUnavailable("CloudWatch does not answer.")

    world.endpoint.__class__ = Blind
    with pytest.raises(ServiceUnavailable, match="CloudWatch"):
        world.ramp(50)
    assert world.weights == (0.95, 0.05)


def test_what_was_answered_before_the_step_in_its_first_minute_is_not_held_for_the_new_model(world: World) -> None:
    """Metrics come by the minute: 1,800 good answers of the model before would hide one that fails a twentieth."""
    before, during = Health(1800, 0, 0, 100), Health(2000, 10, 10, 102)

    class Busy(type(world.endpoint)):
        def health(self, name: str, variants: Sequence[str], since: float, until: float) -> dict[str, Health]:
            return dict.fromkeys(variants, before if since == until else during)

    world.endpoint.__class__ = Busy
    with pytest.raises(GateFailed, match=r"challenger answered 5.0% of 200 requests with 5xx"):
        world.ramp(50)


def test_a_way_back_that_is_blocked_is_said_with_both_reasons(world: World) -> None:
    def lost(seconds: float) -> None:
        world.clock.pause(seconds)
        world.endpoint.down = True

    with pytest.raises(BadEnvironment, match=r"does not answer.* could not be moved back to 5% either: .*captioner up"):
        ramp.run(PARAMS, world.paths, world.endpoint, world.documents, NAME, [50], 10, world.clock, lost)


def test_another_model_deployed_meanwhile_stops_it(world: World) -> None:
    def somebody(seconds: float) -> None:
        world.clock.pause(seconds)
        world.registry.set_alias(NAME, "challenger", "3")
        world.deploy()

    with pytest.raises(GateFailed, match="somebody deployed another model meanwhile"):
        ramp.run(PARAMS, world.paths, world.endpoint, world.documents, NAME, [50], 10, world.clock, somebody)


def test_what_cannot_be_ramped_is_said(world: World) -> None:
    with pytest.raises(BadParams, match="percentages from 0 to 100"):
        world.ramp(10, 150)
    world.registry.drop_alias(NAME, "challenger")
    world.deploy()
    with pytest.raises(BadInput, match="no champion and challenger"):
        world.ramp(10)
    world.endpoint.states.clear()
    with pytest.raises(BadInput, match="does not exist: `captioner deploy` first"):
        world.ramp(10)
    assert world.documents.kept == {}
