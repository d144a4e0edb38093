"""train@C: features and captions in, a trained network out. Stops on a dev score of free-running captions.

A network has one or more members, each trained alone from a seed of its own, in one phase (cross-entropy), two
(self-critical training on CIDEr, from the first phase's best weights on) or three (between them the encoder's last
blocks learn too, and the pictures take the place of the features). With ``train.distill``, networks that only teach
are trained before it in the same way, from the seeds after its own. What people wrote of the training pictures is
kept beside the weights, for export to rate captions by. After every epoch a checkpoint is written outside the DVC out;
a run that was cut short goes on from it and ends with the same weights as one that was not.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from captioner.digests import sha256_file, sha256_text
from captioner.errors import BadData
from captioner.featurestore.packed import PackedFeatures
from captioner.model.trained import load_weights, write_trained
from captioner.model.vectors import Coverage
from captioner.packs import PackReader
from captioner.params import DecoderParams, TrainParams
from captioner.paths import Paths
from captioner.ports import Run, Tracker
from captioner.records import ImageRecord, read_manifest, write_json, write_text
from captioner.stages.fitting import Data, Epoch, Given, Seen, Trained, Views, by_hundreds, train_member, train_teacher
from captioner.text import Vocabulary, tokenize


class NoRun:
    """A run that nobody remembers."""

    id = ""
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
        first = next(e.epoch for e in self.epochs if e.member == 0)  # the candidate's own: its teachers' come before
        for e in self.epochs:
            phase = "" if e.objective == "cross-entropy" else f"  {e.objective}"
            phase += "  teacher" if e.epoch < first else ""
            best = "  best" if e.epoch == self.best_epoch else ""
            lines.append(
                f"{e.epoch:>5} {e.loss:>6.3f} {e.cider:>10.1f} {e.bleu_4:>7.1f} {e.mean_words:>6.1f}{phase}{best}"
            )
        return "\n".join(lines)


def run(
    params: TrainParams,
    decoder_params: DecoderParams,
    paths: Paths,
    candidate: str,
    tracker: Tracker,
    word_vectors: Path,
    weights: Path | None = None,
) -> TrainReport:
    """Train `candidate`. `weights` is ``load_encoder``'s, for where the encoder is tuned.

    Raises BadData on features that do not match the manifest or a foreign checkpoint.
    """
    import keras
    import tensorflow as tf

    from captioner.model.encoder import load_encoder
    from captioner.model.ensemble import build_network
    from captioner.model.memory import remember
    from captioner.model.several import numbered
    from captioner.stages.pictures import Pictures

    keras.utils.set_random_seed(params.seed)
    tf.config.experimental.enable_op_determinism()
    features = PackedFeatures.open(paths.features)
    manifest = read_manifest(paths.validated / "manifest.jsonl")
    checkpoints = paths.checkpoints / identity(params, decoder_params, paths)
    given = given_of(params, decoder_params, paths, features, manifest, word_vectors, checkpoints)
    data, vocabulary = given.data, given.vocabulary
    tracked = tracker.start(f"train-{candidate}", {"captioner.candidate": candidate, "captioner.stage": "train"})
    try:
        tracked.params({**_flat("train", params), **_flat("decoder", decoder_params)})
        history: list[Epoch] = []
        members: list[Trained] = []
        with ExitStack() as stack:
            packs = stack.enter_context(PackReader(paths.raw)) if params.finetune else None
            own = decoder_params.members
            teachers = range(own, own + (params.distill.teachers if params.distill else 0))
            for number in (*teachers, *range(own)):
                if packs and params.finetune:
                    # Each network begins with the published encoder.
                    strength = params.finetune.strength
                    pictures = Pictures.open(paths, features.meta, manifest, weights, packs, strength)
                    given = replace(given, pictures=pictures)
                if number in teachers:
                    teacher = train_teacher(given, number, history, tracked)
                    given = replace(given, teachers=(*given.teachers, teacher))
                else:
                    members.append(train_member(given, number, history, tracked))
            arrays = numbered(one.weights for one in members)
            learned = [one.encoder for one in members if one.encoder is not None]
            tuned = given.pictures.tuned(learned, given.checkpoints / "encoder.npz") if given.pictures else None
            meta, encoder = (tuned.meta, tuned.file) if tuned else (features.meta, None)
            shown: Seen = given.views
            if given.pictures and encoder:
                known = load_encoder(meta.encoder, meta.layout, weights, paths.home / "encoders", encoder)
                shown = given.pictures.seen_by(known)
            memory = remember(averages(shown, data.rows), given.encoded)
        network = build_network(decoder_params, len(vocabulary), meta.channels, max(len(learned), 1))
        load_weights(network, arrays, candidate)
        folder = paths.trained(candidate)
        write_trained(folder, network, vocabulary, meta, params.max_words, encoder, memory)
        best = max((e for e in history if e.member < own), key=lambda e: getattr(e, params.monitor))
        report = TrainReport(
            candidate=candidate,
            weights_digest=sha256_file(folder / "weights.npz"),
            best_epoch=best.epoch,
            vocabulary=len(vocabulary),
            captions=sum(len(of_image) for of_image in data.captions),
            unknown_words=unknown_share(data.captions, vocabulary),
            parameters=sum(int(array.size) for array in arrays.values()),
            word_vectors=members[-1].coverage,
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


def given_of(
    params: TrainParams,
    decoder: DecoderParams,
    paths: Paths,
    features: PackedFeatures,
    manifest: Sequence[ImageRecord],
    word_vectors: Path,
    checkpoints: Path,
) -> Given:
    """What training starts from, pictures aside. Raises BadData where features and manifest differ."""
    from captioner.model.training import encode_captions

    data = select(manifest, features, params)
    vocabulary = Vocabulary.build((c for of_image in data.captions for c in of_image), params.min_count)
    return Given(
        params=params,
        decoder=decoder,
        views=Views.open(paths, features, params.views),
        channels=features.meta.channels,
        data=data,
        encoded=encode_captions(data.captions, vocabulary, params.max_words),
        vocabulary=vocabulary,
        word_vectors=word_vectors,
        checkpoints=checkpoints,
    )


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


def averages(shown: Seen, rows: np.ndarray) -> np.ndarray:
    """float32 [N, D]: what is shown of each of the `rows`, averaged over the grid."""
    parts = by_hundreds(shown, rows, "what is remembered")
    return np.concatenate([grid.mean(axis=1, dtype=np.float32) for grid in parts])


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


def _flat(prefix: str, section: Any) -> dict[str, Any]:
    return {f"{prefix}.{name}": value for name, value in section.model_dump().items()}
