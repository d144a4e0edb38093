"""acquire: as many pictures come out as went in, the folder appears whole or not at all, equal input, equal bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from captioner.datasets.dataset import Dataset, Item
from captioner.errors import BadData, BadEnvironment
from captioner.packs import PackReader
from captioner.params import AcquireParams, Flickr8kParams, FolderParams, SampleParams
from captioner.paths import Paths
from captioner.records import Quarantined, read_jsonl, read_manifest
from captioner.settings import Settings
from captioner.stages import acquire
from tests.disks import small_disk

SAMPLE = AcquireParams(dataset="sample", sample=SampleParams(images=60, size=64, seed=3))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_the_sample_ends_in_packs_and_a_manifest(paths: Paths, settings: Settings) -> None:
    report = acquire.run(SAMPLE, paths, settings)
    rows = read_manifest(paths.raw / "manifest.jsonl")
    assert sorted(path.name for path in paths.raw.iterdir()) == ["images-000.zip", "manifest.jsonl", "orphans.jsonl"]
    assert report.images == len(rows) == 60
    assert report.captions == sum(len(row.captions) for row in rows) == 300
    assert report.splits == {"train": 42, "dev": 9, "test": 9, "none": 0}
    with PackReader(paths.raw) as packs:
        assert all(packs.read(row).startswith(b"\xff\xd8") for row in rows)


def test_the_report_is_a_metric_without_clock_or_path(paths: Paths, settings: Settings, tmp_path: Path) -> None:
    report = acquire.run(SAMPLE, paths, settings)
    text = paths.report("acquire").read_text()
    assert json.loads(text)["images"] == report.images
    assert json.loads(text)["facts"] == {"unseen_combinations": report.facts["unseen_combinations"]}
    assert str(tmp_path) not in text


def test_twice_gives_the_same_bytes_wherever_it_runs(tmp_path: Path) -> None:
    found = []
    for name in ("here", "there"):
        settings = Settings.from_env(tmp_path / name, {"CAPTIONER_PROGRESS": "none"})
        paths = Paths.of(tmp_path / name, settings)
        acquire.run(SAMPLE, paths, settings)
        acquire.run(SAMPLE, paths, settings)
        found.append(contents(tmp_path / name))
    assert found[0] == found[1]


def test_a_folder_of_ones_own(paths: Paths, settings: Settings) -> None:
    folder = paths.root / "mine"
    folder.mkdir()
    for name in ("b.jpg", "a.png", "c.gif"):
        (folder / name).write_bytes(f"not looked at here: {name}".encode())
    (folder / "captions.csv").write_text("image,caption,split\nb.jpg,one,train\na.png,two,test\nb.jpg,three,train\n")
    params = AcquireParams(dataset="folder", folder=FolderParams(path="mine", captions="captions.csv"))
    report = acquire.run(params, paths, settings)
    rows = read_manifest(paths.raw / "manifest.jsonl")
    assert [(row.id, row.split, row.captions) for row in rows] == [
        ("a.png", "test", ("two",)),
        ("b.jpg", "train", ("one", "three")),
    ]
    assert report.skipped == {"image without captions": 1}
    assert [Quarantined(**row) for row in read_jsonl(paths.raw / "orphans.jsonl")] == [
        Quarantined("c.gif", "image without captions")
    ]
    with PackReader(paths.raw) as packs:
        assert packs.read(rows[0]) == b"not looked at here: a.png"


def test_flickr8k_whole(flickr8k: Path, paths: Paths) -> None:
    """All 8,091 images: no `break` left behind (the seed extracted one), no caption lost but the five of no image."""
    settings = Settings.from_env(paths.root, {"CAPTIONER_FLICKR8K": str(flickr8k), "CAPTIONER_PROGRESS": "none"})
    params = AcquireParams(dataset="flickr8k", flickr8k=Flickr8kParams(sha256={}))
    report = acquire.run(params, paths, settings)
    assert (report.images, report.captions) == (8091, 40455)
    assert report.splits == {"train": 6000, "dev": 1000, "test": 1000, "none": 91}
    assert report.skipped == {"caption without image": 5}
    rows = read_manifest(paths.raw / "manifest.jsonl")
    assert len({row.id for row in rows}) == 8091
    assert len({row.digest for row in rows}) == 8090  # one identical pair
    assert {path.name for path in paths.raw.glob("*.zip")} == {row.pack for row in rows}
    assert max(path.stat().st_size for path in paths.raw.glob("*.zip")) <= 64_000_000


def ends_early(items: int, says: int) -> Dataset:
    def walk() -> Iterator[Item]:
        for i in range(items):
            yield Item(f"{i}.jpg", b"x", "train", ("a",))

    return Dataset(says, walk())


@pytest.mark.parametrize(("items", "says"), [(1, 8), (9, 8), (0, 3)])
def test_count_in_equals_count_out_or_it_fails(tmp_path: Path, items: int, says: int) -> None:
    with pytest.raises(BadData, match=f"{says} pictures were expected and {items} came"):
        acquire.store(ends_early(items, says), tmp_path)


def test_an_id_is_given_once(tmp_path: Path) -> None:
    items = [Item("a.jpg", b"1", "train", ("a",)), Item("a.jpg", b"2", "train", ("b",))]
    with pytest.raises(BadData, match=r"'a\.jpg' is there twice"):
        acquire.store(Dataset(2, iter(items)), tmp_path)


def test_what_fails_leaves_the_old_data_as_it_was(paths: Paths, settings: Settings) -> None:
    acquire.run(SAMPLE, paths, settings)
    before = contents(paths.root / "data")
    folder = paths.root / "mine"
    folder.mkdir()
    (folder / "captions.csv").write_text("image,caption\nmissing.jpg,a cat\n")
    params = AcquireParams(dataset="folder", folder=FolderParams(path="mine", captions="captions.csv"))
    with pytest.raises(BadData, match="row 2"):
        acquire.run(params, paths, settings)
    assert contents(paths.root / "data") == before


def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 400 * 1024) as disk:
        settings = Settings.from_env(disk, {"CAPTIONER_PROGRESS": "none"})
        paths = Paths.of(disk, settings)
        acquire.run(SAMPLE, paths, settings)
        before = contents(disk)
        larger = AcquireParams(dataset="sample", sample=SampleParams(images=300, size=64, seed=4))
        with pytest.raises(BadEnvironment, match="No space left on device"):
            acquire.run(larger, paths, settings)
        assert contents(disk) == before


def test_a_place_that_cannot_be_written_is_one_sentence(paths: Paths, settings: Settings) -> None:
    (paths.root / "data").write_text("a file where a folder should be")
    with pytest.raises(BadEnvironment, match="cannot be made"):
        acquire.run(SAMPLE, paths, settings)


def test_what_a_killed_run_left_is_swept_away(paths: Paths, settings: Settings) -> None:
    left = paths.raw.with_name(".raw.part")
    left.mkdir(parents=True)
    (left / "images-000.zip").write_bytes(b"half")
    acquire.run(SAMPLE, paths, settings)
    assert [path.name for path in (paths.root / "data").iterdir()] == ["raw"]
