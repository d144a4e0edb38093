"""The features stage with the real encoder: incremental, resumable, bit-identical, and quiet about its history."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from captioner.errors import BadData, BadImage, BadParams
from captioner.featurestore.index import FeatureStore
from captioner.featurestore.packed import PackedFeatures
from captioner.model.identity import describe
from captioner.packs import PackWriter, digest
from captioner.params import FeaturesParams
from captioner.paths import Paths
from captioner.records import ImageRecord, read_json, write_manifest
from captioner.settings import Settings
from captioner.stages import features

PARAMS = FeaturesParams(encoder="efficientnet-lite0", layout="grid", batch=4)


def picture(number: int, mode: str = "RGB") -> bytes:
    """A few coloured blocks, so that features differ."""
    blocks = np.random.default_rng(number).integers(0, 256, (3, 4, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(blocks).resize((64, 48), Image.Resampling.NEAREST).convert(mode).save(file, "JPEG", quality=90)
    return file.getvalue()


def write_data(paths: Paths, numbers: Iterable[int], odd: dict[int, bytes] | None = None) -> list[ImageRecord]:
    """What acquire and validate leave behind, for pictures of these numbers (or of the bytes in `odd`)."""
    records = []
    with PackWriter(paths.raw) as packs:
        for number in sorted(numbers):
            data = (odd or {}).get(number) or picture(number)
            name = f"{number:04d}.jpg"
            records.append(ImageRecord(name, packs.add(name, data), name, digest(data), "train", ("a picture",)))
    write_manifest(paths.validated / "manifest.jsonl", records)
    return records


def content(paths: Paths) -> dict[str, bytes]:
    """All that is a DVC out of this stage."""
    return {file.name: file.read_bytes() for file in [*paths.features.iterdir(), paths.report("features")]}


@pytest.fixture(autouse=True)
def converted_once(paths: Paths, tmp_path_factory: pytest.TempPathFactory) -> None:
    """All tests share the converted weights."""
    cache = tmp_path_factory.getbasetemp() / "encoders"
    cache.mkdir(exist_ok=True)
    paths.home.mkdir(parents=True, exist_ok=True)
    (paths.home / "encoders").symlink_to(cache)


def test_features_of_every_image_in_the_manifests_order(paths: Paths, settings: Settings) -> None:
    records = write_data(paths, range(6))
    report = features.run(PARAMS, paths, settings)
    packed = PackedFeatures.open(paths.features)
    rows = packed.rows(range(6)).astype(np.float32)
    assert packed.ids == tuple(record.id for record in records)
    assert rows.shape == (6, 49, 1280)
    assert (report.images, report.cells, report.channels, report.encoder) == (6, 49, 1280, "efficientnet-lite0")
    assert report.weights_digest == packed.meta.weights_digest
    assert report.mean == pytest.approx(rows.mean(), rel=1e-4)
    assert report.deviation == pytest.approx(rows.std(), rel=1e-4)
    assert len({row.tobytes() for row in rows}) == 6
    assert read_json(paths.report("features"))["images"] == 6


def test_adding_images_encodes_those_and_equals_a_full_rebuild(
    paths: Paths, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    write_data(paths, range(0, 20, 2))
    features.run(PARAMS, paths, settings)
    write_data(paths, range(20))  # ten more, between the others
    features.run(PARAMS, paths, settings)
    assert "features: 20 images: 10 in the feature store, 10 encoded (" in capsys.readouterr().err
    grown = content(paths)

    features.run(PARAMS, paths, settings)
    assert "features: 20 images, all of them in the feature store; nothing to encode." in capsys.readouterr().err
    assert content(paths) == grown

    rebuilt = replace(settings, feature_store=settings.home / "another")
    features.run(PARAMS, paths, rebuilt)
    assert "20 images: 0 in the feature store, 20 encoded" in capsys.readouterr().err
    assert content(paths) == grown


def test_only_files_with_new_images_are_written_and_dvc_leaves_the_others(
    paths: Paths, settings: Settings, root: Path
) -> None:
    write_data(paths, range(30))
    features.run(PARAMS, paths, settings)
    for file in paths.features.glob("*.npy"):
        os.utime(file, (1, 1))
    write_data(paths, range(31))
    features.run(PARAMS, paths, settings)
    files = list(paths.features.glob("*.npy"))
    assert (len([file for file in files if file.stat().st_mtime != 1]), len(files)) == (1, 4)
    # Without it DVC would remove them before the stage runs.
    outs = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]["features"]["outs"]
    assert outs == [{"data/features": {"persist": True}}]


def test_removing_images_and_putting_them_back_costs_nothing(
    paths: Paths, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    write_data(paths, range(5))
    features.run(PARAMS, paths, settings)
    before = content(paths)
    write_data(paths, range(3))
    assert features.run(PARAMS, paths, settings).images == 3
    write_data(paths, range(5))
    features.run(PARAMS, paths, settings)
    assert content(paths) == before
    assert capsys.readouterr().err.count("nothing to encode") == 2


def test_equal_pictures_under_two_names_are_encoded_once(
    paths: Paths, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    write_data(paths, range(4), odd={3: picture(0)})
    features.run(PARAMS, paths, settings)
    rows = PackedFeatures.open(paths.features).rows(range(4))
    np.testing.assert_array_equal(rows[0], rows[3])
    assert "3 encoded" in capsys.readouterr().err


def test_another_layout_is_other_features(paths: Paths, settings: Settings) -> None:
    write_data(paths, range(3))
    features.run(PARAMS, paths, settings)
    grid = PackedFeatures.open(paths.features).rows(range(3)).astype(np.float32)
    features.run(FeaturesParams(encoder="efficientnet-lite0", layout="pooled", batch=4), paths, settings)
    pooled = PackedFeatures.open(paths.features).rows(range(3)).astype(np.float32)
    assert pooled.shape == (3, 1, 1280)
    np.testing.assert_allclose(pooled, grid.mean(axis=1, keepdims=True), atol=2e-2)


def test_odd_pictures_are_normalised_first(paths: Paths, settings: Settings) -> None:
    """CMYK, which TensorFlow does not read as what it shows, gives nearly the features of the same picture in RGB."""
    write_data(paths, range(3), odd={1: picture(0, "CMYK")})
    features.run(PARAMS, paths, settings)
    same, odd, other = PackedFeatures.open(paths.features).rows(range(3)).astype(np.float32).reshape(3, -1)
    assert np.corrcoef(same, odd)[0, 1] > 0.9 > np.corrcoef(same, other)[0, 1]


def test_a_warm_run_does_not_import_tensorflow(paths: Paths, settings: Settings) -> None:
    write_data(paths, range(3))
    features.run(PARAMS, paths, settings)
    before = content(paths)
    code = f"""
        import sys
        from pathlib import Path
        from captioner.params import FeaturesParams
        from captioner.paths import Paths
        from captioner.settings import Settings
        from captioner.stages import features
        root = Path({str(paths.root)!r})
        settings = Settings.from_env(root, {{}})
        features.run(FeaturesParams(encoder="efficientnet-lite0", batch=4), Paths.of(root, settings), settings)
        sys.exit(any(name in sys.modules for name in ("tensorflow", "keras")))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert content(paths) == before


class TestInterrupted:
    def test_an_image_that_does_not_decode_keeps_what_was_encoded(
        self, paths: Paths, settings: Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        data = picture(9)
        write_data(paths, range(12), odd={9: data[: len(data) // 2]})
        with pytest.raises(BadImage, match=r"0009.jpg"):
            features.run(PARAMS, paths, settings)
        write_data(paths, range(12))
        features.run(PARAMS, paths, settings)
        assert "12 images: 9 in the feature store, 3 encoded" in capsys.readouterr().err

    def test_a_kill_in_the_middle_and_another_run(
        self, paths: Paths, settings: Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_data(paths, range(1600))
        code = f"""
            from pathlib import Path
            from captioner.params import FeaturesParams
            from captioner.paths import Paths
            from captioner.settings import Settings
            from captioner.stages import features
            features.SHARD_IMAGES = 8
            root = Path({str(paths.root)!r})
            settings = Settings.from_env(root, {{}})
            features.run(FeaturesParams(encoder="efficientnet-lite0", batch=4), Paths.of(root, settings), settings)
        """
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "CAPTIONER_PROGRESS": "json"},
        )
        assert process.stderr
        for line in process.stderr:
            # Progress is told before a shard is written: at three, two are.
            if line.startswith('{"progress"') and json.loads(line)["progress"]["done"] >= 24:
                process.send_signal(signal.SIGKILL)
                break
        process.wait()
        process.stderr.close()
        assert process.returncode == -signal.SIGKILL
        assert not paths.features.exists()

        stored = len(FeatureStore(settings.feature_store, describe(PARAMS.encoder, PARAMS.layout, None, paths.home)))
        assert stored >= 16
        records = write_data(paths, range(stored + 24))  # enough to tell, and quicker
        features.run(PARAMS, paths, settings)
        hits = int(capsys.readouterr().err.split(" images: ")[1].split(" ")[0])
        assert hits == stored
        resumed = content(paths)
        features.run(PARAMS, paths, replace(settings, feature_store=settings.home / "another"))
        assert content(paths) == resumed
        assert len(PackedFeatures.open(paths.features)) == len(records)


class TestDamage:
    def test_a_shard_that_changed_is_encoded_again_and_said_so(
        self, paths: Paths, settings: Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_data(paths, range(5))
        features.run(PARAMS, paths, settings)
        before = content(paths)
        (shard,) = settings.feature_store.glob("*/*.npy")
        data = bytearray(shard.read_bytes())
        data[-1000] ^= 8
        shard.write_bytes(data)
        shutil.rmtree(paths.features)  # else its files would be kept, and nobody would ask for the row
        features.run(PARAMS, paths, settings)
        assert content(paths) == before
        said = capsys.readouterr().err
        assert (
            f"features: The feature shard {shard} is damaged (row 4 has changed): its images are encoded again." in said
        )

    def test_a_shard_cut_short_is_encoded_again_and_said_so(
        self, paths: Paths, settings: Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_data(paths, range(5))
        features.run(PARAMS, paths, settings)
        before = content(paths)
        (shard,) = settings.feature_store.glob("*/*.npy")
        os.truncate(shard, 100_000)
        features.run(PARAMS, paths, settings)
        assert content(paths) == before
        said = capsys.readouterr().err
        assert "is damaged (100000 bytes instead of" in said
        assert "5 images: 0 in the feature store, 5 encoded" in said

    def test_a_pack_that_is_not_the_manifests_is_one_clear_sentence(self, paths: Paths, settings: Settings) -> None:
        records = write_data(paths, range(3))
        write_manifest(paths.validated / "manifest.jsonl", [replace(record, digest="0" * 32) for record in records])
        with pytest.raises(BadData, match="is not what the manifest says: run acquire again"):
            features.run(PARAMS, paths, settings)

    def test_an_empty_manifest_is_refused(self, paths: Paths, settings: Settings) -> None:
        write_data(paths, [])
        with pytest.raises(BadData, match="holds no image"):
            features.run(PARAMS, paths, settings)

    def test_an_unknown_encoder_is_refused_with_the_valid_names(self, paths: Paths, settings: Settings) -> None:
        with pytest.raises(BadParams, match=r"There is no encoder 'vgg'; the valid names are: efficientnet-lite0"):
            features.run(FeaturesParams(encoder="vgg", batch=4), paths, settings)
