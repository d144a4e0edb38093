"""Pictures instead of their features, for the phases of training in which the encoder learns or has learned.

Training images are drawn anew at each step, dev images are shown as they are. Knows nothing of decoders or epochs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from captioner import images
from captioner.errors import BadData
from captioner.model.arrays import pack_arrays
from captioner.model.augment import drawn
from captioner.model.encoder import Encoder, load_encoder
from captioner.model.identity import tuned_digest
from captioner.model.preprocess import decode_and_resize
from captioner.model.several import numbered
from captioner.packs import PackReader
from captioner.paths import Paths
from captioner.records import FeaturesMeta, ImageRecord, write_bytes


@dataclass(frozen=True)
class Tuned:
    """Encoders that have learned: the file with their own weights, and what their features are."""

    file: Path
    meta: FeaturesMeta


class Pictures:
    """The pixels of a manifest's images, float32 [B, size, size, 3], by their rows in it."""

    def __init__(self, encoder: Encoder, manifest: Sequence[ImageRecord], packs: PackReader, strength: float) -> None:
        self.encoder, self._manifest, self._packs = encoder, manifest, packs
        size, data = encoder.image_size, tf.TensorSpec([], tf.string)
        self._plain = tf.function(lambda one: decode_and_resize(one, size), input_signature=[data], autograph=False)
        self._drawn = tf.function(
            lambda one, seed: drawn(one, size, seed, strength),
            input_signature=[data, tf.TensorSpec([2], tf.int32)],
            autograph=False,
        )

    @classmethod
    def open(
        cls,
        paths: Paths,
        features: FeaturesMeta,
        manifest: Sequence[ImageRecord],
        weights: Path | None,
        packs: PackReader,
        strength: float,
    ) -> Pictures:
        """With the published encoder of `features`. Raises BadData when that is another by now."""
        encoder = load_encoder(features.encoder, features.layout, weights, paths.home / "encoders")
        if encoder.meta != replace(features, engine=encoder.meta.engine):
            raise BadData(f"data/features was not made by the encoder {encoder.name}: run the features stage again.")
        return cls(encoder, manifest, packs, strength)

    def plain_grid(self, rows: np.ndarray) -> np.ndarray:
        return np.stack([self._plain(self._bytes(row)).numpy() for row in rows])

    def grid(self, rows: np.ndarray, seed: int, step: int) -> np.ndarray:
        seeds = np.random.default_rng([seed, step, 1]).integers(0, 2**31, (len(rows), 2), np.int32)
        pairs = zip(rows, seeds, strict=True)
        return np.stack([self._drawn(self._bytes(row), tf.constant(one)).numpy() for row, one in pairs])

    def seen_by(self, encoder: Encoder) -> Encoded:
        """What another encoder makes of the same pictures."""
        return Encoded(Pictures(encoder, self._manifest, self._packs, strength=0.0))

    def tuned(self, members: Sequence[Mapping[str, np.ndarray]], file: Path) -> Tuned:
        """Write the weights that the encoder has learned, for each member by itself, to `file`."""
        write_bytes(file, pack_arrays(numbered(members)))
        meta = self.encoder.meta
        digest = tuned_digest(meta.weights_digest, file)
        return Tuned(file, replace(meta, weights_digest=digest, channels=len(members) * meta.channels))

    def _bytes(self, row: int) -> tf.Tensor:
        record = self._manifest[row]
        return tf.constant(images.normalise(self._packs.read(record), record.id, whole=True))


class Encoded:
    """What the encoder, as it is now, makes of the same pictures (`flip`: both ways), float16 [B, cells, channels]."""

    def __init__(self, pictures: Pictures, flip: bool = False) -> None:
        self._pictures, encoder = pictures, pictures.encoder
        self._encode = tf.function(
            lambda pixels: tf.cast(encoder.encode(pixels, flip), tf.float16), reduce_retracing=True, autograph=False
        )

    def plain_grid(self, rows: np.ndarray) -> np.ndarray:
        # A few at a time: activations of a hundred pictures would not fit the caches.
        parts = [self._pictures.plain_grid(rows[start : start + 25]) for start in range(0, len(rows), 25)]
        return np.concatenate([self._encode(tf.constant(part)).numpy() for part in parts])

    def grid(self, rows: np.ndarray, seed: int, step: int) -> np.ndarray:
        encoded: np.ndarray = self._encode(tf.constant(self._pictures.grid(rows, seed, step))).numpy()
        return encoded
