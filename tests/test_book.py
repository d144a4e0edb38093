"""The ledger as it is kept: numbers, the outbox, kills in between, claims; over S3 as over the fake."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from captioner.adapters.s3_documents import S3Documents
from captioner.book import Book
from captioner.errors import BadData, ServiceUnavailable, WorkspaceBusy
from captioner.ledger import Cause, Model, Snapshot
from captioner.paths import Paths
from captioner.ports import Document, Documents
from captioner.settings import Settings
from tests.fakes import FakeDocuments, FakeRegistry
from tests.local_aws import LocalAws

ADA = Cause("ada@host", "because")
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Killed(BaseException):
    """What a SIGKILL is to a test that has one process: nothing after it runs."""


class Store(FakeDocuments):
    """Documents that can be out of reach, or be written to at the very moment that somebody dies."""

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.before_create: Callable[[str], Any] = lambda key: None
        self.after_create: Callable[[str], Any] = lambda key: None

    def create(self, key: str, value: Any) -> bool:
        self.before_create(key)
        done = super().create(key, value)
        self.after_create(key)
        return done

    def keys(self, prefix: str) -> list[str]:
        if self.down:
            raise ServiceUnavailable("The local AWS is not up: run `captioner up`.")
        return super().keys(prefix)

    def read(self, key: str) -> Document | None:
        if self.down:
            raise ServiceUnavailable("The local AWS is not up: run `captioner up`.")
        return super().read(key)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def registry(tmp_path: Path) -> FakeRegistry:
    registry = FakeRegistry()
    for content in ("one", "two"):
        artifact = tmp_path / content
        artifact.write_text(content)
        registry.create("mine", artifact, "run", {})
    return registry


def book(store: Documents, registry: FakeRegistry, home: Path, name: str = "mine", now: datetime = NOW) -> Book:
    return Book(store, registry, Paths(home, home), name, lambda: now)


def held(version: str | None) -> Snapshot:
    return Snapshot({"champion": Model(version, f"digest-{version}")} if version else {})


def write(one: Book, before: str | None, after: str, who: Cause = ADA, action: str = "promote", **more: Any) -> Any:
    return one.write(action, who, held(before), held(after), **more)


@pytest.fixture(params=["s3", "fake"])
def documents(request: pytest.FixtureRequest, tmp_path: Path) -> Documents:
    if request.param == "fake":
        return FakeDocuments()
    aws: LocalAws = request.getfixturevalue("local_aws")
    settings = Settings.from_env(tmp_path, {})
    return S3Documents(settings, Paths.of(tmp_path, settings), aws.account)


def test_entries_are_numbered_and_read_as_they_were_written(
    documents: Documents, registry: FakeRegistry, tmp_path: Path
) -> None:
    name = f"book-{uuid.uuid4().hex[:8]}"
    mine = book(documents, registry, tmp_path / "home", name)
    assert mine.entries() == []
    assert mine.last() is None
    first = write(mine, None, "1", evidence={"run": "abc"})
    second = write(mine, "1", "2")
    assert [one.number for one in (first, second)] == [1, 2]
    assert mine.entries() == [first, second]
    assert mine.last() == second
    assert mine.entries(after=1) == [second]
    assert documents.keys(f"ledger/{name}/") == [f"ledger/{name}/0000000{n}.json" for n in (1, 2)]
    assert (first.who, first.why, first.at) == ("ada@host", "because", "2026-01-02T03:04:05+00:00")
    assert mine.waiting() == []


def test_of_many_writers_each_gets_a_number_of_its_own(
    documents: Documents, registry: FakeRegistry, tmp_path: Path
) -> None:
    name = f"book-{uuid.uuid4().hex[:8]}"
    books = [book(documents, registry, tmp_path / f"home-{n}", name) for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(lambda one: write(one, "1", "2"), books))
    assert sorted(one.number for one in written) == list(range(1, 9))
    assert {one.id for one in books[0].entries()} == {one.id for one in written}


def test_the_loser_takes_the_next_number_and_says_who_was_first(
    store: Store, registry: FakeRegistry, tmp_path: Path
) -> None:
    mine, theirs = book(store, registry, tmp_path / "mine"), book(store, registry, tmp_path / "theirs")

    def interfere(key: str) -> None:
        store.before_create = lambda key: None
        write(theirs, "1", "2", Cause("bob@there"))

    store.before_create = interfere
    entry = write(mine, "1", "3")
    assert entry.number == 2
    assert entry.note == "Somebody else was first: entry 1 (promote by bob@there) came in between."
    assert [one.who for one in mine.entries()] == ["bob@there", "ada@host"]


def test_entries_wait_for_the_store_and_are_delivered_in_order(
    store: Store, registry: FakeRegistry, tmp_path: Path
) -> None:
    mine = book(store, registry, tmp_path)
    store.down = True
    assert [write(mine, None, "1").number, write(mine, "1", "2").number] == [0, 0]
    assert [one.after.version("champion") for one in mine.waiting()] == ["1", "2"]
    with pytest.raises(ServiceUnavailable, match="captioner up"):
        mine.deliver()
    store.down = False
    # Another process, later.
    delivered = book(store, registry, tmp_path).deliver()
    assert [(one.number, one.after.version("champion")) for one in delivered] == [(1, "1"), (2, "2")]
    assert mine.waiting() == []
    assert mine.entries() == delivered


@pytest.mark.parametrize("moment", ["before_create", "after_create"])
def test_a_kill_while_delivering_neither_loses_nor_doubles(
    store: Store, registry: FakeRegistry, tmp_path: Path, moment: str
) -> None:
    def killed(key: str) -> None:
        raise Killed

    setattr(store, moment, killed)
    with pytest.raises(Killed):
        write(book(store, registry, tmp_path), "1", "2")
    setattr(store, moment, lambda key: None)
    again = book(store, registry, tmp_path)
    (delivered,) = again.deliver()
    assert again.entries() == [delivered]
    assert again.deliver() == []
    # The mirror is there, too, however often it was begun.
    assert "captioner.ledger.00000001" in registry.versions["mine", "2"].tags


def test_the_same_change_is_written_once(store: Store, registry: FakeRegistry, tmp_path: Path) -> None:
    mine = book(store, registry, tmp_path)
    store.down = True
    write(mine, "1", "2", id="the-same")
    write(mine, "1", "2", id="the-same")
    assert len(mine.waiting()) == 1


def test_entries_are_mirrored_as_tags_of_the_versions_they_speak_of(
    store: Store, registry: FakeRegistry, tmp_path: Path
) -> None:
    write(book(store, registry, tmp_path), "1", "2")
    for version in ("1", "2"):
        tag = registry.versions["mine", version].tags["captioner.ledger.00000001"]
        assert tag == "promote by ada@host, 2026-01-02T03:04:05+00:00 (champion 1 → 2): because"


def test_what_somebody_else_put_there_is_said(store: Store, registry: FakeRegistry, tmp_path: Path) -> None:
    mine = book(store, registry, tmp_path)
    write(mine, None, "1")
    store.kept["ledger/mine/00000001.json"] = Document({"not": "ours"}, "9")
    with pytest.raises(BadData, match="no entry of the ledger"):
        mine.entries()


def test_of_two_claims_one_wins(documents: Documents, registry: FakeRegistry, tmp_path: Path) -> None:
    name = f"book-{uuid.uuid4().hex[:8]}"
    books = [book(documents, registry, tmp_path / f"home-{n}", name) for n in range(8)]

    def claim(one: Book) -> Any:
        try:
            return one.claim("promote", ADA, held("1"), {"champion": "2", "challenger": None})
        except WorkspaceBusy as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(claim, books))
    lost = [one for one in found if isinstance(one, WorkspaceBusy)]
    assert len(lost) == 7
    assert all("ada@host has begun a promote" in str(one) for one in lost)
    (won,) = [one for one in found if not isinstance(one, WorkspaceBusy)]
    assert books[0].underway() == won
    books[0].settle(won)
    assert books[0].underway() is None
    # And again: a settled claim is in nobody's way.
    assert books[1].claim("rollback", ADA, held("2"), {"champion": "1", "challenger": None}).action == "rollback"


def test_what_was_left_is_taken_over_here_at_once_and_elsewhere_after_an_hour(
    store: Store, registry: FakeRegistry, tmp_path: Path
) -> None:
    mine = book(store, registry, tmp_path / "mine")
    assert mine.take_over() is None
    left = mine.claim("promote", ADA, held("1"), {"champion": "2", "challenger": None}, share=0.25)
    taken = mine.take_over()
    assert taken is not None
    assert (taken.id, taken.wish, taken.share, taken.before) == (left.id, left.wish, 0.25, held("1"))
    with pytest.raises(WorkspaceBusy, match="Somebody else was first: ada@host"):
        book(store, registry, tmp_path / "theirs", now=NOW + timedelta(minutes=59)).take_over()
    later = book(store, registry, tmp_path / "theirs", now=NOW + timedelta(hours=2))
    found = later.take_over()
    assert found is not None
    assert found.id == left.id
    with pytest.raises(WorkspaceBusy):
        mine.take_over()


def test_a_claim_whose_entry_is_written_needs_no_doing(store: Store, registry: FakeRegistry, tmp_path: Path) -> None:
    mine = book(store, registry, tmp_path)
    claim = mine.claim("promote", ADA, held("1"), {"champion": "2", "challenger": None})
    assert mine.written(claim) is None
    store.down = True
    write(mine, "1", "2", id=claim.id)
    store.down = False
    found = mine.written(claim)
    assert found is not None
    assert found.number == 1
