"""Packs: equal content gives equal bytes, and nothing that is damaged is ever returned."""

from __future__ import annotations

import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from captioner.errors import BadData, BadEnvironment
from captioner.packs import PackReader, PackWriter, digest
from captioner.records import ImageRecord
from tests.disks import small_disk


def write(folder: Path, members: dict[str, bytes], pack_bytes: int = 64_000_000) -> list[ImageRecord]:
    with PackWriter(folder, pack_bytes) as packs:
        return [
            ImageRecord(name, packs.add(name, data), name, digest(data), "train", ("a caption",))
            for name, data in members.items()
        ]


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    members = {f"{i}.jpg": os.urandom(100 + i) for i in range(50)}
    rows = write(tmp_path, members)
    with PackReader(tmp_path) as reader:
        assert {row.id: reader.read(row) for row in rows} == members


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    members = {"a.jpg": b"1" * 100, "folder/b.jpg": b"2" * 100}
    for folder in ("one", "two"):
        write(tmp_path / folder, members)
    assert (tmp_path / "one/images-000.zip").read_bytes() == (tmp_path / "two/images-000.zip").read_bytes()


def test_packs_are_stored_without_a_clock(tmp_path: Path) -> None:
    write(tmp_path, {"a.jpg": b"1" * 1000})
    with zipfile.ZipFile(tmp_path / "images-000.zip") as pack:
        (member,) = pack.infolist()
    assert (member.compress_type, member.date_time) == (zipfile.ZIP_STORED, (1980, 1, 1, 0, 0, 0))


def test_a_pack_stays_under_its_limit(tmp_path: Path) -> None:
    rows = write(tmp_path, {f"{i:03d}.jpg": bytes(900) for i in range(100)}, pack_bytes=10_000)
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert len(sizes) > 5
    assert max(sizes.values()) <= 10_000
    assert {row.pack for row in rows} == set(sizes)


def test_a_large_member_has_a_pack_of_its_own(tmp_path: Path) -> None:
    rows = write(tmp_path, {"a": bytes(10), "b": bytes(20_000), "c": bytes(10)}, pack_bytes=10_000)
    assert [row.pack for row in rows] == ["images-000.zip", "images-001.zip", "images-002.zip"]


def test_a_name_is_given_once(tmp_path: Path) -> None:
    with PackWriter(tmp_path) as packs:
        packs.add("a.jpg", b"1")
        with pytest.raises(BadData, match=r"'a\.jpg' is there twice"):
            packs.add("a.jpg", b"2")


def test_threads_share_a_reader(tmp_path: Path) -> None:
    members = {f"{i}.jpg": os.urandom(20_000) for i in range(40)}
    rows = write(tmp_path, members, pack_bytes=100_000)
    with PackReader(tmp_path) as reader, ThreadPoolExecutor(8) as pool:
        for row, data in zip(rows * 5, pool.map(reader.read, rows * 5), strict=True):
            assert data == members[row.id]


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda pack, data: pack.unlink(), "is missing: run acquire again"),
        (lambda pack, data: pack.write_bytes(data[:-30]), "is damaged at"),
        (lambda pack, data: pack.write_bytes(data[: len(data) // 2]), "is damaged at"),
        (lambda pack, data: pack.write_bytes(data.replace(b"picture", b"pICTURE")), "is damaged at"),
        (lambda pack, data: write(pack.parent, {"a.jpg": b"another"}), "is not what the manifest says"),
        (lambda pack, data: write(pack.parent, {"b.jpg": b"another"}), r"does not hold 'a\.jpg'"),
    ],
)
def test_a_harmed_pack_is_refused(tmp_path: Path, harm: object, says: str) -> None:
    (row,) = write(tmp_path, {"a.jpg": b"a picture " * 100})
    pack = tmp_path / row.pack
    harm(pack, pack.read_bytes())  # type: ignore[operator]
    with PackReader(tmp_path) as reader, pytest.raises(BadData, match=says):
        reader.read(row)


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 100 * 1024) as disk, pytest.raises(BadEnvironment, match="No space left"):
        write(disk / "raw", {f"{i}.jpg": os.urandom(30_000) for i in range(10)})


def test_a_full_disk_is_noticed_at_the_very_end(tmp_path: Path) -> None:
    """The directory of the zip, written last, is what does not fit."""
    with small_disk(tmp_path / "disk", 64 * 1024) as disk, pytest.raises(BadEnvironment, match="No space left"):
        write(disk / "raw", {"a.jpg": os.urandom(64 * 1024 - 40)})
