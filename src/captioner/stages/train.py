"""train@C: features and captions in, a trained decoder out. Stops on a dev score of free-running captions.

After every epoch a checkpoint is written outside the DVC out; a run that was cut short goes on from it and ends with
the same weights as one that was not.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from captioner.digests import sha256_file, sha256_text
from captioner.errors import BadData
from captioner.featurestore.packed import PackedFeatures
from captioner.metrics import Scorer
from captioner.model.checkpoint import Checkpoint
from captioner.model.trained import weights_of, write_trained
from captioner.model.vectors import Coverage, start_from
from captioner.params import DecoderParams, TrainParams
from captioner.paths import Paths
from captioner.ports import Run, Tracker
from captioner.progress import Progress, track
from captioner.records import ImageRecord, read_manifest, write_json, write_text
from captioner.text import Vocabulary, tokenize


class NoRun:
    """A run that nobody remembers."""

    id = ""
    url = ""
    url = ""

    def params(self, values: Mapping[str, Any]) -> None: ...
    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None: ...
    def tags(self, values: Mapping[str, str]) -> None: ...
    def tag(self, name: str) -> str | None: ...
    def dataset(self, name: str, digest: str, source: str, context: str) -> None: ...
    def file(self, path: Path, folder: str = "") -> None: ...
    def end(self, failed: bool = False) -> None: ...


class NoTracker:
    """Training that is not tracked."""

    def start(self, name: str, tags: Mapping[str, str]) -> Run:
        return NoRun()

    def find(self, tag: str, value: str) -> Run | None:
        return None


@dataclass(frozen=True)
class Epoch:
    epoch: int
    loss: float  # nats a token, dropout and smoothing included
    learning_rate: float
    cider: float
    bleu_1: float
    bleu_4: float
    mean_words: float
    distinct: float


@dataclass(frozen=True)
class TrainReport:
    candidate: str
    weights_digest: str
    best_epoch: int
    vocabulary: int
    captions: int
    unknown_words: float  # share of the training captions' tokens
    parameters: int
    word_vectors: Coverage | None
    epochs: list[Epoch] = field(default_factory=list)

    def render(self) -> str:
        """The report for people."""
        vectors = self.word_vectors
        lines = [
            f"{self.candidate}: {self.parameters:,} weights, {self.vocabulary:,} words, {self.captions:,} captions, "
            f"{self.unknown_words:.1%} of their words unknown",
            *([f"word vectors: {vectors.file} has {vectors.found:,} of {vectors.words:,} words"] if vectors else []),
            "epoch   loss  dev CIDEr  BLEU-4  words",
        ]
        for e in self.epochs:
            best = "  best" if e.epoch == self.best_epoch else ""
            lines.append(f"{e.epoch:>5} {e.loss:>6.3f} {e.cider:>10.1f} {e.bleu_4:>7.1f} {e.mean_words:>6.1f}{best}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Data:
    """What training sees: rows of the feature file, tokenised captions, and the dev images with their references."""

    rows: np.ndarray
    captions: list[list[list[str]]]
    dev_rows: np.ndarray
    dev_references: list[list[str]]


def run(
    params: TrainParams,
    decoder_params: DecoderParams,
    paths: Paths,
    candidate: str,
    tracker: Tracker,
    word_vectors: Path,
) -> TrainReport:
    """Train `candidate`. Raises BadData on features that do not match the manifest or a foreign checkpoint."""
    import keras
    import tensorflow as tf

    from captioner.model.decoder import build_decoder
    from captioner.model.training import Trainer, encode_captions

    keras.utils.set_random_seed(params.seed)
    tf.config.experimental.enable_op_determinism()
    features = PackedFeatures.open(paths.features)
    manifest = read_manifest(paths.validated / "manifest.jsonl")
    data = select(manifest, features, params)
    vocabulary = Vocabulary.build((c for of_image in data.captions for c in of_image), params.min_count)
    captions = encode_captions(data.captions, vocabulary, params.max_words)

    decoder = build_decoder(decoder_params, len(vocabulary), features.meta.channels, params.seed)
    coverage = None
    if decoder_params.word_vectors:
        coverage = start_from(word_vectors / decoder_params.word_vectors, decoder, vocabulary)
    trainer = Trainer(decoder, params, decoder_params.dropout, -(-len(data.rows) // params.images_per_batch))

    key = identity(params, decoder_params, paths)
    checkpoint = Checkpoint(paths.checkpoints / key, trainer)
    history = [Epoch(**epoch) for epoch in checkpoint.restore()]
    tracked = tracker.start(f"train-{candidate}", {"captioner.candidate": candidate, "captioner.stage": "train"})
    try:
        tracked.params({**_flat("train", params), **_flat("decoder", decoder_params)})
        for epoch in history:
            tracked.metrics(epoch_metrics(asdict(epoch)), step=epoch.epoch)
        fit(trainer, params, features, data, captions, vocabulary, history, checkpoint, tracked)
        best = max(history, key=lambda e: getattr(e, params.monitor))
        checkpoint.load_best()
        folder = paths.trained(candidate)
        write_trained(folder, decoder, vocabulary, features.meta, params.max_words)
        report = TrainReport(
            candidate=candidate,
            weights_digest=sha256_file(folder / "weights.npz"),
            best_epoch=best.epoch,
            vocabulary=len(vocabulary),
            captions=sum(len(of_image) for of_image in data.captions),
            unknown_words=unknown_share(data.captions, vocabulary),
            parameters=sum(int(array.size) for array in weights_of(decoder).values()),
            word_vectors=coverage,
            epochs=history,
        )
        write_json(paths.report("train", candidate), asdict(report))
        write_curve(paths.plots("train", candidate) / "epochs.csv", history)
        tracked.tags({"captioner.weights_digest": report.weights_digest})
        tracked.metrics({f"best_dev_{params.monitor}": getattr(best, params.monitor), "best_epoch": best.epoch})
    except BaseException:
        tracked.end(failed=True)
        raise
    tracked.end()
    shutil.rmtree(checkpoint.folder, ignore_errors=True)
    return report


def select(manifest: Sequence[ImageRecord], features: PackedFeatures, params: TrainParams) -> Data:
    """Training images and the first `dev_images` dev images. Raises BadData where features and manifest differ."""
    if tuple(record.id for record in manifest) != features.ids:
        raise BadData("data/features does not belong to data/validated: run the features stage again.")
    train = [i for i, record in enumerate(manifest) if record.split == "train" and record.captions]
    dev = [i for i, record in enumerate(manifest) if record.split == "dev" and record.captions][: params.dev_images]
    if not train or not dev:
        raise BadData("Training needs images with captions in the splits train and dev; the manifest has none in one.")
    return Data(
        rows=np.array(train),
        captions=[[tokenize(c) for c in manifest[i].captions] for i in train],
        dev_rows=np.array(dev),
        dev_references=[list(manifest[i].captions) for i in dev],
    )


def fit(
    trainer: Any,
    params: TrainParams,
    features: PackedFeatures,
    data: Data,
    captions: np.ndarray,
    vocabulary: Vocabulary,
    history: list[Epoch],
    checkpoint: Checkpoint,
    tracked: Run,
) -> None:
    """Epochs from where `history` ends until the last one or until patience is out; `history` grows in place."""
    from captioner.model.training import words_of

    scorer = Scorer(data.dev_references)
    while len(history) < params.epochs and not out_of_patience(history, params):
        number = len(history) + 1
        with track(f"epoch {number}/{params.epochs}", int((captions != 0).any(axis=2).sum()), "captions") as progress:
            loss, rate = one_epoch(trainer, params, features, data, captions, number, progress)
        hypotheses = []
        with track(f"dev captions {number}", len(data.dev_rows), "images") as progress:
            for start in range(0, len(data.dev_rows), 100):
                rows = data.dev_rows[start : start + 100]
                hypotheses += words_of(trainer.caption(features.rows(rows)), vocabulary)
                progress.advance(len(rows))
        dev = scorer.score(hypotheses)
        epoch = Epoch(number, loss, rate, dev.cider, dev.bleu_1, dev.bleu_4, dev.mean_words, dev.distinct)
        improved = not history or getattr(epoch, params.monitor) > max(getattr(e, params.monitor) for e in history)
        history.append(epoch)
        checkpoint.save([asdict(e) for e in history], improved)
        tracked.metrics(epoch_metrics(asdict(epoch)), step=epoch.epoch)


def one_epoch(
    trainer: Any,
    params: TrainParams,
    features: PackedFeatures,
    data: Data,
    captions: np.ndarray,
    number: int,
    progress: Progress,
) -> tuple[float, float]:
    """The mean loss a token of one epoch, and the learning rate at its end."""
    from captioner.model.training import epoch_batches

    total, tokens = 0.0, 0
    step = (number - 1) * -(-len(data.rows) // params.images_per_batch)
    for batch in epoch_batches(data.rows, captions, params.images_per_batch, params.seed, number):
        loss, count = trainer.train(features.rows(batch.rows), batch.captions, step)
        if not np.isfinite(loss):
            raise BadData(f"The loss became {loss} in epoch {number}: lower train.learning_rate or train.clip_norm.")
        total, tokens, step = total + loss * count, tokens + count, step + 1
        progress.advance(int((batch.captions != 0).any(axis=2).sum()), note=f"loss {total / tokens:.3f}")
    return total / tokens, float(trainer.rate(step))


def out_of_patience(history: Sequence[Epoch], params: TrainParams) -> bool:
    """Whether the last `patience` epochs brought nothing better than what was there before them."""
    scores = [getattr(epoch, params.monitor) for epoch in history]
    return len(scores) > params.patience and max(scores[-params.patience :]) <= max(scores[: -params.patience])


def identity(params: TrainParams, decoder: DecoderParams, paths: Paths) -> str:
    """What a checkpoint belongs to: the parameters and the data."""
    data = [sha256_file(paths.validated / "manifest.jsonl"), sha256_file(paths.features / "index.json")]
    return sha256_text("\n".join([params.model_dump_json(), decoder.model_dump_json(), *data]))[:24]


def unknown_share(captions: Sequence[Sequence[Sequence[str]]], vocabulary: Vocabulary) -> float:
    tokens = [token for of_image in captions for caption in of_image for token in caption]
    return sum(token not in vocabulary for token in tokens) / max(len(tokens), 1)


def write_curve(path: Path, history: Sequence[Epoch]) -> None:
    names = list(asdict(history[0]))
    rows = [",".join(str(value) for value in asdict(epoch).values()) for epoch in history]
    write_text(path, "\n".join([",".join(names), *rows]) + "\n")


def epoch_metrics(epoch: Mapping[str, Any]) -> dict[str, float]:
    """One epoch of a report under the names that it has in MLflow."""
    plain = ("loss", "learning_rate")
    return {n if n in plain else f"dev_{n}": float(value) for n, value in epoch.items() if n != "epoch"}


def _flat(prefix: str, section: Any) -> dict[str, Any]:
    return {f"{prefix}.{name}": value for name, value in section.model_dump().items()}
