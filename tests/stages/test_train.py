"""The train stage on a tiny dataset: it learns, is deterministic, and goes on after an interruption as if unbroken."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from captioner.errors import BadData
from captioner.paths import Paths
from captioner.records import read_json, read_manifest, write_manifest
from captioner.stages import train
from captioner.stages.fitting import Epoch, out_of_patience
from tests.fakes import DyingTracker, FakeTracker, Killed
from tests.local_aws import until
from tests.tiny import decoder_params, train_params, write_data

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def data(paths: Paths) -> Paths:
    write_data(paths)
    return paths


def run(paths: Paths, tracker: object = None, decoder: object = None, **changes: object) -> train.TrainReport:
    decoder = decoder or decoder_params()
    return train.run(train_params(**changes), decoder, paths, "attention", tracker or train.NoTracker(), paths.root)


def outs(paths: Paths) -> dict[str, bytes]:
    files = [*paths.trained("attention").iterdir(), paths.report("train", "attention")]
    return {file.name: file.read_bytes() for file in files}


def test_it_learns_what_the_features_say(data: Paths) -> None:
    report = run(data, epochs=30, learning_rate=0.03, label_smoothing=0.0, patience=30)
    assert report.epochs[-1].loss < report.epochs[0].loss / 2
    assert max(epoch.bleu_1 for epoch in report.epochs) > 80
    assert report.best_epoch == max(report.epochs, key=lambda e: e.cider).epoch
    assert read_json(data.report("train", "attention"))["weights_digest"] == report.weights_digest


@pytest.mark.parametrize("kind", ["merge", "attention"])
def test_equal_seeds_give_equal_bytes_and_other_seeds_do_not(data: Paths, kind: str) -> None:
    decoder = decoder_params(kind)
    run(data, decoder=decoder)
    first = outs(data)
    run(data, decoder=decoder)
    assert outs(data) == first
    run(data, decoder=decoder, seed=2)
    assert outs(data)["weights.npz"] != first["weights.npz"]


SCST = {"epochs": 3, "learning_rate": 0.005, "warmup_steps": 2, "samples": 4, "patience": 3}


@pytest.mark.parametrize(
    ("kind", "members", "dies_after", "changes"),
    [
        ("merge", 1, 2, {"epochs": 4}),
        ("attention", 1, 2, {"epochs": 4, "ema": 0.9}),
        ("attention", 1, 4, {"objective": "scst", "scst": SCST, "ema": 0.9}),
        ("attention", 2, 5, {"views": ("flip",), "ema": 0.9}),
        ("attention", 1, 2, {"epochs": 4, "ema": 0.9, "precision": "mixed_float16"}),
        ("attention", 1, 5, {"epochs": 2, "ema": 0.9, "distill": {"teachers": 2, "share": 0.5}}),
    ],
)
def test_a_run_cut_short_ends_like_an_unbroken_one(
    data: Paths, kind: str, members: int, dies_after: int, changes: dict[str, object]
) -> None:
    decoder = decoder_params(kind, members=members)
    run(data, decoder=decoder, **changes)
    unbroken = outs(data)

    with pytest.raises(Killed):
        run(data, DyingTracker(dies_after), decoder=decoder, **changes)
    assert list(data.checkpoints.rglob("checkpoint.npz"))
    run(data, decoder=decoder, **changes)
    assert outs(data) == unbroken
    assert not list(data.checkpoints.rglob("*.npz")), "a finished run leaves no checkpoint"


def test_teachers_are_trained_first_and_only_teach(data: Paths) -> None:
    changes = {"epochs": 2, "objective": "scst", "scst": {**SCST, "epochs": 1}}
    alone = run(data, epochs=2)
    without = outs(data)["weights.npz"]
    report = run(data, **changes, distill={"teachers": 1, "share": 0.5})
    phases = [(epoch.member, epoch.objective) for epoch in report.epochs]
    assert phases == [
        (1, "cross-entropy"),
        (1, "cross-entropy"),
        (1, "scst"),
        (0, "cross-entropy"),
        (0, "cross-entropy"),
    ]
    assert [epoch.epoch for epoch in report.epochs] == [1, 2, 3, 4, 5]
    assert report.best_epoch >= 4, "a teacher's epoch is none of the candidate's"
    assert [line.split()[0] for line in report.render().splitlines() if "teacher" in line] == ["1", "2", "3"]
    assert report.parameters == alone.parameters, "the teacher is not kept"
    assert outs(data)["weights.npz"] != without, "it learned from its teacher"


IN_A_PROCESS = """
import sys
from pathlib import Path
from captioner.paths import Paths
from captioner.stages import train
from tests.tiny import decoder_params, train_params
root = Path(sys.argv[1])
params = train_params(epochs=int(sys.argv[2]), patience=int(sys.argv[2]))
train.run(params, decoder_params(), Paths(root, root / ".captioner"), "attention", train.NoTracker(), root)
"""


def start(root: Path, epochs: int, hash_seed: str) -> subprocess.Popen[bytes]:
    """A training in a process of its own, over `root`'s tiny data."""
    environ = {**os.environ, "PYTHONHASHSEED": hash_seed, "CAPTIONER_PROGRESS": "none"}
    return subprocess.Popen([sys.executable, "-c", IN_A_PROCESS, str(root), str(epochs)], cwd=ROOT, env=environ)


def test_a_process_that_is_killed_at_any_moment_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    """kill -9 in the middle of an epoch, and another process, with another hash seed, that ends what it began."""
    epochs, folders = 20, {name: Paths(tmp_path / name, tmp_path / name / ".captioner") for name in ("whole", "cut")}
    for paths in folders.values():
        write_data(paths)
    assert start(folders["whole"].root, epochs, "1").wait(240) == 0

    cut = folders["cut"]
    first = start(cut.root, epochs, "2")
    until(lambda: first.poll() is not None or list(cut.checkpoints.rglob("checkpoint.npz")), "a checkpoint", 240)
    first.kill()
    assert first.wait(60) == -signal.SIGKILL
    assert not cut.trained("attention").exists()
    assert start(cut.root, epochs, "3").wait(240) == 0
    assert outs(cut) == outs(folders["whole"])
    assert read_json(cut.report("train", "attention"))["epochs"][-1]["epoch"] == epochs


def test_it_stops_when_the_dev_score_no_longer_rises() -> None:
    def epochs(*scores: float) -> list[Epoch]:
        return [Epoch(i + 1, 1.0, 0.1, score, 0, 0, 5, 1) for i, score in enumerate(scores)]

    assert not out_of_patience(epochs(1, 2), "cider", 2)
    assert not out_of_patience(epochs(1, 3, 2), "cider", 2)
    assert out_of_patience(epochs(1, 3, 2, 3), "cider", 2)
    assert not out_of_patience(epochs(1, 3, 2, 4), "cider", 2)


def test_the_run_is_tracked_live(data: Paths) -> None:
    tracker = FakeTracker()
    report = run(data, tracker)
    (tracked,) = tracker.runs
    assert tracked.tag("captioner.weights_digest") == report.weights_digest
    assert tracked.tag("captioner.candidate") == "attention"
    assert [step for step, values in tracked.history if "loss" in values] == [1, 2, 3]
    assert tracked.kept_params["train.epochs"] == 3


def test_features_of_another_manifest_are_refused(data: Paths) -> None:
    manifest = data.validated / "manifest.jsonl"
    write_manifest(manifest, read_manifest(manifest)[1:])
    with pytest.raises(BadData, match="does not belong to data/validated"):
        run(data)


def test_an_empty_split_is_refused(data: Paths) -> None:
    manifest = data.validated / "manifest.jsonl"
    write_manifest(
        manifest, [replace(r, split="test" if r.split == "dev" else r.split) for r in read_manifest(manifest)]
    )
    with pytest.raises(BadData, match="splits train and dev"):
        run(data)


def test_a_checkpoint_of_another_architecture_is_refused(data: Paths) -> None:
    from captioner.model.checkpoint import Checkpoint
    from captioner.model.decoder import build_decoder
    from captioner.model.training import Trainer

    params = train_params()
    other = Trainer(build_decoder(decoder_params(units=20), 12, 6), params, 0.0, 3)
    key = train.identity(params, decoder_params(), data)
    Checkpoint(data.checkpoints / key / "0-cross-entropy", other).save([], improved=True)
    with pytest.raises(BadData, match="another network"):
        run(data)


def test_a_checkpoint_cut_short_is_refused(data: Paths) -> None:
    file = (
        data.checkpoints / train.identity(train_params(), decoder_params(), data) / "0-cross-entropy" / "checkpoint.npz"
    )
    file.parent.mkdir(parents=True)
    file.write_bytes(b"PK\x03\x04 not a whole file")
    with pytest.raises(BadData, match="damaged"):
        run(data)


def glove(path: Path, size: int, words: tuple[str, ...] = ("a", "red", "unheard")) -> None:
    rng = np.random.default_rng(0)
    path.write_text("".join(f"{w} {' '.join(f'{x:.4f}' for x in rng.normal(size=size))}\n" for w in words))


def test_word_vectors_start_the_embedding_and_their_coverage_is_reported(data: Paths) -> None:
    glove(data.root / "vectors.txt", 8)
    report = run(data, decoder=decoder_params(word_vectors="vectors.txt"))
    assert report.word_vectors is not None
    assert (report.word_vectors.found, report.word_vectors.words) == (2, 8)


def test_word_vectors_of_the_wrong_dimension_are_refused(data: Paths) -> None:
    glove(data.root / "vectors.txt", 50)
    with pytest.raises(BadData, match=r"line 1: a vector of 50, but the decoder's embedding is 8"):
        run(data, decoder=decoder_params(word_vectors="vectors.txt"))


def test_missing_word_vectors_are_named(data: Paths) -> None:
    with pytest.raises(BadData, match="CAPTIONER_WORD_VECTORS"):
        run(data, decoder=decoder_params(word_vectors="nowhere.txt"))


def test_real_glove_vectors_fit(data: Paths, shared: Path) -> None:
    file = shared / "glove" / "glove.6B.100d.flickr8k_vocab.txt"
    if not file.is_file():
        pytest.skip("no glove/ in the shared data")
    report = train.run(
        train_params(epochs=1),
        decoder_params(embedding=100, word_vectors=file.name),
        data,
        "attention",
        train.NoTracker(),
        file.parent,
    )
    assert report.word_vectors is not None
    assert report.word_vectors.found == 7  # all but "a", which this subset leaves out
