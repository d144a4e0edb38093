"""validate on small datasets with every fault that it must find, and on the real Flickr8k."""

from __future__ import annotations

import io
import json
import struct
import time
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from captioner.errors import BadData, BadEnvironment, GateFailed
from captioner.packs import PackWriter, digest
from captioner.params import ValidateParams, load_params, parse_params
from captioner.paths import Paths
from captioner.records import (
    ImageRecord,
    Quarantined,
    Split,
    read_jsonl,
    read_manifest,
    write_jsonl,
    write_manifest,
)
from captioner.settings import Settings
from captioner.stages import acquire, validate

LIMITS: dict[str, Any] = {
    "captions_per_image": 3,
    "captions_per_image_min": 1,
    "max_words": 10,
    "min_pixels": 8,
    "max_pixels": 100,
    "max_aspect": 4.0,
    "min_vocabulary": 5,
    "min_images": {"train": 2, "dev": 1, "test": 1},
    "max_quarantined": 0.5,
}


def params(**changes: Any) -> ValidateParams:
    return ValidateParams(**{**LIMITS, **changes})


def picture(shade: int, size: tuple[int, int] = (16, 12), mode: str = "RGB", kind: str = "PNG") -> bytes:
    """A plain picture; another `shade` is another content."""
    out = io.BytesIO()
    Image.new("L", size, shade).convert(mode).save(out, kind)
    return out.getvalue()


def bomb() -> bytes:
    """A PNG of under 100 bytes that says it has 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


class Dataset:
    """Writes ``data/raw`` as acquire does. Starts with four good images of two good captions each."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.rows: list[tuple[str, bytes, Split, tuple[str, ...]]] = []
        self.orphans: list[Quarantined] = []
        splits: tuple[Split, ...] = ("train", "train", "dev", "test")
        for number, split in enumerate(splits):
            self.add(
                f"good-{number}.png", picture(10 * number), split, f"a dog runs {number}", f"some cat sits {number}"
            )

    def add(self, name: str, data: bytes, split: Split, *captions: str) -> None:
        self.rows.append((name, data, split, captions or (f"the picture {name}",)))

    def write(self) -> None:
        with PackWriter(self.paths.raw) as packs:
            records = [
                ImageRecord(
                    name, packs.add(f"{number}-{name}", data), f"{number}-{name}", digest(data), split, captions
                )
                for number, (name, data, split, captions) in enumerate(sorted(self.rows, key=lambda row: row[0]))
            ]
        write_manifest(self.paths.raw / "manifest.jsonl", records)
        write_jsonl(self.paths.raw / "orphans.jsonl", [asdict(orphan) for orphan in self.orphans])


@pytest.fixture
def dataset(paths: Paths) -> Dataset:
    return Dataset(paths)


def run(dataset: Dataset, **changes: Any) -> validate.ValidateReport:
    dataset.write()
    return validate.run(params(**changes), dataset.paths)


def quarantine(paths: Paths) -> list[dict[str, Any]]:
    return list(read_jsonl(paths.validated / "quarantine.jsonl"))


def kept(paths: Paths) -> dict[str, tuple[str, ...]]:
    return {record.id: record.captions for record in read_manifest(paths.validated / "manifest.jsonl")}


def test_good_data_passes_with_nothing_set_aside(dataset: Dataset, paths: Paths) -> None:
    report = run(dataset)
    assert (report.images, report.captions, report.quarantined) == (4, 8, {})
    assert report.splits == {"train": 2, "dev": 1, "test": 1, "none": 0}
    assert report.captions_per_image == {"2": 4}
    assert report.vocabulary == 8  # a dog runs 0 1 some cat sits
    assert report.expectations["raw_run"] == report.expectations["raw_met"] > 10
    assert report.expectations["validated_run"] == report.expectations["validated_met"] > 15
    assert (paths.validated / "manifest.jsonl").read_bytes() == (paths.raw / "manifest.jsonl").read_bytes()
    assert quarantine(paths) == []
    assert json.loads(paths.report("validate").read_text()) == asdict(report)
    assert "were met" in (paths.data_docs / "index.html").read_text()


def test_the_outs_are_the_same_bytes_again(dataset: Dataset, paths: Paths) -> None:
    dataset.add("twice.png", picture(99), "train", "one caption", "One caption.", "")
    dataset.add("bad.png", b"not a picture", "train")

    def outs() -> dict[str, bytes]:
        run(dataset)
        files = [*paths.validated.iterdir(), paths.report("validate")]
        return {file.name: file.read_bytes() for file in files}

    first = outs()
    assert sorted(first) == ["manifest.jsonl", "quarantine.jsonl", "validate.json"]
    assert outs() == first
    assert all(str(paths.root).encode() not in content for content in first.values())


BAD_IMAGES: dict[str, tuple[bytes, str, str]] = {
    "empty": (b"", "image cannot be decoded", "empty is empty"),
    "text": (b"a dog, as text", "image cannot be decoded", "not a picture"),
    "cut-png": (picture(5)[:-30], "image cannot be decoded", "cut short"),
    "cut-jpeg": (picture(5, (60, 60), kind="JPEG")[:-200], "image cannot be decoded", "cut short"),
    "bomb": (bomb(), "image cannot be decoded", "3,600,000,000 pixels"),
    "small": (picture(5, (7, 9)), "image too small", "9 x 7"),
    "large": (picture(5, (101, 50)), "image too large", "101 x 50"),
    "long": (picture(5, (90, 20)), "image too long or too wide", "90 x 20"),
    "leak": (picture(10), "same image in another split", "train: good-1.png"),
}
MODES = {"1": "PNG", "L": "PNG", "LA": "PNG", "P": "GIF", "RGBA": "PNG", "CMYK": "JPEG", "I;16": "PNG"}
# captions, why one goes, and its number
BAD_CAPTIONS: dict[str, tuple[tuple[str, ...], str, int]] = {
    "nothing": (("fine", ""), "empty caption", 2),
    "blank": (("fine", " \t "), "empty caption", 2),
    "signs": (("?! 42", "fine"), "caption without words", 1),
    "script": (("fine", "狗在跑"), "caption without words", 2),
    "control": (("fine", "a dog\x00\x07 runs"), "caption is not text", 2),
    "encoding": (("fine", "a caf\ufffd table"), "caption is not text", 2),
    "long-caption": (("fine", "a " * 11), "caption too long", 2),
    "twice": (("A dog runs.", "fine", "a dog runs"), "duplicate caption", 3),
    "many": (("one dog", "two dogs", "three dogs", "four dogs"), "caption too many", 4),
}


@pytest.fixture(scope="module")
def motley(tmp_path_factory: pytest.TempPathFactory) -> tuple[validate.ValidateReport, Paths]:
    """All of the above in one dataset, validated."""
    root = tmp_path_factory.mktemp("motley")
    dataset = Dataset(Paths(root=root, home=root / ".captioner"))
    for name, (data, _, _) in BAD_IMAGES.items():
        dataset.add(name, data, "none")
    for number, (mode, kind) in enumerate(MODES.items()):
        dataset.add(f"mode {mode}", picture(201 + number, mode=mode, kind=kind), "train")
    for number, (name, (captions, _, _)) in enumerate(BAD_CAPTIONS.items()):
        dataset.add(name, picture(101 + number), "train", *captions)
    return run(dataset, max_quarantined=0.9), dataset.paths


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_bad_image_is_set_aside_with_its_reason(motley: tuple[validate.ValidateReport, Paths], name: str) -> None:
    _, reason, detail = BAD_IMAGES[name]
    [row] = [row for row in quarantine(motley[1]) if row["id"] == name]
    assert (row["reason"], row["caption"]) == (reason, None)
    assert detail in row["detail"]
    assert name not in kept(motley[1])


@pytest.mark.parametrize("mode", MODES)
def test_an_image_of_any_usual_mode_stays(motley: tuple[validate.ValidateReport, Paths], mode: str) -> None:
    assert f"mode {mode}" in kept(motley[1])


@pytest.mark.parametrize("name", BAD_CAPTIONS)
def test_a_bad_caption_is_set_aside_and_its_image_stays(
    motley: tuple[validate.ValidateReport, Paths], name: str
) -> None:
    captions, reason, number = BAD_CAPTIONS[name]
    [row] = [row for row in quarantine(motley[1]) if row["id"] == name]
    assert (row["reason"], row["caption"], row["detail"]) == (reason, captions[number - 1], f"caption {number}")
    assert kept(motley[1])[name] == captions[: number - 1] + captions[number:]


def test_bad_rows_are_counted_by_reason(motley: tuple[validate.ValidateReport, Paths]) -> None:
    report = motley[0]
    assert report.quarantined == {
        "caption is not text": 2,
        "caption too long": 1,
        "caption too many": 1,
        "caption without words": 2,
        "duplicate caption": 1,
        "empty caption": 2,
        "image cannot be decoded": 5,
        "image too large": 1,
        "image too long or too wide": 1,
        "image too small": 1,
        "same image in another split": 1,
    }
    assert (report.quarantined_images, report.quarantined_captions) == (9, 9)
    assert report.images == 4 + len(MODES) + len(BAD_CAPTIONS)
    assert report.share_quarantined_images == round(9 / (report.images + 9), 6)


def test_the_references_of_dev_and_test_stay_as_published(dataset: Dataset, paths: Paths) -> None:
    dataset.add("odd.png", picture(200), "test", "A dog runs.", "a dog runs")
    assert run(dataset).quarantined == {}
    assert kept(paths)["odd.png"] == ("A dog runs.", "a dog runs")


def test_an_image_that_loses_too_many_captions_goes_too(dataset: Dataset, paths: Paths) -> None:
    dataset.add("odd.png", picture(200), "train", "fine", "", "?!")
    report = run(dataset, captions_per_image_min=2)
    assert report.quarantined == {"caption without words": 1, "empty caption": 1, "image with too few captions": 1}
    assert "odd.png" not in kept(paths)
    assert report.captions == 8


def test_an_image_id_that_is_there_twice_names_no_image(dataset: Dataset, paths: Paths) -> None:
    dataset.add("good-0.png", picture(201), "train")
    dataset.add("good-9.png", picture(202), "train")
    report = run(dataset)
    assert report.quarantined == {"image id not unique": 2}
    assert "good-0.png" not in kept(paths)


def test_of_one_picture_in_three_splits_the_tests_stays(dataset: Dataset, paths: Paths) -> None:
    same = picture(250)
    splits: tuple[Split, ...] = ("train", "test", "dev")
    for split in splits:
        dataset.add(f"same-{split}.png", same, split)
    report = run(dataset)
    assert report.quarantined == {"same image in another split": 2}
    assert "same-test.png" in kept(paths)
    assert {row["detail"] for row in quarantine(paths)} == {"test: same-test.png"}


def test_rows_that_acquire_could_not_join_are_counted_with_their_reason(dataset: Dataset, paths: Paths) -> None:
    name = "2258277193_586949ec62.jpg.1"
    dataset.orphans = [
        Quarantined(name, "caption without image", text) for text in ("people waiting", "", "people waiting")
    ]
    dataset.orphans += [
        Quarantined("lonely.jpg", "image without captions"),
        Quarantined("t:3", "malformed line", "x y"),
    ]
    report = run(dataset)
    assert report.quarantined == {"caption without image": 3, "image without captions": 1, "malformed line": 1}
    assert (report.quarantined_images, report.quarantined_captions) == (1, 4)
    assert report.share_quarantined_images == 0.2
    assert report.share_quarantined_captions == round(4 / 12, 6)
    assert len(quarantine(paths)) == 5
    assert len(kept(paths)) == 4


def test_images_in_no_split_stay_in_none(dataset: Dataset, paths: Paths) -> None:
    dataset.add("spare.png", picture(200), "none")
    assert run(dataset).splits["none"] == 1
    assert "spare.png" in kept(paths)


# The gate


def test_more_bad_rows_than_allowed_fail_and_are_still_shown(dataset: Dataset, paths: Paths) -> None:
    dataset.add("odd.png", b"not a picture", "train")
    with pytest.raises(GateFailed, match=r"20\.0% of the images .* allows 10\.0% \(1 × image cannot be decoded\)"):
        run(dataset, max_quarantined=0.1)
    assert [row["id"] for row in quarantine(paths)] == ["odd.png"]
    assert paths.report("validate").exists()
    assert not (paths.validated / "manifest.jsonl").exists()
    assert run(dataset, max_quarantined=0.2).images == 4


def test_many_bad_captions_fail_on_their_own_table(dataset: Dataset) -> None:
    dataset.add("odd.png", picture(200), "train", "fine", "", "?!")
    with pytest.raises(GateFailed, match=r"18\.2% of the captions are bad"):
        run(dataset, max_quarantined=0.1)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"min_vocabulary": 9}, r"vocabulary too small \(8 instead of at least 9\)"),
        ({"min_images": {"train": 3}}, r"train split too small \(2 instead of at least 3\)"),
        ({"min_images": {"dev": 2, "test": 2}}, r"dev split too small .*; test split too small"),
    ],
)
def test_a_table_that_is_too_small_fails(
    dataset: Dataset, paths: Paths, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(GateFailed, match=sentence):
        run(dataset, **changes)
    assert not (paths.validated / "manifest.jsonl").exists()
    assert "not met" in (paths.data_docs / "index.html").read_text()


def test_fewer_expectations_than_the_suite_holds_fail(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    from captioner import checks

    rules = checks.word_rules
    broken = checks.Rule("word misspelt", "expect_column_values_to_be_unique", {"column": "no such column"})
    monkeypatch.setattr(checks, "word_rules", lambda params: (*rules(params), broken))
    with pytest.raises(GateFailed, match=r"Only 40 of the 41 expectations ran.*'word misspelt'"):
        run(dataset)


def test_a_failed_run_leaves_no_manifest_of_an_earlier_one(dataset: Dataset, paths: Paths) -> None:
    run(dataset)
    with pytest.raises(GateFailed):
        run(dataset, min_vocabulary=1000)
    assert not (paths.validated / "manifest.jsonl").exists()


def test_no_images_at_all_fail(dataset: Dataset) -> None:
    dataset.rows = []
    with pytest.raises(GateFailed, match="split too small"):
        run(dataset)


# Damage is not a bad row


def test_a_manifest_that_is_missing_is_bad_data(paths: Paths) -> None:
    with pytest.raises(BadData, match=r"manifest\.jsonl is missing"):
        validate.run(params(), paths)


def test_a_pack_that_is_damaged_stops_the_stage(dataset: Dataset, paths: Paths) -> None:
    dataset.write()
    pack = paths.raw / "images-000.zip"
    data = bytearray(pack.read_bytes())
    at = data.index(b"IDAT")
    data[at + 6] ^= 0xFF
    pack.write_bytes(data)
    with pytest.raises(BadData, match="run acquire again"):
        validate.run(params(), paths)


def test_an_orphan_row_that_is_none_is_bad_data(dataset: Dataset, paths: Paths) -> None:
    dataset.write()
    write_jsonl(paths.raw / "orphans.jsonl", [{"id": "a"}])
    with pytest.raises(BadData, match=r"orphans\.jsonl"):
        validate.run(params(), paths)


# The real thing


def test_the_sample_passes_with_nothing_set_aside(paths: Paths, settings: Settings) -> None:
    sample = load_params(paths.params)
    acquire.run(sample.acquire, paths, settings)
    report = validate.run(sample.validate_, paths)
    assert report.quarantined == {}
    assert sample.acquire.sample is not None
    assert report.images == sample.acquire.sample.images
    assert report.expectations["raw_met"] == report.expectations["raw_run"]


def test_a_folder_that_cannot_be_written_is_one_sentence(dataset: Dataset, paths: Paths) -> None:
    dataset.write()
    (paths.root / "reports").write_text("a file, where the folder should be")
    with pytest.raises(BadEnvironment, match=r"validate\.json cannot be written"):
        validate.run(params(), paths)


def flickr8k_rows(folder: Path) -> Iterable[tuple[str, bytes, Split, tuple[str, ...]]]:
    with zipfile.ZipFile(folder / "Flickr8k_text.zip") as text:
        captions: defaultdict[str, list[str]] = defaultdict(list)
        for line in text.read("Flickr8k.token.txt").decode().splitlines():
            name, _, caption = line.partition("\t")
            captions[name.rpartition("#")[0]].append(caption)
        splits: dict[str, Split] = {}
        names: tuple[Split, ...] = ("train", "dev", "test")
        for split in names:
            splits |= dict.fromkeys(text.read(f"Flickr_8k.{split}Images.txt").decode().split(), split)
    with zipfile.ZipFile(folder / "Flickr8k_Dataset.zip") as images:
        for member in sorted(name for name in images.namelist() if name.endswith(".jpg")):
            name = member.rpartition("/")[2]
            yield name, images.read(member), splits.get(name, "none"), tuple(captions.pop(name))
    yield from ((name, b"", "none", tuple(lines)) for name, lines in captions.items())


def test_flickr8ks_oddities(dataset: Dataset, flickr8k: Path, root: Path) -> None:
    if not (flickr8k / "Flickr8k_Dataset.zip").is_file():
        pytest.skip("no Flickr8k_Dataset.zip")
    dataset.rows = [row for row in flickr8k_rows(flickr8k) if row[1] or dataset.orphans.extend(_orphans(row))]
    dataset.write()
    profile = parse_params(yaml.safe_load((root / "profiles" / "flickr8k.yaml").read_text())).validate_

    started = time.process_time()
    report = validate.run(profile, dataset.paths)
    assert time.process_time() - started < 60  # seconds of CPU: other work on the machine does not count

    assert report.images == 8091
    assert report.splits == {"train": 6000, "dev": 1000, "test": 1000, "none": 91}
    assert report.quarantined == {"caption without image": 5, "duplicate caption": 17}
    rows = quarantine(dataset.paths)
    assert {row["id"] for row in rows if row["reason"] == "caption without image"} == {"2258277193_586949ec62.jpg.1"}
    records = read_manifest(dataset.paths.validated / "manifest.jsonl")
    # The one identical pair is in one split, so it leaks nothing and both stay.
    pair = [record for record in records if record.id in ("2851198725_37b6027625.jpg", "3050606344_af711c726c.jpg")]
    assert len({record.digest for record in pair}) == 1
    assert [record.split for record in pair] == ["train", "train"]
    # The protocol: all five references of each of the 1,000 test images.
    assert {len(record.captions) for record in records if record.split == "test"} == {5}


def _orphans(row: tuple[str, bytes, Split, tuple[str, ...]]) -> list[Quarantined]:
    return [Quarantined(row[0], "caption without image", caption) for caption in row[3]]
