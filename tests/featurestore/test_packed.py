"""The packed features: equal content, equal bytes; what stays the same is kept; a damaged file is refused."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from captioner.errors import BadData, BadEnvironment
from captioner.featurestore.packed import PackedFeatures, write_packed
from captioner.featurestore.shards import Features
from captioner.records import FeaturesMeta

META = FeaturesMeta("tiny", "grid", 8, 2, 3, "0" * 64, "test")
ROW = 2 * 2 * 3
IDS = [f"{i}.jpg" for i in range(10)]
ROWS: Features = np.random.default_rng(0).normal(size=(10, 2, 3)).astype(np.float16)


def write(folder: Path, images: int = 10, file_bytes: int = 3 * ROW) -> Path:
    ids = IDS[:images]
    write_packed(folder, META, ids, ids, ROWS[:images].__getitem__, file_bytes)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_rows_come_back_in_any_order(tmp_path: Path) -> None:
    packed = PackedFeatures.open(write(tmp_path))
    assert (packed.meta, packed.ids, len(packed)) == (META, tuple(IDS), 10)
    np.testing.assert_array_equal(packed.rows(range(10)), ROWS)
    order = [9, 0, 3, 4, 4, 8, 1]
    np.testing.assert_array_equal(packed.rows(order), ROWS[order])
    np.testing.assert_array_equal(packed.rows(np.array(order, np.int32)), ROWS[order])
    assert packed.rows([]).shape == (0, 2, 3)
    assert packed.rows(order).dtype == np.float16


@pytest.mark.parametrize("bad", [[-1], [10], [0, 11]])
def test_a_row_that_does_not_exist_is_an_error(tmp_path: Path, bad: list[int]) -> None:
    packed = PackedFeatures.open(write(tmp_path))
    with pytest.raises(IndexError, match="rows 0 to 9 exist"):
        packed.rows(bad)


def test_equal_content_gives_equal_bytes_however_it_came(tmp_path: Path) -> None:
    whole = content(write(tmp_path / "a"))
    assert list(whole) == [f"features-{number:04d}.npy" for number in range(4)] + ["index.json"]
    write(tmp_path / "b", images=9)
    assert content(write(tmp_path / "b")) == whole
    # Over something older, that had more files; over one of another format.
    write(tmp_path / "c", file_bytes=ROW)
    assert content(write(tmp_path / "c")) == whole
    (tmp_path / "c" / "index.json").write_text('{"format": 1, "files": [{"name": "features-000.npy", "rows": 10}]}')
    (tmp_path / "c" / "features-000.npy").write_bytes(b"old")
    assert content(write(tmp_path / "c")) == whole


def test_files_whose_rows_stay_the_same_are_kept(tmp_path: Path) -> None:
    fewer, asked = IDS[:4] + IDS[5:], []
    write_packed(tmp_path, META, fewer, fewer, ROWS[[0, 1, 2, 3, 5, 6, 7, 8, 9]].__getitem__, 3 * ROW)
    for file in tmp_path.glob("*.npy"):
        os.utime(file, (1, 1))

    def read(rows: Sequence[int]) -> Features:
        asked.extend(rows)
        return ROWS[rows]

    written = write_packed(tmp_path, META, IDS, IDS, read, 3 * ROW)
    new = [file for file in tmp_path.glob("*.npy") if file.stat().st_mtime != 1]
    assert len(new) == 1
    assert len(list(tmp_path.glob("*.npy"))) == 4
    assert 4 in asked
    assert len(np.load(new[0])) == len(asked) == written < 10  # nothing else was read
    assert content(tmp_path) == content(write(tmp_path.with_name("whole")))


def test_what_is_made_of_something_else_is_written_again(tmp_path: Path) -> None:
    write(tmp_path)
    others: Features = ROWS + np.float16(1)
    changed = [f"other {name}" if name == "3.jpg" else name for name in IDS]
    assert 1 <= write_packed(tmp_path, META, IDS, changed, others.__getitem__, 3 * ROW) < 10
    found = PackedFeatures.open(tmp_path).rows(range(10))
    np.testing.assert_array_equal(found[3], others[3])
    # Features of another encoder: all of them; of other images in another order: those that moved.
    assert write_packed(tmp_path, replace(META, encoder="b"), IDS, IDS, ROWS.__getitem__, 3 * ROW) == 10
    backwards = IDS[::-1]
    write_packed(tmp_path, replace(META, encoder="b"), backwards, backwards, ROWS[::-1].__getitem__, 3 * ROW)
    np.testing.assert_array_equal(PackedFeatures.open(tmp_path).rows(range(10)), ROWS[::-1])


def test_a_file_that_was_cut_short_or_lost_is_written_again(tmp_path: Path) -> None:
    whole = content(write(tmp_path))
    os.truncate(tmp_path / "features-0000.npy", 50)
    (tmp_path / "features-0001.npy").unlink()
    assert content(write(tmp_path)) == whole


def test_a_link_into_a_cache_is_replaced_and_never_written_through(tmp_path: Path) -> None:
    write(tmp_path / "features", images=9)
    kept = tmp_path / "cache"
    kept.mkdir()
    for file in (tmp_path / "features").glob("*.npy"):
        os.link(file, kept / file.name)
    before = content(kept)
    write(tmp_path / "features")
    assert content(kept) == before


def test_files_are_plain_npy(tmp_path: Path) -> None:
    arrays = [np.load(path, allow_pickle=False) for path in write(tmp_path).glob("*.npy")]
    assert sorted(np.concatenate(arrays).tolist()) == sorted(ROWS.tolist())


def test_there_are_never_more_files_than_a_process_may_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captioner.featurestore.packed.MOST_FILES", 2)
    packed = PackedFeatures.open(write(tmp_path))
    assert len(list(tmp_path.glob("*.npy"))) == 2
    np.testing.assert_array_equal(packed.rows(range(10)), ROWS)


def test_no_images_is_no_file(tmp_path: Path) -> None:
    write_packed(tmp_path, META, [], [], ROWS.__getitem__)
    assert len(PackedFeatures.open(tmp_path)) == 0


class TestCounts:
    """The system that this one replaces stored one image's features for a whole dataset, because of a stray break."""

    def test_fewer_rows_than_images(self, tmp_path: Path) -> None:
        with pytest.raises(BadData, match=r"A block of features is float16\(.*, not float16"):
            write_packed(tmp_path, META, IDS, IDS, lambda rows: ROWS[rows][1:])
        with pytest.raises(BadData, match=r"index.json is missing"):
            PackedFeatures.open(tmp_path)

    def test_contents_of_another_number_of_images(self, tmp_path: Path) -> None:
        with pytest.raises(BadData, match="9 rows of features for 10 images"):
            write_packed(tmp_path, META, IDS, IDS[:9], ROWS.__getitem__)

    @pytest.mark.parametrize("bad", [ROWS.astype(np.float32), ROWS.reshape(10, 3, 2), ROWS.reshape(10, 6)])
    def test_rows_of_another_shape(self, tmp_path: Path, bad: np.ndarray) -> None:
        with pytest.raises(BadData, match=r"A block of features is .*, not float16\(10, 2, 3\)"):
            write_packed(tmp_path, META, IDS, IDS, bad.__getitem__)


class TestDamage:
    @pytest.mark.parametrize("name", ["features-0000.npy", "features-0002.npy"])
    @pytest.mark.parametrize("lost", [1, 20, 150])
    def test_a_file_cut_short_is_refused(self, tmp_path: Path, name: str, lost: int) -> None:
        file = write(tmp_path) / name
        os.truncate(file, max(0, file.stat().st_size - lost))
        with pytest.raises(BadData, match=rf"{name} is damaged or cut short \(.*run captioner features again"):
            PackedFeatures.open(tmp_path)

    def test_a_file_that_is_missing_is_refused(self, tmp_path: Path) -> None:
        (write(tmp_path) / "features-0001.npy").unlink()
        with pytest.raises(BadData, match=r"features-0001.npy cannot be read \(No such file"):
            PackedFeatures.open(tmp_path)

    def test_another_array_is_refused(self, tmp_path: Path) -> None:
        np.save(write(tmp_path) / "features-0000.npy", ROWS[:4].astype(np.float32))
        with pytest.raises(BadData, match="damaged"):
            PackedFeatures.open(tmp_path)

    @pytest.mark.parametrize("old", ['"format": 2', '"channels": 3', '"of": 4', '"of":', '"9.jpg"', '"rows": '])
    def test_an_index_that_does_not_fit_is_refused(self, tmp_path: Path, old: str) -> None:
        index = write(tmp_path) / "index.json"
        others = {'"9.jpg"': '"9.jpg", "10.jpg"', '"rows": ': '"rows": 1', '"of":': '"of": 0, "was":'}
        new = others.get(old, old[:-1] + "7")
        assert old in index.read_text()
        index.write_text(index.read_text().replace(old, new))
        with pytest.raises(BadData, match="captioner features again"):
            PackedFeatures.open(tmp_path)

    @pytest.mark.parametrize("index", ["[]", '{"format": 2}', '{"format": 2, "files": 3}', "{"])
    def test_an_index_that_is_none_is_in_nobodys_way(self, tmp_path: Path, index: str) -> None:
        whole = content(write(tmp_path))
        (tmp_path / "index.json").write_text(index)
        with pytest.raises(BadData):
            PackedFeatures.open(tmp_path)
        assert content(write(tmp_path)) == whole

    def test_nothing_there_is_one_clear_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(BadData, match="run the stage that writes it first"):
            PackedFeatures.open(tmp_path / "none")


def test_a_folder_that_cannot_be_written_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadEnvironment, match=r"The features cannot be written to .*Not a directory"):
        write(tmp_path / "file" / "features")
