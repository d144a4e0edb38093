"""The feature store: what was committed is there whatever is killed, and what is damaged is found out."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from captioner.errors import BadData, BadEnvironment
from captioner.featurestore.index import FeatureStore, folder_name
from captioner.featurestore.shards import DamagedShard, Features
from captioner.records import FeaturesMeta, write_json

META = FeaturesMeta("tiny", "grid", 8, 2, 3, "0" * 64, "test")


def digest(image: int) -> str:
    return f"{image:032x}"


def rows(*images: int) -> Features:
    """The features of images: their numbers, and what tells the places of a row apart."""
    return (np.array(images, np.float16)[:, None, None] + np.arange(6).reshape(2, 3) / 8).astype(np.float16)


def append(store: FeatureStore, *images: int) -> None:
    with store.appending() as shards:
        shards.add([digest(image) for image in images], rows(*images))


def read(store: FeatureStore, *images: int) -> Features:
    return store.rows([digest(image) for image in images])


def files(store: FeatureStore, pattern: str) -> list[Path]:
    return sorted(path for path in store.folder.glob(pattern) if path.name != "meta.json")


def test_rows_come_back_by_digest_in_any_order(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, META)
    append(store, 1, 2, 3)
    append(store, 4, 5)
    for opened in (store, FeatureStore(tmp_path, META)):
        assert len(opened) == 5
        assert digest(4) in opened
        assert digest(6) not in opened
        np.testing.assert_array_equal(read(opened, 5, 1, 2, 4, 3, 1), rows(5, 1, 2, 4, 3, 1))
        with pytest.raises(KeyError):
            read(opened, 1, 6)


def test_blocks_are_cut_by_place_not_by_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captioner.featurestore.index.BLOCK_BYTES", 3 * 12)
    images = list(range(10))
    together, apart = FeatureStore(tmp_path / "a", META), FeatureStore(tmp_path / "b", META)
    append(together, *images)
    for image in reversed(images):
        append(apart, image)
    digests = [digest(image) for image in images]
    for first, second in zip(together.blocks(digests), apart.blocks(digests), strict=True):
        np.testing.assert_array_equal(first, second)
    assert [len(block) for block in apart.blocks(digests)] == [3, 3, 3, 1]


def test_shards_are_npy_files(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, META)
    append(store, 1, 2, 3)
    (file,) = files(store, "*.npy")
    np.testing.assert_array_equal(np.load(file, mmap_mode="r", allow_pickle=False), rows(1, 2, 3))


@pytest.mark.parametrize("change", [{"encoder": "other"}, {"weights_digest": "1" * 64}, {"preprocessing": "2"}])
def test_another_kind_of_features_is_another_key(tmp_path: Path, change: dict[str, str]) -> None:
    append(FeatureStore(tmp_path, META), 1)
    other = FeaturesMeta(**{**META.__dict__, **change})
    assert digest(1) not in FeatureStore(tmp_path, other)
    assert digest(1) in FeatureStore(tmp_path, META)
    assert folder_name(other) != folder_name(META)


def test_a_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, META)
    append(store, 1)
    (store.folder / "meta.json").write_text('{"encoder": "other"}')
    with pytest.raises(BadData, match="holds features of another kind"):
        FeatureStore(tmp_path, META)


def test_opening_writes_nothing(tmp_path: Path) -> None:
    assert len(FeatureStore(tmp_path / "store", META)) == 0
    assert not (tmp_path / "store").exists()


class TestWhatCannotBeStored:
    def test_numbers_that_are_not_finite(self, tmp_path: Path) -> None:
        store = FeatureStore(tmp_path, META)
        bad = rows(1, 2)
        bad[1, 1, 1] = np.inf
        with pytest.raises(BadData, match="not finite numbers"):
            self._add(store, bad)
        assert len(FeatureStore(tmp_path, META)) == 0

    @pytest.mark.parametrize("bad", [rows(1), rows(1, 2).astype(np.float32), rows(1, 2).reshape(2, 3, 2)])
    def test_rows_of_another_shape(self, tmp_path: Path, bad: np.ndarray) -> None:
        with pytest.raises(BadData, match="2 images gave features of"):
            self._add(FeatureStore(tmp_path, META), bad)

    @staticmethod
    def _add(store: FeatureStore, bad: np.ndarray) -> None:
        with store.appending() as shards:
            shards.add([digest(1), digest(2)], bad)


class TestInterrupted:
    def test_an_error_keeps_what_was_added(self, tmp_path: Path) -> None:
        store = FeatureStore(tmp_path, META)
        with pytest.raises(KeyboardInterrupt):
            self._interrupted(store)
        assert digest(1) in FeatureStore(tmp_path, META)

    @staticmethod
    def _interrupted(store: FeatureStore) -> None:
        with store.appending() as shards:
            shards.add([digest(1)], rows(1))
            raise KeyboardInterrupt

    @pytest.fixture
    def killed(self, tmp_path: Path) -> int:
        """A process that appends for ever is killed; returns the last image that it said was committed."""
        code = f"""
            import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
            from pathlib import Path
            from test_index import META, digest, rows
            from captioner.featurestore.index import FeatureStore
            with FeatureStore(Path({str(tmp_path)!r}), META).appending() as shards:
                for image in range(1000):
                    shards.add([digest(2 * image), digest(2 * image + 1)], rows(2 * image, 2 * image + 1))
                    if image % 3 == 2:
                        shards.commit()
                        print(2 * image + 1, flush=True)
                shards.add([digest(5000)], rows(5000))
                print("all", flush=True)
                sys.stdin.read()
        """
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
        )
        assert process.stdout
        committed = 0
        for line in process.stdout:
            if int(line) > 50:
                committed = int(line)
                break
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert process.stdin
        process.stdin.close()
        return committed

    def test_a_kill_loses_the_shard_in_flight_at_most(self, tmp_path: Path, killed: int) -> None:
        store = FeatureStore(tmp_path, META)
        assert store.damaged == []
        np.testing.assert_array_equal(read(store, *range(killed + 1)), rows(*range(killed + 1)))
        # All that is there is whole, also what was committed between the last line and the kill.
        assert len(store) % 6 == 0
        np.testing.assert_array_equal(read(store, *range(len(store))), rows(*range(len(store))))

    def test_what_a_kill_left_is_swept_up(self, tmp_path: Path, killed: int) -> None:
        store = FeatureStore(tmp_path, META)
        (store.folder / ".tmp-left.npy").write_bytes(b"half a shard")
        (store.folder / "committed-rows-without-index.npy").write_bytes(b"renamed, then killed")
        append(store, 9000)
        assert [path.name for path in store.folder.glob(".tmp-*")] == []
        assert {path.stem for path in files(store, "*.npy")} == {path.stem for path in files(store, "*.json")}
        assert digest(killed) in FeatureStore(tmp_path, META)


class TestTwoAtOnce:
    def test_nothing_is_swept_under_another_writer(self, tmp_path: Path) -> None:
        first, second = FeatureStore(tmp_path, META), FeatureStore(tmp_path, META)
        with first.appending() as shards:
            shards.add([digest(1)], rows(1))
            append(second, 2)
            shards.add([digest(3)], rows(3))
        np.testing.assert_array_equal(read(FeatureStore(tmp_path, META), 1, 2, 3), rows(1, 2, 3))

    def test_processes_that_write_the_same_images_agree(self, tmp_path: Path) -> None:
        code = f"""
            import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
            from pathlib import Path
            from test_index import META, digest, rows
            from captioner.featurestore.index import FeatureStore
            sys.stdin.readline()
            store = FeatureStore(Path({str(tmp_path)!r}), META)
            for start in range(0, 200, 4):
                with store.appending() as shards:
                    images = range(start, start + 4)
                    shards.add([digest(i) for i in images], rows(*images))
        """
        processes = [
            subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdin=subprocess.PIPE) for _ in range(2)
        ]
        for process in processes:
            assert process.stdin
            process.stdin.write(b"go\n")
            process.stdin.flush()
        for process in processes:
            process.communicate()
            assert process.returncode == 0
        store = FeatureStore(tmp_path, META)
        assert store.damaged == []
        np.testing.assert_array_equal(read(store, *range(200)), rows(*range(200)))


class TestDamage:
    @pytest.fixture
    def store(self, tmp_path: Path) -> FeatureStore:
        store = FeatureStore(tmp_path, META)
        append(store, 1, 2, 3)
        append(store, 4, 5)
        return store

    def shard_of(self, store: FeatureStore, image: int, suffix: str) -> Path:
        (found,) = [path for path in files(store, "*.json") if digest(image) in path.read_text()]
        return found.with_suffix(suffix)

    @pytest.mark.parametrize("left", [0, 5, 140, -1])
    def test_a_shard_cut_short_is_not_believed(self, tmp_path: Path, store: FeatureStore, left: int) -> None:
        file = self.shard_of(store, 2, ".npy")
        file.write_bytes(file.read_bytes()[:left])
        opened = FeatureStore(tmp_path, META)
        assert [digest(image) in opened for image in range(1, 6)] == [False, False, False, True, True]
        (sentence,) = opened.damaged
        assert sentence.startswith(f"The feature shard {file} is damaged (")
        append(opened, 1, 2, 3)
        np.testing.assert_array_equal(read(FeatureStore(tmp_path, META), 1, 2, 3, 4), rows(1, 2, 3, 4))

    def test_a_shard_that_vanished_is_not_believed(self, tmp_path: Path, store: FeatureStore) -> None:
        self.shard_of(store, 4, ".npy").unlink()
        opened = FeatureStore(tmp_path, META)
        assert [digest(image) in opened for image in range(1, 6)] == [True, True, True, False, False]
        assert "No such file" in opened.damaged[0]

    @pytest.mark.parametrize("text", ["", "{}", '{"digests": ["a"]}', '{"digests": ["a", "b"], "crc32": [1]}', "["])
    def test_an_index_that_does_not_fit_is_not_believed(self, tmp_path: Path, store: FeatureStore, text: str) -> None:
        self.shard_of(store, 4, ".json").write_text(text)
        opened = FeatureStore(tmp_path, META)
        assert len(opened) == 3
        assert len(opened.damaged) == 1

    def test_an_index_that_points_beyond_its_shard_is_not_believed(self, tmp_path: Path, store: FeatureStore) -> None:
        short, long = self.shard_of(store, 4, ".json"), self.shard_of(store, 1, ".json")
        short.write_text(long.read_text())
        assert f"{short.with_suffix('.npy')} is damaged" in FeatureStore(tmp_path, META).damaged[0]

    def test_a_changed_number_is_found_when_it_is_read(self, tmp_path: Path, store: FeatureStore) -> None:
        file = self.shard_of(store, 2, ".npy")
        data = bytearray(file.read_bytes())
        data[-20] ^= 4  # row 1 of 3, so image 2
        file.write_bytes(data)
        opened = FeatureStore(tmp_path, META)
        np.testing.assert_array_equal(read(opened, 1, 3, 4), rows(1, 3, 4))
        with pytest.raises(DamagedShard, match=r"is damaged \(row 1 has changed\): run captioner features again"):
            read(opened, 1, 2, 3)
        opened.check([digest(image) for image in range(1, 6)])
        assert [digest(image) in opened for image in range(1, 6)] == [False, False, False, True, True]
        append(opened, 2, 1, 3)
        assert digest(2) in FeatureStore(tmp_path, META)
        np.testing.assert_array_equal(read(FeatureStore(tmp_path, META), 1, 2, 3), rows(1, 2, 3))

    def test_a_shard_cut_under_a_reader_raises_and_does_not_crash(self, store: FeatureStore) -> None:
        file = self.shard_of(store, 2, ".npy")
        os.truncate(file, 140)
        with pytest.raises(DamagedShard, match="cut short"):
            read(store, 1, 2, 3)


class TestDisk:
    def test_a_folder_that_cannot_be_written_is_one_clear_sentence(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(BadEnvironment, match=r"feature store .* cannot be written .*set CAPTIONER_FEATURE_STORE"):
            append(FeatureStore(tmp_path / "file" / "store", META), 1)

    def test_a_full_disk_is_one_clear_sentence_and_keeps_what_was_committed(self, tmp_path: Path) -> None:
        """A limit on the size of files stands for a full disk: write() fails the same way, in the middle."""
        code = f"""
            import resource, signal, sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
            from pathlib import Path
            from test_index import META, digest, rows
            from captioner.errors import BadEnvironment
            from captioner.featurestore.index import FeatureStore
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            try:
                with FeatureStore(Path({str(tmp_path)!r}), META).appending() as shards:
                    shards.add([digest(1)], rows(1))
                    shards.commit()
                    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
                    for start in range(2, 3000, 50):
                        shards.add([digest(i) for i in range(start, start + 50)], rows(*range(start, start + 50)))
            except BadEnvironment as error:
                print(error)
        """
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
        assert "cannot be written (File too large): free some space" in done.stdout
        store = FeatureStore(tmp_path, META)
        assert [digest(1) in store, len(store)] == [True, 1]
        assert list(store.folder.glob(".tmp-*")) == []


def test_an_engine_has_a_folder_of_its_own_and_tensorflows_is_named_as_it_was_before_there_were_engines() -> None:
    before = {name: value for name, value in asdict(META).items() if name != "engine"}
    key = hashlib.blake2b(json.dumps(before, sort_keys=True).encode(), digest_size=6).hexdigest()
    assert folder_name(META) == f"tiny-grid-{key}"
    assert folder_name(replace(META, engine="openvino")).startswith("tiny-grid-openvino-")


def test_a_store_from_before_there_were_engines_is_read(tmp_path: Path) -> None:
    folder = tmp_path / folder_name(META)
    write_json(folder / "meta.json", {name: value for name, value in asdict(META).items() if name != "engine"})
    assert len(FeatureStore(tmp_path, META)) == 0
