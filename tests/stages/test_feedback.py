"""feedback: corrections meet their pictures once, people may edit what lies there, `acquire` trains on it."""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from captioner.errors import BadData
from captioner.experiment.events import FEEDBACK, Feedback, as_line
from captioner.packs import PackReader
from captioner.params import AcquireParams, SampleParams
from captioner.paths import Paths
from captioner.ports import CapturedRequest
from captioner.records import read_manifest
from captioner.settings import Settings
from captioner.stages import acquire
from captioner.stages.feedback import collect
from tests.api.conftest import picture
from tests.fakes import FakeEvents

NAME = "captioner-sample"
DOG, CAT = picture("JPEG", (64, 48)), picture("PNG", (50, 50))


class Captured:
    """What data capture kept, of `ports.Served`."""

    def __init__(self, **requests: tuple[str, bytes]) -> None:
        self.kept = requests

    def requests(self, endpoint: str, inference_ids: Collection[str]) -> Iterator[CapturedRequest]:
        assert endpoint == NAME
        for id, (kind, body) in self.kept.items():
            if id in inference_ids:
                yield CapturedRequest(id, kind, body)


def in_json(picture: bytes) -> bytes:
    return json.dumps({"image": base64.b64encode(picture).decode(), "explain": True}).encode()


@pytest.fixture
def events() -> FakeEvents:
    return FakeEvents()


def say(events: FakeEvents, id: str, correction: str | None, at: str = "2026-01-01T10:00:00.000Z") -> None:
    events.write(FEEDBACK, NAME, [as_line(Feedback(id, at, "a user", rating=2, correction=correction))])


def rows(paths: Paths) -> list[tuple[str, str]]:
    with (paths.feedback / "captions.csv").open(encoding="utf-8", newline="") as text:
        return [(row["image"], row["caption"]) for row in csv.DictReader(text)]


def taken(paths: Paths, events: FakeEvents, served: Any) -> Any:
    return collect(paths, events, served, NAME)


def test_corrections_meet_their_pictures(paths: Paths, events: FakeEvents) -> None:
    say(events, "i1", "a dog, on grass")
    say(events, "i2", "a cat")
    say(events, "i2", "a grey cat", "2026-01-01T11:00:00.000Z")
    say(events, "i3", None)
    say(events, "i4", "nobody kept this one")
    served = Captured(i1=("image/jpeg", DOG), i2=("application/json", in_json(CAT)), i3=("image/jpeg", DOG))

    found = taken(paths, events, served)

    assert (found.new_captions, found.new_pictures, found.waiting, found.captions) == (2, 2, 1, 2)
    assert sorted(caption for _, caption in rows(paths)) == ["a dog, on grass", "a grey cat"]
    assert {(paths.feedback / image).read_bytes() for image, _ in rows(paths)} == {DOG, CAT}
    assert "dvc repro" in found.render()


def test_what_comes_late_is_found_the_next_time_and_nothing_comes_twice(paths: Paths, events: FakeEvents) -> None:
    say(events, "i1", "a dog")
    assert taken(paths, events, Captured()).waiting == 1
    served = Captured(i1=("image/jpeg", DOG), i5=("image/jpeg", DOG))
    assert taken(paths, events, served).new_captions == 1
    say(events, "i5", "A dog")  # somebody else, the same words of the same picture
    again = taken(paths, events, served)
    assert (again.new_captions, again.new_pictures, again.captions) == (0, 0, 1)


def test_a_row_that_somebody_deleted_stays_away(paths: Paths, events: FakeEvents) -> None:
    served = Captured(i1=("image/jpeg", DOG), i2=("image/jpeg", CAT))
    say(events, "i1", "buy my watches")
    say(events, "i2", "a cat")
    taken(paths, events, served)
    file = paths.feedback / "captions.csv"
    file.write_text("".join(line for line in file.read_text().splitlines(True) if "watches" not in line))
    assert taken(paths, events, served).new_captions == 0
    assert [caption for _, caption in rows(paths)] == ["a cat"]


def test_a_request_without_a_picture_is_counted(paths: Paths, events: FakeEvents) -> None:
    say(events, "i1", "a dog")
    say(events, "i2", "a dog")
    found = taken(paths, events, Captured(i1=("image/jpeg", b"no picture"), i2=("application/json", b"[1, 2]")))
    assert (found.unreadable, found.captions) == (2, 0)
    assert not (paths.feedback / "captions.csv").exists()  # without a row `acquire` would refuse it


def test_a_table_that_is_none_any_more_is_refused_and_kept(paths: Paths, events: FakeEvents) -> None:
    say(events, "i1", "a dog")
    file = paths.feedback / "captions.csv"
    file.parent.mkdir(parents=True)
    file.write_text("caption\na cat\n")
    with pytest.raises(BadData, match="columns image, caption, inference_id, at"):
        taken(paths, events, Captured(i1=("image/jpeg", DOG)))
    assert file.read_text() == "caption\na cat\n"


def test_acquire_trains_on_it_and_on_nothing_else(paths: Paths, events: FakeEvents, settings: Settings) -> None:
    params = AcquireParams(dataset="sample", sample=SampleParams(images=60, size=64, seed=3))
    plain = acquire.run(params, paths, settings)
    say(events, "i1", "a dog")
    say(events, "i2", "a cat")
    taken(paths, events, Captured(i1=("image/jpeg", DOG), i2=("image/png", CAT)))

    more = acquire.run(params, paths, settings)

    assert more.splits == {**plain.splits, "train": plain.splits["train"] + 2}
    assert more.captions == plain.captions + 2
    assert any("2 pictures that users captioned" in note for note in more.notes)
    own = [row for row in read_manifest(paths.raw / "manifest.jsonl") if row.id.startswith("feedback/")]
    assert {row.captions for row in own} == {("a dog",), ("a cat",)}
    with PackReader(paths.raw) as packs:
        assert {packs.read(row) for row in own} == {DOG, CAT}
    assert Path(paths.feedback / own[0].id.removeprefix("feedback/")).exists()
