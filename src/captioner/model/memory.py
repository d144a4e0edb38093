"""What people wrote of the training pictures, kept beside a network: its captions are rated by it as well.

Beam search leaves the likeliest captions; of these the best is one that agrees with what was written of the training
pictures that look most like this one. Alike: the cosine of the features' means over the grid, on their principal axes.
Agreement: the cosine of tf-idf over n-grams of one to four words, CIDEr's core (Vedantam et al. 2015), as Devlin et al.
(2015, "Exploring Nearest Neighbor Approaches for Image Captioning") choose among the neighbours' own captions. Nothing
is ever copied: what is chosen from is the network's.

n-grams are known by a hash, and of each picture the heaviest are kept: half a kilobyte a picture. One function finds
them, for what is remembered and for what is rated.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from captioner.text import END, PAD, START

ORDERS = 4
BUCKETS = 65_536
KEPT = 96  # n-grams of a picture
AXES = 64
_PRIME, _FACTOR = 2_147_483_647, 31_337
_PART = 512  # pictures whose captions are weighed at once


def remember(seen: np.ndarray, captions: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of a memory, float16 and uint16.

    `seen` float32 [N, D]: each picture's features, averaged over the grid. `captions` int32 [N, M, T]: word ids, as
    ``encode_captions`` gives them.
    """
    mean = seen.mean(axis=0)
    centred = seen - mean
    _, vectors = np.linalg.eigh(centred.T @ centred)
    axes = vectors[:, ::-1][:, :AXES]
    pictures = centred @ axes
    pictures /= np.maximum(np.linalg.norm(pictures, axis=1, keepdims=True), 1e-6)

    frequency = np.zeros(BUCKETS, np.int64)  # pictures
    for part in _parts(captions):
        for buckets, there in zip(*(one.numpy() for one in ngrams(tf.constant(part))), strict=True):
            frequency[np.unique(buckets[there])] += 1
    idf = np.log(len(captions) / np.maximum(frequency, 1)).astype(np.float16)

    kept, weights = (np.zeros((len(captions), KEPT), kind) for kind in (np.uint16, np.float16))
    for start, part in zip(range(0, len(captions), _PART), _parts(captions), strict=True):
        found = tfidf(tf.constant(part), tf.constant(idf, tf.float32))
        for number, (buckets, weighed) in enumerate(zip(*(one.numpy() for one in found), strict=True), start):
            written = max(1, int((captions[number] != PAD).any(axis=-1).sum()))
            total = np.bincount(buckets.ravel(), weighed.ravel(), BUCKETS) / written
            kept[number] = np.argsort(-total, kind="stable")[:KEPT]
            weights[number] = total[kept[number]]
    halves = {"mean": mean, "axes": axes, "pictures": pictures, "weights": weights, "idf": idf}
    return {**{name: array.astype(np.float16) for name, array in halves.items()}, "buckets": kept}


def ngrams(ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Buckets int32 [..., ORDERS, T] of the n-grams that begin at each place of `ids` [..., T], and which are there."""
    ids = tf.cast(ids, tf.int64)
    word = (ids != PAD) & (ids != START) & (ids != END)
    key, whole, length = tf.zeros_like(ids), tf.ones_like(word), tf.shape(ids)[-1]
    keys, there = [], []
    for order in range(ORDERS):
        # The word `order` places on; beyond the end there is padding.
        later = [
            tf.concat([one[..., order:], tf.zeros_like(one[..., :order])], axis=-1)[..., :length]
            for one in (ids, tf.cast(word, tf.int64))
        ]
        key = (key * _FACTOR + later[0] + 1) % _PRIME
        whole &= later[1] > 0
        keys.append((key * ORDERS + order) % BUCKETS)
        there.append(whole)
    return tf.cast(tf.stack(keys, axis=-2), tf.int32), tf.stack(there, axis=-2)


def tfidf(ids: tf.Tensor, idf: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Buckets and weights [..., ORDERS, T] of captions `ids` [..., T]: of each order's n-grams a vector of length 1.

    An n-gram that occurs twice stands there twice, each time with its idf: as a sum over places the two are one.
    """
    buckets, there = ngrams(ids)
    weights = tf.gather(idf, buckets) * tf.cast(there, tf.float32)
    same = (
        tf.cast(buckets[..., :, None] == buckets[..., None, :], tf.float32) * tf.cast(there, tf.float32)[..., None, :]
    )
    squares = tf.reduce_sum(tf.square(weights) * tf.reduce_sum(same, axis=-1), axis=-1, keepdims=True)
    return buckets, tf.math.divide_no_nan(weights, tf.sqrt(squares))


class Memory:
    """What ``remember`` gave, as part of a graph."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._variables = {
            name: tf.Variable(_indices(array), trainable=False, name=f"memory_{name}")
            for name, array in sorted(arrays.items())
        }

    def agreement(self, grid: tf.Tensor, ids: tf.Tensor, neighbours: int) -> tf.Tensor:
        """How far captions `ids` [B, K, T] are what was written of the `neighbours` pictures most like `grid`
        [B, C, D]: [B, K], 0 to 1."""
        batch = tf.shape(ids)[0]
        seen = (tf.reduce_mean(grid, axis=1) - self._half("mean")) @ self._half("axes")
        alike = tf.linalg.matmul(tf.math.l2_normalize(seen, axis=-1), self._half("pictures"), transpose_b=True)
        _, nearest = tf.math.top_k(alike, tf.minimum(neighbours, tf.shape(alike)[1]))
        weights = tf.gather(self._half("weights"), nearest)
        # One row of all buckets for each picture of the batch, in which the neighbours' captions are added up.
        rows = tf.range(batch)[:, None, None] * BUCKETS + tf.gather(self._variables["buckets"], nearest)
        written = tf.math.unsorted_segment_sum(tf.reshape(weights, [-1]), tf.reshape(rows, [-1]), batch * BUCKETS)
        written = tf.reshape(written, [batch, BUCKETS]) / tf.cast(tf.shape(nearest)[1], tf.float32)
        buckets, said = tfidf(ids, self._half("idf"))
        return tf.reduce_sum(said * tf.gather(written, buckets, batch_dims=1), axis=[-2, -1]) / ORDERS

    def _half(self, name: str) -> tf.Tensor:
        return tf.cast(self._variables[name], tf.float32)


def best_first(
    ids: tf.Tensor,
    log_probabilities: tf.Tensor,
    length_power: float | tf.Tensor,
    agreement: tf.Tensor,
    weight: float | tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The captions [B, K, T] of a beam search and their log probabilities [B, K], best first by both:
    log probability / length ** `length_power` + `weight` * agreement."""
    length = tf.reduce_sum(tf.cast(ids != PAD, tf.float32), axis=-1)
    likely = log_probabilities / tf.maximum(length, 1.0) ** length_power
    order = tf.argsort(likely + weight * agreement, axis=-1, direction="DESCENDING", stable=True)
    return tf.gather(ids, order, batch_dims=1), tf.gather(log_probabilities, order, batch_dims=1)


def _parts(captions: np.ndarray) -> list[np.ndarray]:
    return [captions[start : start + _PART] for start in range(0, len(captions), _PART)]


def _indices(array: np.ndarray) -> np.ndarray:
    """TensorFlow gathers no unsigned numbers of 16 bits."""
    return array.astype(np.int32) if array.dtype == np.uint16 else array
