"""An encoder that learns with its decoder, from the train stage to the artifact and its evaluation."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from captioner.errors import BadData, BadParams
from captioner.featurestore.packed import PackedFeatures
from captioner.images import normalise
from captioner.metrics import Scorer
from captioner.model.arrays import pack_arrays, rounded, unpack_arrays
from captioner.model.captioner import Captioner
from captioner.model.encoder import load_encoder
from captioner.model.preprocess import decode_and_resize
from captioner.model.several import members_of
from captioner.packs import PackReader, PackWriter, digest
from captioner.params import EvaluateParams, ExportParams, FeaturesParams
from captioner.paths import Paths
from captioner.records import ImageRecord, read_json, read_manifest, write_bytes, write_manifest
from captioner.settings import Settings
from captioner.stages import evaluate, export, features, train
from captioner.stages.fitting import kept, phases_of
from captioner.trainparams import DistillParams
from tests.disks import small_disk
from tests.fakes import DyingTracker, Killed
from tests.tiny import COLOURS, KINDS, decoder_params, train_params

FILES = ("weights.npz", "encoder.npz")
PAINT = {"red": (200, 40, 40), "green": (40, 170, 60), "blue": (50, 60, 210)}
FINETUNE = {
    "first": "block15",
    "epochs": 2,
    "learning_rate": 0.01,
    "encoder_rate": 0.001,
    "warmup_steps": 2,
    "patience": 2,
}
SCST = {"epochs": 1, "learning_rate": 0.001, "warmup_steps": 1, "samples": 2, "patience": 1}


def picture(number: int) -> tuple[str, str, bytes]:
    """A disc or a square on grey, its colour and its kind, at a place that `number` decides."""
    colour, kind = COLOURS[number % 3], KINDS[number // 3 % 2]
    noise = np.random.default_rng(number)
    pixels = noise.integers(90, 150, (64, 64, 3), np.uint8)
    y, x = np.mgrid[:64, :64] - noise.integers(26, 38, 2)[:, None, None]
    inside = (x**2 + y**2 < 300) if kind == "ball" else (np.maximum(abs(x), abs(y)) < 16)
    pixels[inside] = PAINT[colour]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return colour, kind, file.getvalue()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What acquire, validate and features leave behind, with the smallest real encoder. Copy it."""
    root = tmp_path_factory.mktemp("prepared")
    paths, records = Paths(root, root / ".captioner"), []
    with PackWriter(paths.raw) as packs:
        for i in range(20):
            colour, kind, image = picture(i)
            name, split = f"{i:03d}.png", "dev" if i % 5 == 3 else "test" if i % 5 == 4 else "train"
            captions = (f"a {colour} {kind}", f"the {kind} is {colour}")
            records.append(ImageRecord(name, packs.add(name, image), name, digest(image), split, captions))
    write_manifest(paths.validated / "manifest.jsonl", records)
    settings = Settings.from_env(root, {"CAPTIONER_PROGRESS": "none"})
    features.run(FeaturesParams(encoder="efficientnet-lite0", layout="grid", batch=8), paths, settings)
    return root


@pytest.fixture
def data(prepared: Path, paths: Paths) -> Paths:
    shutil.copytree(prepared, paths.root, dirs_exist_ok=True)
    return paths


@pytest.fixture(scope="module")
def alone(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, train.TrainReport]:
    """One network trained on it, with seed 1. Copy it."""
    root = tmp_path_factory.mktemp("alone") / "project"
    shutil.copytree(prepared, root)
    return root, run(Paths(root, root / ".captioner"))


def run(paths: Paths, tracker: object = None, **changes: object) -> train.TrainReport:
    values = {"epochs": 2, "dev_images": 4, "finetune": FINETUNE, **changes}
    tracker = tracker or train.NoTracker()
    return train.run(train_params(**values), decoder_params(), paths, "attention", tracker, paths.root)


def outs(paths: Paths) -> dict[str, bytes]:
    files = [*paths.trained("attention").iterdir(), paths.report("train", "attention")]
    return {file.name: file.read_bytes() for file in files}


def test_the_phases_follow_from_the_params() -> None:
    assert phases_of(train_params()) == ["cross-entropy"]
    assert phases_of(train_params(finetune=FINETUNE)) == ["cross-entropy", "finetune"]
    both = train_params(finetune=FINETUNE, objective="scst", scst=SCST)
    assert phases_of(both) == ["cross-entropy", "finetune", "scst"]
    taught = both.model_copy(update={"distill": DistillParams(teachers=1, share=0.5)})
    assert phases_of(taught) == ["cross-entropy", "finetune"], "self-critical training is its teachers' alone"


@pytest.mark.timeout(600)
def test_the_encoder_that_learned_is_the_artifacts(alone: tuple[Path, train.TrainReport], paths: Paths) -> None:
    """One trained network through export and evaluation: everybody sees the same encoder, and it is another one."""
    (root, report), data = alone, paths
    shutil.copytree(root, data.root, dirs_exist_ok=True)
    assert [e.objective for e in report.epochs] == ["cross-entropy"] * 2 + ["finetune"] * 2
    published = load_encoder("efficientnet-lite0", "grid", None, data.home / "encoders")
    trained = data.trained("attention")
    tuned = load_encoder("efficientnet-lite0", "grid", None, data.home / "encoders", trained / "encoder.npz")
    described = read_json(trained / "decoder.json")["features"]
    assert described["weights_digest"] == tuned.weights_digest != published.weights_digest
    moved = unpack_arrays(trained / "encoder.npz")
    assert {name.split("/")[0] for name in moved} == {"block15-expand", "block15-project", "head"}
    for name, array in moved.items():
        layer, weight = name.split("/")
        before = next(v for v in published.network.get_layer(layer).weights if v.name == weight)
        assert np.abs(array - before.value.numpy()).max() > 1e-4, f"{name} learned nothing"

    # Export holds the artifact against the training objects and refuses when they differ.
    export.run(ExportParams(beam=2, length_power=0.5, top=2), data, "attention")
    captioner = Captioner.load(data.exported("attention") / "model.tar.gz", data.unpacked)
    assert captioner.card["tuned"] is True
    dev = [row for row in read_manifest(data.validated / "manifest.jsonl") if row.split == "dev"]
    with PackReader(data.raw) as packs:
        pictures = [normalise(packs.read(row), row.id) for row in dev]
    said = [captions[0].caption for captions in captioner.caption(pictures, beam=1, top=1)]
    scored = Scorer([list(row.captions) for row in dev]).score(said)
    best = next(e for e in report.epochs if e.epoch == report.best_epoch)
    last = max((e for e in report.epochs if e.objective == "finetune"), key=lambda e: e.cider)
    assert scored.cider == pytest.approx(last.cider, abs=0.5), (best, said)

    judged = evaluate.run(EvaluateParams(split="test", batch=3, gallery=2, seed=0), data, "attention")
    assert judged.images == 4
    assert judged.digest == captioner.digest
    # The published encoder's features would be other captions' features: evaluation must not have used them.
    grid = PackedFeatures.open(data.features).meta
    assert grid.weights_digest == published.weights_digest

    # Without it, nothing of it is left.
    run(data, finetune=None)
    assert not (trained / "encoder.npz").exists()
    assert read_json(trained / "decoder.json")["features"]["weights_digest"] == published.weights_digest


@pytest.mark.timeout(600)
def test_a_run_cut_short_again_and_again_while_the_encoder_learns_ends_like_an_unbroken_one(data: Paths) -> None:
    changes = {"objective": "scst", "scst": SCST, "ema": 0.9}
    report = run(data, **changes)
    assert [e.objective for e in report.epochs][-1] == "scst"
    unbroken = outs(data)

    for epoch in (3, 5):
        with pytest.raises(Killed):
            run(data, DyingTracker(epoch), **changes)
    run(data, **changes)
    assert outs(data) == unbroken


@pytest.mark.timeout(600)
def test_teachers_look_at_pictures_as_they_are_with_encoders_of_their_own(data: Paths) -> None:
    changes = {"distill": {"teachers": 1, "share": 0.5}, "objective": "scst", "scst": SCST}
    report = run(data, **changes)
    phases = [(e.member, e.objective) for e in report.epochs]
    own = ["cross-entropy"] * 2 + ["finetune"] * 2
    assert phases == [*((1, name) for name in (*own, "scst")), *((0, name) for name in own)]
    unbroken = outs(data)

    with pytest.raises(Killed):
        run(data, DyingTracker(6), **changes)
    (seen,) = data.checkpoints.rglob("1-seen.npy")
    learned = unpack_arrays(seen.parent / "1-finetune" / "checkpoint.npz")
    start = "best/encoder/"
    ends = rounded({name.removeprefix(start): a for name, a in learned.items() if name.startswith(start)})
    write_bytes(data.root / "ends.npz", pack_arrays(ends))
    teachers = load_encoder("efficientnet-lite0", "grid", None, data.home / "encoders", data.root / "ends.npz")
    with PackReader(data.raw) as packs:
        training = [row for row in read_manifest(data.validated / "manifest.jsonl") if row.split == "train"]
        pixels = np.stack([decode_and_resize(normalise(packs.read(row), row.id), 224).numpy() for row in training])
    np.testing.assert_allclose(np.load(seen), teachers.encode(tf.constant(pixels)), rtol=2e-3, atol=2e-3)

    with pytest.raises(Killed):
        run(data, DyingTracker(8), **changes)
    run(data, **changes)
    assert outs(data) == unbroken
    assert not list(data.checkpoints.rglob("*.*")), "a finished run leaves nothing of its teachers"


class Shows:
    """The same 4 KB of features of any picture."""

    def plain_grid(self, rows: np.ndarray) -> np.ndarray:
        return np.ones((len(rows), 2, 1024), np.float16)

    def grid(self, rows: np.ndarray, seed: int, step: int) -> np.ndarray:
        raise AssertionError("pictures as they are")


def test_what_a_teacher_looks_at_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    rows = np.arange(250)
    with small_disk(tmp_path / "disk", 500_000) as disk:
        with pytest.raises(OSError, match="No space left"):
            kept(Shows(), rows, disk / "seen.npy")
        assert not (disk / "seen.npy").exists()
    assert (kept(Shows(), rows, tmp_path / "seen.npy") == np.ones((250, 2, 1024))).all()


def test_a_block_that_the_encoder_has_not_is_refused_by_name(data: Paths) -> None:
    with pytest.raises(BadParams, match="no block99 to begin with; it has block1 to block15"):
        run(data, finetune={**FINETUNE, "first": "block99"})


def test_weights_of_another_encoder_are_refused(data: Paths, tmp_path: Path) -> None:
    for arrays, sentence in (
        ({"head/kernel": np.zeros((1, 1, 2, 2)), "head/bias": np.zeros(1280)}, "belongs to another encoder"),
        ({"tail/kernel": np.zeros(3)}, "has no layer tail"),
    ):
        np.savez(tmp_path / "encoder.npz", **arrays)
        with pytest.raises(BadData, match=sentence):
            load_encoder("efficientnet-lite0", "grid", None, data.home / "encoders", tmp_path / "encoder.npz")


@pytest.mark.timeout(900)
def test_each_of_several_members_has_an_encoder_of_its_own(
    alone: tuple[Path, train.TrainReport], data: Paths, tmp_path: Path
) -> None:
    """What a member becomes is what it would be alone, with its seed; the artifact has an end for each."""
    run(data, seed=2)
    each = [
        {name: dict(unpack_arrays(paths.trained("attention") / name)) for name in FILES}
        for paths in (Paths(alone[0], data.home), data)
    ]
    report = train.run(
        train_params(epochs=2, dev_images=4, finetune=FINETUNE),
        decoder_params(members=2),
        data,
        "attention",
        train.NoTracker(),
        data.root,
    )
    assert [(e.member, e.objective) for e in report.epochs[::2]] == [
        (member, phase) for member in (0, 1) for phase in ("cross-entropy", "finetune")
    ]
    trained = data.trained("attention")
    for name in FILES:
        for member, own in zip(members_of(unpack_arrays(trained / name)), each, strict=True):
            assert member.keys() == own[name].keys()
            assert all(np.array_equal(member[key], own[name][key]) for key in member)

    tuned = load_encoder("efficientnet-lite0", "grid", None, data.home / "encoders", trained / "encoder.npz")
    published = load_encoder("efficientnet-lite0", "grid", None, data.home / "encoders")
    assert tuned.channels == 2 * published.channels
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 224, 224, 3)).astype(np.float32)
    both = tuned.encode(pixels).numpy()
    for number, own in enumerate(each):
        np.savez(tmp_path / "one.npz", **own["encoder.npz"])
        one = load_encoder("efficientnet-lite0", "grid", None, data.home / "encoders", tmp_path / "one.npz")
        np.testing.assert_allclose(np.split(both, 2, axis=-1)[number], one.encode(pixels).numpy(), atol=1e-4)

    export.run(ExportParams(beam=2, length_power=0.5, top=2), data, "attention")
    judged = evaluate.run(EvaluateParams(split="test", batch=3, gallery=2, seed=0), data, "attention")
    assert judged.images == 4
    captioner = Captioner.load(data.exported("attention") / "model.tar.gz", data.unpacked)
    assert captioner.card["features"]["channels"] == tuned.channels
    assert captioner.explain(normalise(picture(1)[2], "one")).attention.shape[1:] == (49,)


def test_ends_that_begin_with_different_blocks_are_refused(data: Paths, tmp_path: Path) -> None:
    published = load_encoder("efficientnet-lite0", "grid", None, data.home / "encoders").network
    arrays = {f"{n}/block{15 - n}-expand/kernel": np.zeros(published.get_layer(f"block{15 - n}-expand").kernel.shape)
              for n in (0, 1)}  # fmt: skip
    np.savez(tmp_path / "encoder.npz", **arrays)
    with pytest.raises(BadData, match="do not begin with the same block"):
        load_encoder("efficientnet-lite0", "grid", None, data.home / "encoders", tmp_path / "encoder.npz")
