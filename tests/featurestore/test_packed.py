"""The packed features: equal content, equal bytes; a file that was cut short is refused."""

from __future__ import annotations

import os
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


def write(folder: Path, cuts: tuple[int, ...] = (), file_bytes: int = 4 * ROW) -> Path:
    write_packed(folder, META, IDS, np.split(ROWS, cuts), file_bytes)
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
    assert content(write(tmp_path / "b", cuts=(1, 2, 7))) == whole
    # Over something older, that had more files.
    write(tmp_path / "c", file_bytes=ROW)
    assert content(write(tmp_path / "c", cuts=(5,))) == whole
    assert list(whole) == ["features-000.npy", "features-001.npy", "features-002.npy", "index.json"]


def test_files_are_plain_npy(tmp_path: Path) -> None:
    folder = write(tmp_path)
    arrays = [np.load(path, allow_pickle=False) for path in sorted(folder.glob("*.npy"))]
    assert [len(array) for array in arrays] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate(arrays), ROWS)


def test_no_images_is_no_file(tmp_path: Path) -> None:
    write_packed(tmp_path, META, [], [])
    assert len(PackedFeatures.open(tmp_path)) == 0


class TestCounts:
    """The system that this one replaces stored one image's features for a whole dataset, because of a stray break."""

    def test_fewer_rows_than_images(self, tmp_path: Path) -> None:
        with pytest.raises(BadData, match="Fewer rows of features than images"):
            write_packed(tmp_path, META, IDS, [ROWS[:9]])
        with pytest.raises(BadData, match=r"index.json is missing"):
            PackedFeatures.open(tmp_path)

    def test_more_rows_than_images(self, tmp_path: Path) -> None:
        with pytest.raises(BadData, match="More rows of features than the 10 images"):
            write_packed(tmp_path, META, IDS, [ROWS, ROWS[:1]])

    @pytest.mark.parametrize("bad", [ROWS.astype(np.float32), ROWS.reshape(10, 3, 2), ROWS.reshape(10, 6)])
    def test_rows_of_another_shape(self, tmp_path: Path, bad: np.ndarray) -> None:
        with pytest.raises(BadData, match=r"A block of features is .*, not float16\(2, 3\)"):
            write_packed(tmp_path, META, IDS, [bad])


class TestDamage:
    @pytest.mark.parametrize("name", ["features-000.npy", "features-002.npy"])
    @pytest.mark.parametrize("lost", [1, 20, 150])
    def test_a_file_cut_short_is_refused(self, tmp_path: Path, name: str, lost: int) -> None:
        file = write(tmp_path) / name
        os.truncate(file, max(0, file.stat().st_size - lost))
        with pytest.raises(BadData, match=rf"{name} is damaged or cut short \(.*run captioner features again"):
            PackedFeatures.open(tmp_path)

    def test_a_file_that_is_missing_is_refused(self, tmp_path: Path) -> None:
        (write(tmp_path) / "features-001.npy").unlink()
        with pytest.raises(BadData, match=r"features-001.npy cannot be read \(No such file"):
            PackedFeatures.open(tmp_path)

    def test_another_array_is_refused(self, tmp_path: Path) -> None:
        np.save(write(tmp_path) / "features-000.npy", ROWS[:4].astype(np.float32))
        with pytest.raises(BadData, match="damaged"):
            PackedFeatures.open(tmp_path)

    @pytest.mark.parametrize("old", ['"format": 1', '"channels": 3', '"rows_per_file": 4', '"9.jpg"', '"rows": 2'])
    def test_an_index_that_does_not_fit_is_refused(self, tmp_path: Path, old: str) -> None:
        index = write(tmp_path) / "index.json"
        new = {'"9.jpg"': '"9.jpg", "10.jpg"'}.get(old, old[:-1] + "7")
        assert old in index.read_text()
        index.write_text(index.read_text().replace(old, new))
        with pytest.raises(BadData, match="captioner features again"):
            PackedFeatures.open(tmp_path)

    def test_nothing_there_is_one_clear_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(BadData, match="run the stage that writes it first"):
            PackedFeatures.open(tmp_path / "none")


def test_a_folder_that_cannot_be_written_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadEnvironment, match=r"The features cannot be written to .*Not a directory"):
        write(tmp_path / "file" / "features")
