"""train@C: features and captions in, a trained network out. Stops on a dev score of free-running captions.

A network has one or more members, each trained alone from a seed of its own, in one phase (cross-entropy) or two
(self-critical training on CIDEr, from the first phase's best weights on). After every epoch a checkpoint is
written outside the DVC out; a run that was cut short goes on from it and ends with the same weights as one that was
not.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from captioner.digests import sha256_file, sha256_text
from captioner.errors import BadData
from captioner.featurestore.packed import PackedFeatures
from captioner.metrics import Scorer
from captioner.model.trained import load_weights, weights_of, write_trained
from captioner.model.vectors import Coverage, start_from
from captioner.params import DecoderParams, TrainParams
from captioner.paths import Paths
from captioner.ports import Run, Tracker
from captioner.progress import Progress, track
from captioner.records import ImageRecord, read_manifest, write_json, write_text
from captioner.text import Vocabulary, tokenize

if TYPE_CHECKING:
    from captioner.model.checkpoint import Checkpoint
    from captioner.model.training import Trainer


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
    loss: float  # nats a token, dropout and smoothing included; in self-critical training of the network's own samples
    learning_rate: float
    cider: float
    bleu_1: float
    bleu_4: float
    mean_words: float
    distinct: float
    member: int = 0
    objective: str = "cross-entropy"
    reward: float = 0.0  # mean CIDEr of the samples of self-critical training


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
            phase = "" if e.objective == "cross-entropy" else f"  {e.objective}"
            best = "  best" if e.epoch == self.best_epoch else ""
            lines.append(
                f"{e.epoch:>5} {e.loss:>6.3f} {e.cider:>10.1f} {e.bleu_4:>7.1f} {e.mean_words:>6.1f}{phase}{best}"
            )
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

    from captioner.model.ensemble import build_network
    from captioner.model.training import encode_captions

    keras.utils.set_random_seed(params.seed)
    tf.config.experimental.enable_op_determinism()
    features = PackedFeatures.open(paths.features)
    manifest = read_manifest(paths.validated / "manifest.jsonl")
    data = select(manifest, features, params)
    vocabulary = Vocabulary.build((c for of_image in data.captions for c in of_image), params.min_count)
    given = Given(
        params=params,
        decoder=decoder_params,
        views=Views.open(paths, features, params.views),
        data=data,
        encoded=encode_captions(data.captions, vocabulary, params.max_words),
        vocabulary=vocabulary,
        word_vectors=word_vectors,
        checkpoints=paths.checkpoints / identity(params, decoder_params, paths),
    )
    tracked = tracker.start(f"train-{candidate}", {"captioner.candidate": candidate, "captioner.stage": "train"})
    try:
        tracked.params({**_flat("train", params), **_flat("decoder", decoder_params)})
        network = build_network(decoder_params, len(vocabulary), features.meta.channels)
        history: list[Epoch] = []
        arrays: dict[str, np.ndarray] = {}
        coverage: Coverage | None = None
        for member in range(decoder_params.members):
            trained, coverage = train_member(given, member, history, tracked)
            prefix = "" if decoder_params.members == 1 else f"{member}/"
            arrays |= {prefix + name: array for name, array in trained.items()}
        load_weights(network, arrays, candidate)
        folder = paths.trained(candidate)
        write_trained(folder, network, vocabulary, features.meta, params.max_words)
        best = max(history, key=lambda e: getattr(e, params.monitor))
        report = TrainReport(
            candidate=candidate,
            weights_digest=sha256_file(folder / "weights.npz"),
            best_epoch=best.epoch,
            vocabulary=len(vocabulary),
            captions=sum(len(of_image) for of_image in data.captions),
            unknown_words=unknown_share(data.captions, vocabulary),
            parameters=sum(int(array.size) for array in arrays.values()),
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
    shutil.rmtree(given.checkpoints, ignore_errors=True)
    return report


@dataclass(frozen=True)
class Views:
    """The training images' features in every view; an image shows one of them in each epoch."""

    plain: PackedFeatures
    others: tuple[PackedFeatures, ...]
    places: tuple[dict[str, int], ...]  # of each other view: id → row

    @classmethod
    def open(cls, paths: Paths, plain: PackedFeatures, names: Sequence[str]) -> Views:
        """Raises BadData when a view was not made."""
        missing = [name for name in names if not paths.view(name).is_dir()]
        if missing:
            raise BadData(f"data/features has no view {missing[0]}: run the features stage again.")
        others = tuple(PackedFeatures.open(paths.view(name)) for name in names)
        return cls(plain, others, tuple({name: row for row, name in enumerate(one.ids)} for one in others))

    def grid(self, rows: np.ndarray, seed: int, step: int) -> np.ndarray:
        """float16 [B, C, D] of the plain rows `rows`, each in a view that `seed` and `step` choose."""
        if not self.others:
            return self.plain.rows(rows)
        chosen = np.random.default_rng([seed, step, 1]).integers(0, 1 + len(self.others), len(rows))
        grid = np.empty((len(rows), self.plain.meta.cells, self.plain.meta.channels), np.float16)
        grid[chosen == 0] = self.plain.rows(rows[chosen == 0])
        for number, (view, places) in enumerate(zip(self.others, self.places, strict=True), start=1):
            here = [places[self.plain.ids[row]] for row in rows[chosen == number]]
            grid[chosen == number] = view.rows(here)
        return grid


@dataclass(frozen=True)
class Given:
    """What the training of every member starts from."""

    params: TrainParams
    decoder: DecoderParams
    views: Views
    data: Data
    encoded: np.ndarray  # [images, N, max_words + 2]
    vocabulary: Vocabulary
    word_vectors: Path
    checkpoints: Path

    @property
    def steps(self) -> int:
        """Steps an epoch."""
        return -(-len(self.data.rows) // self.params.images_per_batch)


def train_member(
    given: Given, member: int, history: list[Epoch], tracked: Run
) -> tuple[dict[str, np.ndarray], Coverage | None]:
    """One member through its phases: its best weights, and what word vectors it started from. `history` grows."""
    from captioner.model.checkpoint import Checkpoint
    from captioner.model.decoder import build_decoder
    from captioner.model.scst import CiderReward, SelfCritical
    from captioner.model.training import Trainer

    params = given.params.model_copy(update={"seed": given.params.seed + member})
    decoder = build_decoder(given.decoder, len(given.vocabulary), given.views.plain.meta.channels, params.seed)
    coverage = None
    if given.decoder.word_vectors:
        coverage = start_from(given.word_vectors / given.decoder.word_vectors, decoder, given.vocabulary)
    phases = ["cross-entropy"] if params.objective == "cross-entropy" else ["cross-entropy", "scst"]
    for phase in phases:
        if phase == "scst":
            reward = CiderReward(given.data.captions, given.vocabulary)
            trainer: Trainer = SelfCritical(decoder, params, given.decoder.dropout, given.steps, reward)
        else:
            trainer = Trainer(decoder, params, given.decoder.dropout, given.steps)
        checkpoint = Checkpoint(given.checkpoints / f"{member}-{phase}", trainer)
        own = [Epoch(**epoch) for epoch in checkpoint.restore()]
        for epoch in own:
            tracked.metrics(epoch_metrics(asdict(epoch)), step=epoch.epoch)
        fit(given, params, trainer, member, len(history), own, checkpoint, tracked)
        history += own
        checkpoint.load_best()
    return weights_of(decoder), coverage


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
    given: Given,
    params: TrainParams,
    trainer: Trainer,
    member: int,
    before: int,
    history: list[Epoch],
    checkpoint: Checkpoint,
    tracked: Run,
) -> None:
    """Epochs from where `history` ends until the last one or until patience is out; `history` grows in place.

    `before` epochs, of other members and phases, are counted already.
    """
    from captioner.model.training import words_of

    scorer = Scorer(given.data.dev_references)
    while len(history) < trainer.epochs and not out_of_patience(history, params.monitor, trainer.patience):
        number = len(history) + 1
        name = f"epoch {number}/{trainer.epochs}" + (f", {trainer.objective}" if before else "")
        with track(name, int((given.encoded != 0).any(axis=2).sum()), "captions") as progress:
            loss, rate, reward = one_epoch(given, params, trainer, number, progress)
        hypotheses = []
        with trainer.averaged(), track(f"dev captions {number}", len(given.data.dev_rows), "images") as progress:
            for start in range(0, len(given.data.dev_rows), 100):
                rows = given.data.dev_rows[start : start + 100]
                hypotheses += words_of(trainer.caption(given.views.plain.rows(rows)), given.vocabulary)
                progress.advance(len(rows))
        dev = scorer.score(hypotheses)
        epoch = Epoch(
            epoch=before + number,
            loss=loss,
            learning_rate=rate,
            cider=dev.cider,
            bleu_1=dev.bleu_1,
            bleu_4=dev.bleu_4,
            mean_words=dev.mean_words,
            distinct=dev.distinct,
            member=member,
            objective=trainer.objective,
            reward=reward,
        )
        improved = not history or getattr(epoch, params.monitor) > max(getattr(e, params.monitor) for e in history)
        history.append(epoch)
        checkpoint.save([asdict(e) for e in history], improved)
        tracked.metrics(epoch_metrics(asdict(epoch)), step=epoch.epoch)


def one_epoch(
    given: Given, params: TrainParams, trainer: Trainer, number: int, progress: Progress
) -> tuple[float, float, float]:
    """The mean loss a token of one epoch, the learning rate at its end, and the mean reward of its samples."""
    from captioner.model.training import epoch_batches

    # The second phase goes over the data in another order than the first.
    seed = params.seed if trainer.objective == "cross-entropy" else params.seed + 1_000_000
    total, tokens, rewards = 0.0, 0, 0.0
    step = (number - 1) * given.steps
    for batch in epoch_batches(given.data.rows, given.encoded, params.images_per_batch, seed, number):
        loss, count, reward = trainer.update(given.views.grid(batch.rows, seed, step), batch, step)
        if not np.isfinite(loss):
            raise BadData(f"The loss became {loss} in epoch {number}: lower train.learning_rate or train.clip_norm.")
        total, tokens, rewards, step = total + loss * count, tokens + count, rewards + reward, step + 1
        progress.advance(int((batch.captions != 0).any(axis=2).sum()), note=f"loss {total / tokens:.3f}")
    return total / tokens, float(trainer.rate(step)), rewards / given.steps


def out_of_patience(history: Sequence[Epoch], monitor: str, patience: int) -> bool:
    """Whether the last `patience` epochs brought nothing better than what was there before them."""
    scores = [getattr(epoch, monitor) for epoch in history]
    return len(scores) > patience and max(scores[-patience:]) <= max(scores[:-patience])


def identity(params: TrainParams, decoder: DecoderParams, paths: Paths) -> str:
    """What a checkpoint belongs to: the parameters and the data."""
    indices = [paths.features / "index.json", *(paths.view(view) / "index.json" for view in params.views)]
    data = [sha256_file(file) for file in (paths.validated / "manifest.jsonl", *indices) if file.exists()]
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
    plain = ("loss", "learning_rate", "reward", "member")
    return {
        n if n in plain else f"dev_{n}": float(value) for n, value in epoch.items() if n not in ("epoch", "objective")
    }


def _flat(prefix: str, section: Any) -> dict[str, Any]:
    return {f"{prefix}.{name}": value for name, value in section.model_dump().items()}
