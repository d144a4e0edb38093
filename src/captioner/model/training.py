"""The training loop's inside: batches, loss and one compiled step. Knows nothing of files, trackers or stopping."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from captioner.model.beam import beam_search
from captioner.model.decoder import Decoder, Dropout, Packing
from captioner.model.precision import optimizer_for
from captioner.params import TrainParams
from captioner.text import PAD, Vocabulary


@dataclass(frozen=True)
class Batch:
    """Images as row numbers of the feature file, and their captions [B, N, T + 1] as ids, padded."""

    rows: np.ndarray
    captions: np.ndarray


def encode_captions(captions: Sequence[Sequence[Sequence[str]]], vocabulary: Vocabulary, max_words: int) -> np.ndarray:
    """Captions of every image as one array [images, N, max_words + 2] int32; missing captions are all padding."""
    width = max(len(of_image) for of_image in captions)
    encoded = np.full((len(captions), width, max_words + 2), PAD, np.int32)
    for i, of_image in enumerate(captions):
        for j, tokens in enumerate(of_image):
            ids = vocabulary.encode(tokens, max_words)
            encoded[i, j, : len(ids)] = ids
    return encoded


def epoch_batches(rows: np.ndarray, captions: np.ndarray, size: int, seed: int, epoch: int) -> Iterator[Batch]:
    """One epoch in an order that depends on `seed` and `epoch` alone. Every batch is cut to its longest caption."""
    order = np.random.default_rng([seed, epoch]).permutation(len(rows))
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        of_batch = captions[chosen]
        longest = int((of_batch != PAD).sum(axis=2).max())
        yield Batch(rows[chosen], of_batch[:, :, :longest])


def schedule(params: TrainParams, steps_per_epoch: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Linear warm-up, then a cosine down to a fiftieth."""
    steps = max(steps_per_epoch * params.epochs, params.warmup_steps + 1)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=steps - params.warmup_steps,
        alpha=0.02,
        warmup_target=params.learning_rate,
        warmup_steps=params.warmup_steps,
    )


class Trainer:
    """A decoder, its optimizer and the compiled steps over them."""

    def __init__(self, decoder: Decoder, params: TrainParams, dropout: float, steps_per_epoch: int) -> None:
        self.decoder, self.params, self.dropout = decoder, params, dropout
        self.rate = schedule(params, steps_per_epoch)
        adam = keras.optimizers.Adam(self.rate, global_clipnorm=params.clip_norm)
        self.optimizer = optimizer_for(params.precision, adam)
        self.optimizer.build(decoder.trainable_variables)
        self._step = tf.function(self._train, reduce_retracing=True)
        self._greedy = tf.function(self._caption, reduce_retracing=True)

    def train(self, grid: np.ndarray, captions: np.ndarray, step: int) -> tuple[float, int]:
        """One update on `grid` [B, C, D] float16 and `captions` [B, N, T + 1]. Returns loss per token, and tokens."""
        loss, tokens = self._step(tf.constant(grid), tf.constant(captions), tf.constant(step))
        return float(loss), int(tokens)

    def caption(self, grid: np.ndarray) -> np.ndarray:
        """Greedy captions of `grid` [B, C, D], as ids [B, T]."""
        return np.asarray(self._greedy(tf.constant(grid)))

    def _train(self, grid: tf.Tensor, captions: tf.Tensor, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        drop = Dropout(self.dropout, self.params.seed, step)
        inputs, targets = captions[:, :, :-1], captions[:, :, 1:]
        packing = Packing.of(targets != PAD)
        with tf.GradientTape() as tape, self.decoder.product.in_format(self.params.precision):
            context = self.decoder.image(tf.cast(grid, tf.float32), drop)
            hidden = self.decoder.hidden(context, inputs, packing, drop)
            loss = self._loss(self.decoder.softmax(hidden), packing.pick(targets))
            scaled = self.optimizer.scale_loss(loss)
        weights = self.decoder.trainable_variables
        gradients = tape.gradient(scaled, [v.value for v in weights])
        self.optimizer.apply(gradients, weights)
        return loss, tf.size(packing.flat)

    def _loss(self, logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """Mean cross-entropy a token, in nats, with label smoothing (Szegedy et al. 2016)."""
        plain = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
        smoothing = self.params.label_smoothing
        if smoothing:
            uniform = tf.reduce_logsumexp(logits, axis=-1) - tf.reduce_mean(logits, axis=-1)
            plain = (1.0 - smoothing) * plain + smoothing * uniform
        return tf.reduce_mean(plain)

    def _caption(self, grid: tf.Tensor) -> tf.Tensor:
        ids, _ = beam_search(
            self.decoder, self.decoder.image(tf.cast(grid, tf.float32)), 1, self.params.max_words, length_power=0.0
        )
        return ids[:, 0]


def words_of(ids: np.ndarray, vocabulary: Vocabulary) -> list[str]:
    """Rows of ids as captions."""
    return [vocabulary.decode(row) for row in ids]
