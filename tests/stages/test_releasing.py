"""promote, rollback and reconcile: aliases and endpoint move together, verified, written down, whoever is killed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from captioner.book import Book
from captioner.errors import BadData, BadEnvironment, BadInput, GateFailed, ServiceUnavailable, WorkspaceBusy
from captioner.ledger import Cause, Entry, Snapshot
from captioner.params import DeployParams
from captioner.paths import Paths
from captioner.ports import Answer, Variant
from captioner.release.health import Health
from captioner.stages import deploy, promote, ramp, reconcile, removal, rollback
from captioner.stages.moving import Release
from captioner.stages.recorded import RecordedEndpoint, recorded
from tests.fakes import FakeDocuments, FakeEndpoint, FakeRegistry
from tests.test_lineage import git

NAME = "captioner-sample"
PARAMS = DeployParams(instance_type="ml.m5.large", instances=1, challenger_share=0.25)
ADA, BOB = Cause("ada@host", "it is better"), Cause("bob@host")


class Killed(BaseException):
    """What SIGKILL is to a test that has one process: nothing after it runs."""


class Mortal:
    """Wraps a port: counts the calls that change something, and dies before or after the one with number `fatal`."""

    def __init__(self, port: Any, calls: Sequence[str], world: World) -> None:
        self._port, self._calls, self._world = port, calls, world

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._port, name)
        if name not in self._calls:
            return call

        def counted(*args: Any, **options: Any) -> Any:
            self._world.step()
            done = call(*args, **options)
            self._world.step()
            return done

        return counted


class Liar(FakeEndpoint):
    """In service, says the API; another model answers. What `refuses` has does not come up under that name."""

    def __init__(self) -> None:
        super().__init__()
        self.lies_about: str | None = None
        self.refuses: dict[tuple[str, str], Exception] = {}

    def by_hand(self, **weights: float) -> None:
        """What somebody does in the console: variants that are not named go, the others get these weights."""
        state = self.states[NAME]
        kept = [dataclasses.replace(one, weight=weights[one.name]) for one in state.variants if one.name in weights]
        self._change(NAME, str(state.config) if len(kept) == len(state.variants) else "by-hand", kept)

    def _change(self, name: str, config: str, live: Sequence[Variant]) -> None:
        for one in live:
            if (one.name, one.model_version) in self.refuses:
                raise self.refuses[one.name, one.model_version]
        super()._change(name, config, live)

    def invoke(self, name: str, image: bytes, content_type: str, variant: str | None = None) -> Answer:
        answer = super().invoke(name, image, content_type, variant)
        if answer.body["model"]["version"] == self.lies_about:
            return Answer(answer.variant, {**answer.body, "model": {"version": "0", "digest": "something else"}})
        return answer


class World:
    """A registry with versions 1 to 3, an endpoint, a ledger; champion 1 and challenger 2 are deployed."""

    def __init__(self, paths: Paths, folder: Path) -> None:
        self.paths, self.registry, self.endpoint, self.documents = paths, FakeRegistry(), Liar(), FakeDocuments()
        self.steps, self.fatal, self.params = 0, 0, PARAMS
        for content in ("one", "two", "three"):
            artifact = folder / f"{content}.tar.gz"
            artifact.write_text(content)
            self.registry.create(NAME, artifact, f"run-{content}", {"captioner.gate": "passed"})
        self.registry.set_alias(NAME, "champion", "1")
        self.registry.set_alias(NAME, "challenger", "2")
        self.reconcile()

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.fatal:
            raise Killed

    def release(self) -> Release:
        registry = Mortal(self.registry, ("set_alias", "drop_alias", "tag"), self)
        endpoint = Mortal(self.endpoint, ("carry_out", "invoke"), self)
        documents = Mortal(self.documents, ("create", "replace"), self)
        return Release(self.params, self.paths, registry, endpoint, Book(documents, registry, self.paths, NAME))

    def ports(self) -> tuple[Any, ...]:
        one = self.release()
        return one.params, one.paths, one.registry, one.endpoint, one.book

    def promote(self, cause: Cause = ADA) -> promote.Moved:
        return promote.run(*self.ports(), cause)

    def rollback(self, to: int | None = None, cause: Cause = BOB) -> promote.Moved:
        return rollback.run(*self.ports(), cause, to)

    def reconcile(self, dry_run: bool = False) -> reconcile.ReconcileReport:
        return reconcile.run(*self.ports(), Cause("the schedule"), dry_run)

    @property
    def aliases(self) -> dict[str, str]:
        return {alias: version for (_, alias), version in sorted(self.registry.aliases.items())}

    @property
    def served(self) -> dict[str, str]:
        state = self.endpoint.states[NAME]
        return {one.name: one.model_version for one in state.variants}

    @property
    def entries(self) -> list[Entry]:
        return self.release().book.entries()

    def told(self, since: int = 0) -> list[tuple[str, str]]:
        """(who, action) of the entries after number `since`."""
        return [(one.who, one.action) for one in self.entries if one.number > since]


@pytest.fixture
def world(paths: Paths, tmp_path: Path) -> World:
    return World(paths, tmp_path)


def test_the_challenger_becomes_champion_and_nobody_is_challenger(world: World) -> None:
    moved = world.promote()
    assert world.aliases == {"champion": "2"}
    assert world.served == {"champion": "2"}
    entry = world.entries[-1]
    assert entry == moved.entry
    assert (entry.action, entry.who, entry.why) == ("promote", "ada@host", "it is better")
    assert entry.before.version("champion") == "1"
    assert entry.after.version("champion") == "2"
    assert entry.before.endpoint is not None
    assert entry.before.endpoint.variants["challenger"].weight == 0.25
    assert entry.evidence["challenger"]["run"] == "run-two"
    digest = world.registry.get(NAME, "2").digest
    assert entry.verified["champion"] == dataclasses.replace(entry.verified["champion"], version="2", digest=digest)
    assert entry.verified["champion"].invoked >= 3
    assert "version 2" in moved.render()
    assert world.release().book.underway() is None


def test_without_a_challenger_it_is_refused_and_nothing_changes(world: World) -> None:
    world.promote()
    before = len(world.entries)
    with pytest.raises(BadInput, match="has no challenger to promote"):
        world.promote()
    assert len(world.entries) == before


@pytest.mark.parametrize(
    ("gate", "said"), [("failed: CIDEr fell.", r"did not pass the gate \(CIDEr fell\.\)"), ("", "was never judged")]
)
def test_a_challenger_that_did_not_pass_the_gate_is_refused(world: World, gate: str, said: str) -> None:
    world.registry.tag(world.registry.get(NAME, "2"), {"captioner.gate": gate})
    with pytest.raises(GateFailed, match=said):
        world.promote()
    assert world.aliases == {"champion": "1", "challenger": "2"}
    assert world.told(since=2) == []


def test_what_the_endpoint_refuses_is_taken_back_and_written_down(world: World) -> None:
    world.endpoint.refuses["champion", "2"] = BadEnvironment("The endpoint was not changed: no room.")
    with pytest.raises(BadEnvironment, match=r"no room: the promote was taken back\."):
        world.promote()
    assert world.aliases == {"champion": "1", "challenger": "2"}
    assert world.served == {"champion": "1", "challenger": "2"}
    assert world.entries[-1].failed == "The endpoint was not changed: no room."
    assert world.told(since=2) == [("ada@host", "promote")]


def test_what_cannot_be_taken_back_is_not_called_restored(world: World) -> None:
    world.endpoint.lies_about = "2"
    with pytest.raises(BadEnvironment, match="could not be restored either: The variant challenger"):
        world.promote()
    assert world.aliases == {"champion": "1", "challenger": "2"}
    assert "could not be restored either" in world.entries[-1].failed
    assert world.entries[-1].verified == {}


def test_a_champion_that_answers_as_another_is_not_promoted(world: World) -> None:
    """An alias and a status say nothing of what answers."""

    class Champion(Liar):
        def invoke(self, name: str, image: bytes, content_type: str, variant: str | None = None) -> Answer:
            self.lies_about = "2" if variant == "champion" else None
            return super().invoke(name, image, content_type, variant)

    champion = Champion()
    champion.__dict__.update(world.endpoint.__dict__)
    world.endpoint = champion
    with pytest.raises(BadEnvironment, match=r"champion of .* answers as model something el.*was taken back"):
        world.promote()
    assert world.aliases == {"champion": "1", "challenger": "2"}
    assert world.served == {"champion": "1", "challenger": "2"}
    entry = world.entries[-1]
    assert entry.action == "promote"
    assert "answers as model" in entry.failed
    assert not entry.moves_champion
    assert entry.verified["champion"].version == "1"
    assert world.release().book.underway() is None


def test_an_endpoint_that_does_not_answer_leaves_it_to_the_next_one(world: World) -> None:
    world.endpoint.refuses["champion", "2"] = ServiceUnavailable("Throttled.")
    with pytest.raises(ServiceUnavailable, match="Throttled"):
        world.promote()
    assert world.aliases == {"champion": "2"}
    assert "promote by ada@host" in world.reconcile(dry_run=True).unfinished
    world.endpoint.refuses = {}
    report = world.reconcile()
    assert [one.action for one in report.entries] == ["promote"]
    assert world.served == {"champion": "2"}
    assert world.told(since=2) == [("ada@host", "promote")]


def test_rollback_restores_what_was_before(world: World) -> None:
    world.promote()
    moved = world.rollback()
    assert world.aliases == {"champion": "1", "challenger": "2"}
    assert world.served == {"champion": "1", "challenger": "2"}
    assert moved.entry.evidence["restores"] == "as it was before entry 3 (promote)"
    assert {name: one.version for name, one in moved.entry.verified.items()} == {"champion": "1", "challenger": "2"}
    # The second takes the first one back.
    world.rollback()
    assert world.aliases == {"champion": "2"}
    assert world.served == {"champion": "2"}


def test_rollback_restores_the_share_of_that_time(world: World) -> None:
    recorded(world.release(), "ramp", ADA, lambda: world.endpoint.by_hand(champion=0.5, challenger=0.5))
    world.promote()
    world.rollback()
    assert [one.weight for one in world.endpoint.states[NAME].variants] == [0.5, 0.5]


@pytest.mark.parametrize("strategy", ["canary", "linear", "all-at-once"])
def test_with_guardrails_the_challenger_leaves_and_then_the_champion_is_swapped(world: World, strategy: str) -> None:
    """SageMaker guards no update that a variant comes or goes in."""
    world.params = PARAMS.model_copy(update={"strategy": strategy, "instances": 2})
    recorded(world.release(), "deploy", ADA, lambda: deploy.run(world.params, *world.ports()[1:4], NAME))
    before = len(world.endpoint.done)
    world.promote()
    updates = [one.request for one in world.endpoint.done[before:] if one.operation == "UpdateEndpoint"]
    assert ["DeploymentConfig" in one for one in updates] == [False, True]
    assert world.served == {"champion": "2"}
    # A rollback waits for no canary, and a challenger that comes by the registry's own UI is let in, too.
    before = len(world.endpoint.done)
    world.rollback()
    assert world.served == {"champion": "1", "challenger": "2"}
    world.registry.drop_alias(NAME, "challenger")
    world.reconcile()
    assert world.served == {"champion": "1"}
    updates = [one.request for one in world.endpoint.done[before:] if one.operation == "UpdateEndpoint"]
    assert not any("DeploymentConfig" in one for one in updates)


def test_a_shadow_is_not_asked(world: World) -> None:
    world.params = PARAMS.model_copy(update={"strategy": "shadow"})
    world.registry.set_alias(NAME, "challenger", "3")
    report = world.reconcile()
    assert world.served == {"champion": "1"}
    entry = report.entries[-1]
    assert entry.after.endpoint is not None
    assert entry.after.endpoint.variants["challenger"].shadow
    assert entry.verified.keys() == {"champion"}
    assert not world.reconcile().applied
    world.promote()
    assert world.served == {"champion": "3"}


def test_a_refused_plan_takes_the_aliases_back_and_leaves_the_endpoint_alone(world: World) -> None:
    world.params = PARAMS.model_copy(update={"strategy": "canary"})
    world.registry.drop_alias(NAME, "challenger")
    world.reconcile()
    world.registry.set_alias(NAME, "challenger", "2")
    before = len(world.endpoint.applied)
    with pytest.raises(GateFailed, match=r"canary needs two instances.*the promote was taken back\."):
        world.promote()
    assert world.aliases == {"champion": "1", "challenger": "2"}
    assert len(world.endpoint.applied) == before
    assert world.entries[-1].failed.startswith("strategy: canary needs two instances")


def test_a_rollback_on_aws_needs_no_tidy_folder(world: World) -> None:
    """What served before was let in then; an emergency is no time to commit."""
    world.promote()
    world.endpoint.place = dataclasses.replace(world.endpoint.place, local=False)
    root = world.paths.root
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    (root / "new.py").write_text("1\n")
    world.registry.tag(world.registry.get(NAME, "2"), {"captioner.gate": ""})
    world.rollback()
    assert world.served == {"champion": "1", "challenger": "2"}
    world.registry.tag(world.registry.get(NAME, "2"), {"captioner.gate": "passed"})
    with pytest.raises(GateFailed, match=r"git tree has changes.*the promote was taken back"):
        world.promote()
    assert world.aliases == {"champion": "1", "challenger": "2"}


def test_a_ramp_writes_down_each_of_its_steps(world: World) -> None:
    well = {name: Health(100, 0, 0, 5.0) for name in ("champion", "challenger")}
    world.endpoint.healths = [well]
    endpoint = RecordedEndpoint(world.release(), "ramp", ADA)
    times = iter(range(1000))
    since = len(world.entries)
    ramp.run(PARAMS, world.paths, endpoint, world.documents, NAME, [40, 50], 1, lambda: next(times), lambda s: None)
    assert [(one.action, one.changes[0]) for one in world.entries[since:]] == [
        ("ramp", "challenger serves 2 (0.25) → 2 (0.4)"),
        ("ramp", "challenger serves 2 (0.4) → 2 (0.5)"),
    ]
    # What is written down is no surprise to reconcile.
    assert world.reconcile().entries == ()


def test_an_endpoint_that_is_taken_down_is_written_down(world: World) -> None:
    release = world.release()
    recorded(release, "down", ADA, lambda: removal.run(PARAMS, world.paths, world.endpoint, NAME, False))
    assert world.entries[-1].changes[0] == "endpoint deleted"
    assert world.entries[-1].action == "down"


def test_rollback_to_an_entry(world: World) -> None:
    world.promote()
    world.registry.set_alias(NAME, "champion", "3")
    world.reconcile()
    assert world.served == {"champion": "3"}
    moved = world.rollback(to=2)
    assert world.aliases == {"champion": "1", "challenger": "2"}
    assert moved.entry.evidence["restores"] == "as entry 2 (reconcile) left it"
    with pytest.raises(BadInput, match="already as entry 2"):
        world.rollback(to=2)
    with pytest.raises(BadInput, match="no entry 77"):
        world.rollback(to=77)


def test_a_rollback_to_a_version_that_is_gone_changes_nothing(world: World) -> None:
    world.promote()
    del world.registry.versions[NAME, "1"]
    with pytest.raises(BadData, match="Version 1 of captioner-sample is no longer in the registry"):
        world.rollback()
    assert world.aliases == {"champion": "2"}
    assert world.served == {"champion": "2"}


def test_reconcile_shows_what_differs_and_changes_nothing_in_a_dry_run(world: World) -> None:
    world.registry.set_alias(NAME, "champion", "3")
    applied, entries = len(world.endpoint.applied), world.told()
    report = world.reconcile(dry_run=True)
    (difference,) = report.differences
    assert difference.startswith("champion: version 3 (")
    assert "version 1 (" in difference
    assert "would be brought in line" in report.render()
    assert (len(world.endpoint.applied), world.told()) == (applied, entries)


def test_an_alias_moved_in_the_registry_is_noticed_and_made_true(world: World) -> None:
    world.registry.set_alias(NAME, "champion", "3")
    report = world.reconcile()
    assert report.applied
    noticed, made = world.entries[-2:]
    assert (noticed.action, noticed.who) == ("alias", "unknown, noticed by the schedule")
    assert (noticed.before.version("champion"), noticed.after.version("champion")) == ("1", "3")
    assert (made.action, made.who) == ("reconcile", "the schedule")
    assert made.verified["champion"].version == "3"
    assert world.served == {"champion": "3", "challenger": "2"}
    again = world.reconcile()
    assert (again.applied, again.entries) == (False, ())
    assert "nothing changed" in again.render()
    written = json.loads(reconcile.report_path(world.paths).read_text())
    assert "nothing changed" in written["markdown"]
    # A move in the registry's own UI is rolled back like any other.
    world.rollback()
    assert world.served == {"champion": "1", "challenger": "2"}


def test_an_endpoint_changed_by_hand_is_noticed_and_mended(world: World) -> None:
    world.endpoint.by_hand(champion=1.0)
    report = world.reconcile()
    assert [one.action for one in report.entries] == ["deploy", "reconcile"]
    assert report.entries[0].why == "changed outside of captioner"
    assert world.served == {"champion": "1", "challenger": "2"}


def test_weights_are_not_reconciles_business(world: World) -> None:
    recorded(world.release(), "ramp", ADA, lambda: world.endpoint.by_hand(champion=0.5, challenger=0.5))
    report = world.reconcile()
    assert (report.applied, report.entries) == (False, ())
    assert [one.weight for one in world.endpoint.states[NAME].variants] == [0.5, 0.5]


def test_nobody_released_is_no_failure(world: World) -> None:
    world.registry.aliases.clear()
    world.endpoint.states.clear()
    report = world.reconcile()
    assert not report.released
    assert "nothing to serve" in report.render()


def test_each_entry_begins_where_the_last_one_ended(world: World) -> None:
    world.promote()
    world.registry.set_alias(NAME, "challenger", "3")
    world.promote()
    world.rollback()
    chain = world.entries
    assert [one.number for one in chain] == list(range(1, len(chain) + 1))
    for earlier, later in pairwise(chain):
        assert later.before.same_aliases(earlier.after), later.number
        assert later.before.same_endpoint(earlier.after), later.number


def run_killed_at(world: World, fatal: int, verb: Callable[[], Any]) -> bool:
    """Run `verb` and die at step `fatal`. False when it ended before it came to that."""
    world.steps, world.fatal = 0, fatal
    try:
        verb()
    except Killed:
        return True
    finally:
        world.fatal = 0
    return False


@pytest.mark.parametrize("then", ["promote", "reconcile"])
def test_a_promotion_killed_at_any_step_is_finished_by_whoever_comes_next(
    paths: Paths, tmp_path: Path, then: str
) -> None:
    """Before and after each call that changes anything: the end is the same, and the ledger has it once."""
    fatal, killed = 0, True
    while killed:
        fatal += 1
        home = Paths(paths.root, tmp_path / f"home-{fatal}")
        world = World(home, tmp_path)
        killed = run_killed_at(world, fatal, world.promote)
        if killed:
            begun = world.release().book.underway() is not None or world.aliases == {"champion": "2"}
            if then == "promote" and world.entries[-1].action != "promote":
                world.promote(BOB if not begun else ADA)
            else:
                world.reconcile()
        expected = (
            {"champion": "2"} if then == "promote" or not killed or begun else {"champion": "1", "challenger": "2"}
        )
        assert world.aliases == expected, fatal
        assert world.served == expected, fatal
        promotions = [one for one in world.entries if one.action == "promote"]
        assert len(promotions) == (expected == {"champion": "2"}), fatal
        assert [one.action for one in world.entries if one.action in ("alias", "deploy")][1:] == [], fatal
        assert world.release().book.underway() is None, fatal
        assert world.release().book.waiting() == [], fatal
        assert promotions == [] or promotions[0].verified["champion"].version == "2", fatal
    assert fatal > 20


def test_a_rollback_takes_back_a_promotion_that_was_cut_short(paths: Paths, tmp_path: Path) -> None:
    fatal, killed = 0, True
    while killed:
        fatal += 1
        world = World(Paths(paths.root, tmp_path / f"home-{fatal}"), tmp_path)
        killed = run_killed_at(world, fatal, world.promote)
        if world.release().book.underway() is None and world.entries[-1].action != "promote":
            continue  # it had not begun: there is nothing to take back
        world.rollback()
        assert world.aliases == {"champion": "1", "challenger": "2"}, fatal
        assert world.served == {"champion": "1", "challenger": "2"}, fatal
        assert world.entries[-1].verified["champion"].version == "1", fatal
        assert world.release().book.underway() is None, fatal
    assert world.entries[-1].action == "rollback"


def test_somebody_who_moved_an_alias_meanwhile_is_respected(world: World) -> None:
    # Killed right after the claim.
    while run_killed_at(world, 2, world.promote) and world.release().book.underway() is None:
        raise AssertionError("the claim comes first")
    world.registry.set_alias(NAME, "champion", "3")
    world.reconcile()
    assert world.aliases == {"champion": "3", "challenger": "2"}
    assert world.served == {"champion": "3", "challenger": "2"}
    assert "promote" not in [one.action for one in world.entries]


def test_a_claim_on_another_machine_is_respected(world: World, tmp_path: Path) -> None:
    elsewhere = Paths(world.paths.root, tmp_path / "elsewhere")
    book = Book(world.documents, world.registry, elsewhere, NAME)
    book.claim("rollback", BOB, Snapshot(world.release().aliases()), {"champion": "1", "challenger": None})
    for verb in (world.promote, world.rollback, world.reconcile):
        with pytest.raises(WorkspaceBusy, match="bob@host has begun a rollback"):
            verb()
    assert world.aliases == {"champion": "1", "challenger": "2"}


def test_of_two_promotions_at_once_one_happens(world: World, tmp_path: Path) -> None:
    """Two machines, that is two state folders, and one registry, endpoint and ledger."""

    def promoted(number: int) -> str:
        paths = Paths(world.paths.root, tmp_path / f"machine-{number}")
        book = Book(world.documents, world.registry, paths, NAME)
        try:
            promote.run(PARAMS, paths, world.registry, world.endpoint, book, ADA)
        except (WorkspaceBusy, BadInput) as error:
            return str(error)
        return "promoted"

    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(promoted, range(4)))
    assert said.count("promoted") == 1
    assert all("Somebody else was first" in one or "no challenger" in one for one in said if one != "promoted")
    assert world.served == world.aliases == {"champion": "2"}
    assert [one.action for one in world.entries if one.number > 2] == ["promote"]


def test_an_alias_that_moved_between_the_look_and_the_claim_is_seen(world: World) -> None:
    release = world.release()
    now = release.look()
    world.registry.set_alias(NAME, "champion", "3")
    with pytest.raises(WorkspaceBusy, match="has moved an alias"):
        release.move("promote", ADA, now, {"champion": "2", "challenger": None}, {})
    assert world.aliases == {"champion": "3", "challenger": "2"}
    assert release.book.underway() is None


def test_deploy_and_register_write_only_what_changed(world: World) -> None:
    since = len(world.entries)

    def deployed() -> deploy.DeployReport:
        return deploy.run(PARAMS, world.paths, world.registry, world.endpoint, NAME)

    recorded(world.release(), "deploy", ADA, deployed)
    assert world.told(since) == []
    recorded(world.release(), "register", ADA, lambda: world.registry.set_alias(NAME, "challenger", "3"))
    recorded(world.release(), "deploy", ADA, deployed)
    assert world.told(since) == [("ada@host", "register"), ("ada@host", "deploy")]
    assert world.entries[-1].before.same_aliases(world.entries[-2].after)


def test_a_registration_whose_gate_said_no_is_written_down_when_it_changed_something(world: World) -> None:
    def half() -> None:
        world.registry.set_alias(NAME, "challenger", "3")
        raise GateFailed("merge: no.")

    since = len(world.entries)
    with pytest.raises(GateFailed, match=r"merge: no\."):
        recorded(world.release(), "register", ADA, half)
    assert world.told(since) == [("ada@host", "register")]


def test_a_registration_without_an_endpoint_in_reach_waits_in_the_outbox(world: World) -> None:
    class Out(FakeDocuments):
        def keys(self, prefix: str) -> list[str]:
            raise ServiceUnavailable("The local AWS is not up: run `captioner up`.")

    since = len(world.entries)
    world.endpoint.down = True
    release = Release(
        PARAMS, world.paths, world.registry, world.endpoint, Book(Out(), world.registry, world.paths, NAME)
    )
    recorded(release, "register", ADA, lambda: world.registry.set_alias(NAME, "challenger", "3"))
    assert len(release.book.waiting()) == 1
    world.endpoint.down = False
    world.reconcile()
    assert world.told(since) == [("ada@host", "register"), ("the schedule", "reconcile")]
