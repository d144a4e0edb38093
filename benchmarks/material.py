"""What the benchmarks work on: pictures of a real size, their captions and features, and a decoder that has learnt a
little.

The pictures are the sample's rendered scenes at 500x375, with grain like a camera's, so that a JPEG is as large and
as slow to decode as a photo's; nothing foreign is needed. Made once and kept in ``.captioner/benchmarks``.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from captioner.datasets.sample import open_sample
from captioner.model.runtime import start_tensorflow
from captioner.packs import PackWriter, digest
from captioner.params import DecoderParams, ExportParams, SampleParams, TrainParams
from captioner.records import FeaturesMeta, ImageRecord
from captioner.text import SPECIAL, Vocabulary, tokenize

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".captioner" / "benchmarks"
ENCODERS = ROOT / ".captioner" / "encoders"
ENCODER = "efficientnet-lite0"
SIZE = (500, 375)
DIFFERENT = 128
"""Pictures that differ in what they show; more than these differ in a comment of the file."""

GRAIN = 12.0
VOCABULARY = 2540  # Flickr8k's, at a minimum count of 5: the softmax is as wide as with the real thing
MAX_WORDS = 24
TRAIN = TrainParams(
    seed=1,
    epochs=8,
    images_per_batch=16,
    learning_rate=0.001,
    warmup_steps=20,
    label_smoothing=0.0,
    clip_norm=5.0,
    min_count=1,
    max_words=MAX_WORDS,
    patience=3,
    dev_images=1,
)
DECODERS = {
    "merge": DecoderParams(kind="merge", units=256, embedding=256, dropout=0.0),
    "attention": DecoderParams(kind="attention", units=512, embedding=256, dropout=0.0),
}
EXPORT = ExportParams(beam=3, length_power=0.7, top=3)
STEPS = 120


def threads() -> int:
    import os

    return os.cpu_count() or 1


def start() -> None:
    """TensorFlow, on all cores."""
    start_tensorflow(threads())


@dataclass(frozen=True)
class Picture:
    name: str
    data: bytes
    captions: tuple[str, ...]

    def record(self, pack: str = "") -> ImageRecord:
        return ImageRecord(self.name, pack, self.name, digest(self.data), "train", self.captions)


def pictures(count: int) -> Iterator[Picture]:
    """`count` pictures, no two of them the same file."""
    scenes = _scenes()
    for number in range(count):
        scene = scenes[number % len(scenes)]
        data = scene.data if number < len(scenes) else commented(scene.data, f"copy {number}")
        yield Picture(f"{number:05d}.jpg", data, scene.captions)


def commented(jpeg: bytes, comment: str) -> bytes:
    """The same picture as another file: a JPEG comment (marker FFFE) behind the first marker."""
    text = comment.encode()
    return jpeg[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + jpeg[2:]


def records_and_bytes(count: int) -> tuple[list[ImageRecord], dict[str, bytes]]:
    """The manifest rows of `count` pictures, and their bytes by id."""
    shown = list(pictures(count))
    return [picture.record() for picture in shown], {picture.name: picture.data for picture in shown}


def pack(folder: Path, count: int) -> list[ImageRecord]:
    """Write `count` pictures as packs into `folder`, as the stage acquire does. Returns the manifest."""
    records = []
    with PackWriter(folder) as writer:
        for picture in pictures(count):
            records.append(picture.record(writer.add(picture.name, picture.data)))
    return records


def encoder(name: str = ENCODER) -> Any:
    start()
    from captioner.model.encoder import load_encoder

    return load_encoder(name, "grid", None, ENCODERS)


def features(name: str = ENCODER) -> np.ndarray:
    """The encoder's features of the DIFFERENT pictures, float16 [n, cells, channels]."""
    start()
    from captioner.featurestore.extract import Extractor

    kept = HOME / f"{name}.npy"
    if not kept.exists():
        records, data = records_and_bytes(DIFFERENT)
        rows = [rows for _, rows in Extractor(encoder(name), 32).extract(records, lambda record: data[record.id])]
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, np.concatenate(rows))
    return np.load(kept)


def vocabulary() -> Vocabulary:
    """The scenes' words, and made-up ones behind them up to VOCABULARY."""
    words = Vocabulary.build((tokenize(caption) for scene in _scenes() for caption in scene.captions), 1).words
    return Vocabulary((*words, *(f"word{number}" for number in range(VOCABULARY - len(words)))))


def captions() -> np.ndarray:
    """Captions of the DIFFERENT pictures as ids, [n, 5, MAX_WORDS + 2], padded."""
    start()
    from captioner.model.training import encode_captions

    return encode_captions([[tokenize(c) for c in s.captions] for s in _scenes()], vocabulary(), MAX_WORDS)


def batches(
    count: int, size: int = TRAIN.images_per_batch, encoder: str = ENCODER
) -> list[tuple[np.ndarray, np.ndarray]]:
    """`count` training batches: features [B, cells, channels] float16 and captions [B, 5, T + 1]."""
    start()
    from captioner.model.training import epoch_batches

    rows, known, found = features(encoder), captions(), []
    for epoch in range(1, count + 1):
        for batch in epoch_batches(np.arange(len(rows)), known, size, TRAIN.seed, epoch):
            found.append((rows[batch.rows], batch.captions))
            if len(found) == count:
                return found
    raise AssertionError("an epoch has at least one batch")


def new_decoder(params: DecoderParams, channels: int) -> Any:
    """A decoder with its first weights, of features with so many `channels`."""
    start()
    from captioner.model.decoder import build_decoder

    return build_decoder(params, VOCABULARY, channels, TRAIN.seed)


def new_trainer(decoder: Any) -> Any:
    from captioner.model.training import Trainer

    return Trainer(decoder, TRAIN, dropout=0.0, steps_per_epoch=STEPS // TRAIN.epochs)


def trained_decoder(kind: str) -> Any:
    """A decoder after STEPS batches: its captions have words, an end and a usual length."""
    from captioner.model.trained import load_weights, pack_arrays, unpack_arrays, weights_of

    kept = HOME / f"{kind}-{STEPS}.npz"
    decoder = new_decoder(DECODERS[kind], features().shape[2])
    if not kept.exists():
        trainer = new_trainer(decoder)
        for step, (grid, ids) in enumerate(batches(STEPS)):
            trainer.train(grid, ids, step)
        kept.write_bytes(pack_arrays(weights_of(decoder)))
    load_weights(decoder, unpack_arrays(kept), str(kept))
    return decoder


def artifact(kind: str) -> Path:
    """model.tar.gz of `trained_decoder(kind)`, made by the real export."""
    from captioner.model.savedmodel import Graph, write_artifact

    target = HOME / f"{kind}.tar.gz"
    if target.exists():
        return target
    decoder, cnn = trained_decoder(kind), encoder()
    meta: FeaturesMeta = cnn.meta
    graph = Graph(cnn, decoder, vocabulary(), MAX_WORDS, EXPORT)
    from dataclasses import asdict

    card = {"candidate": kind, "features": asdict(meta), "max_words": MAX_WORDS, **EXPORT.model_dump()}
    write_artifact(graph, card, target)
    return target


def many(rows: np.ndarray, count: int) -> np.ndarray:
    """`count` rows out of `rows`, repeated, each repetition a little dimmer so that no two are the same."""
    repeats = -(-count // len(rows))
    dimmed = [rows * np.float16(1 - 0.01 * (number % 20)) for number in range(repeats)]
    return np.concatenate(dimmed)[:count]


_cache: list[Picture] = []


def _scenes() -> Sequence[Picture]:
    if not _cache:
        folder = HOME / "pictures"
        folder.mkdir(parents=True, exist_ok=True)
        items = open_sample(SampleParams(images=max(DIFFERENT, 60), size=500, seed=11)).items
        for number, item in zip(range(DIFFERENT), items, strict=False):
            kept = folder / f"{number:05d}.jpg"
            if not kept.exists():
                kept.write_bytes(grained(item.data, number))
            _cache.append(Picture(kept.name, kept.read_bytes(), item.captions))
    return _cache


def grained(scene: bytes, seed: int) -> bytes:
    """A scene at SIZE with a camera's grain, as a JPEG of a photo's weight."""
    with Image.open(io.BytesIO(scene)) as picture:
        pixels = np.asarray(picture.convert("RGB").resize(SIZE, Image.Resampling.BICUBIC), np.float32)
    noise = np.random.default_rng(seed).normal(0.0, GRAIN, pixels.shape)
    out = io.BytesIO()
    Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=92)
    return out.getvalue()


assert len(SPECIAL) < VOCABULARY
