"""A tiny real model and its data: the real encoder, a decoder of a few words, features that tell images apart."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from captioner.featurestore.packed import write_packed
from captioner.params import DecoderParams, ExportParams, TrainParams
from captioner.paths import Paths
from captioner.records import FeaturesMeta, ImageRecord, write_manifest
from captioner.text import SPECIAL, Vocabulary

ROOT = Path(__file__).resolve().parents[1]
META = FeaturesMeta("tiny", "grid", 8, 4, 6, "0" * 64, "test")
COLOURS = ("red", "green", "blue")
KINDS = ("ball", "box")
VOCABULARY = Vocabulary((*SPECIAL, "a", "'s", "man", "dog", "red", "ball", "runs", "on", "grass", "in", "the", "water"))
EXPORT = ExportParams(beam=3, length_power=0.7, top=3)


def train_params(**changes: object) -> TrainParams:
    values: dict[str, object] = {
        "seed": 1,
        "epochs": 3,
        "images_per_batch": 6,
        "learning_rate": 0.02,
        "warmup_steps": 2,
        "label_smoothing": 0.1,
        "clip_norm": 5.0,
        "min_count": 1,
        "max_words": 8,
        "monitor": "cider",
        "patience": 3,
        "dev_images": 6,
    }
    return TrainParams.model_validate({**values, **changes})


def decoder_params(kind: str = "attention", **changes: object) -> DecoderParams:
    return DecoderParams.model_validate({"kind": kind, "units": 12, "embedding": 8, "dropout": 0.2, **changes})


def write_data(paths: Paths, images: int = 30) -> None:
    """A validated manifest and features for it: each image's features say its colour and its kind."""
    records, rows = [], []
    for i in range(images):
        colour, kind = i % 3, (i // 3) % 2
        captions = (f"a {COLOURS[colour]} {KINDS[kind]}", f"the {KINDS[kind]} is {COLOURS[colour]}")
        split = "dev" if i % 5 == 3 else "test" if i % 5 == 4 else "train"
        records.append(ImageRecord(f"{i:03d}.png", "images-000.zip", f"{i:03d}.png", f"{i:032x}", split, captions))
        row = np.random.default_rng(i).normal(0, 0.05, (META.cells, META.channels))
        row[:, colour] += 1.0
        row[:, 3 + kind] += 1.0
        rows.append(row.astype(np.float16))
    write_manifest(paths.validated / "manifest.jsonl", records)
    paths.features.mkdir(parents=True, exist_ok=True)
    ids, whole = [record.id for record in records], np.stack(rows)
    write_packed(paths.features, META, ids, ids, whole.__getitem__)
    seen = [(r.id, row) for r, row in zip(records, rows, strict=True) if r.split == "train"]
    flipped = np.stack([row[::-1] for _, row in seen])
    names = [name for name, _ in seen]
    write_packed(paths.view("flip"), replace(META, preprocessing="test+flip"), names, names, flipped.__getitem__)


def make_tiny_artifact(folder: Path, kind: str = "attention") -> Path:
    """`write_tiny_model` in a process of its own: TensorFlow counts names through a process."""
    subprocess.run([sys.executable, "-m", "tests.tiny", str(folder), kind], cwd=ROOT, check=True, capture_output=True)
    return folder / "models" / "candidates" / kind / "exported" / "model.tar.gz"


def write_tiny_model(paths: Paths, candidate: str, kind: str, seed: int = 1, flip: bool = False) -> Path:
    """The real export stage over an untrained decoder; returns its model.tar.gz."""
    from captioner.model.decoder import build_decoder
    from captioner.model.encoder import load_encoder
    from captioner.model.trained import write_trained
    from captioner.stages import export

    encoder = load_encoder("efficientnet-lite0", "grid", None, paths.home / "encoders")
    features = FeaturesMeta(
        encoder.name,
        encoder.layout,
        encoder.image_size,
        encoder.cells,
        encoder.channels,
        encoder.weights_digest,
        encoder.preprocessing,
    )
    decoder = build_decoder(decoder_params(kind, dropout=0.0), len(VOCABULARY), encoder.channels, seed)
    write_trained(paths.trained(candidate), decoder, VOCABULARY, features, max_words=8)
    export.run(EXPORT.model_copy(update={"flip": flip}), paths, candidate)
    return paths.exported(candidate) / "model.tar.gz"


if __name__ == "__main__":
    place, network = Path(sys.argv[1]), sys.argv[2]
    write_tiny_model(Paths(place, place / ".captioner"), network, network)
