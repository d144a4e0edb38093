"""The training loop's inside: batches, loss and one compiled step. Knows nothing of files, trackers or stopping.

`Trainer` learns from people's captions by cross-entropy; `tuning.Tuner` goes on with the encoder's last blocks, and
`scst.SelfCritical` with captions of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from captioner.model.adam import Adam
from captioner.model.beam import beam_search
from captioner.model.cross_entropy import cross_entropy
from captioner.model.decoder import Context, Decoder
from captioner.model.dropout import Dropout
from captioner.model.precision import optimizer_for
from captioner.model.recurrence import Packing
from captioner.model.teaching import Teacher, said_by
from captioner.model.trained import load_weights, weights_of
from captioner.params import TrainParams
from captioner.text import PAD, SPECIAL, Vocabulary


@dataclass(frozen=True)
class Batch:
    """Images as row numbers of the feature file, and their captions [B, N, T + 1] as ids, padded."""

    rows: np.ndarray
    captions: np.ndarray
    images: np.ndarray  # [B] their places among the training images


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
        yield Batch(rows[chosen], of_batch[:, :, :longest], chosen)


def schedule(rate: float, warmup_steps: int, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Linear warm-up to `rate`, then a cosine down to a fiftieth of it at `steps`."""
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=max(steps, warmup_steps + 1) - warmup_steps,
        alpha=0.02,
        warmup_target=rate,
        warmup_steps=warmup_steps,
    )


class Trainer:
    """A decoder, its optimizer, the running average of its weights, and the compiled steps over them."""

    objective = "cross-entropy"
    teachers: Sequence[Teacher] = ()

    def __init__(
        self,
        decoder: Decoder,
        params: TrainParams,
        dropout: float,
        steps_per_epoch: int,
        teachers: Sequence[Teacher] = (),
    ) -> None:
        """With `teachers`, ``params.distill`` says what their say counts."""
        assert bool(teachers) == (params.distill is not None), "the stage sees to it"
        self.decoder, self.params, self.dropout, self.teachers = decoder, params, dropout, teachers
        self.epochs, self.patience = params.epochs, params.patience
        self._compile(schedule(params.learning_rate, params.warmup_steps, steps_per_epoch * params.epochs))

    def _compile(self, rate: keras.optimizers.schedules.LearningRateSchedule) -> None:
        weights = self.decoder.trainable_variables
        self.rate = rate
        adam = Adam(rate, global_clipnorm=self.params.clip_norm)
        self.optimizer = optimizer_for(self.params.precision, adam)
        self.optimizer.build(weights)
        self.average = [tf.Variable(w.value, trainable=False) for w in self.variables] if self.params.ema else []
        self._step = tf.function(self._train, reduce_retracing=True, autograph=False)
        self._greedy = tf.function(self._caption, reduce_retracing=True, autograph=False)

    @property
    def variables(self) -> list[keras.Variable]:
        """What learns."""
        return list(self.decoder.trainable_variables)

    def weights(self) -> dict[str, np.ndarray]:
        """Every weight that learns, by its name."""
        return weights_of(self.decoder)

    def load(self, arrays: Mapping[str, np.ndarray], source: str) -> None:
        """Put `arrays`, which came from `weights`, back. Raises BadData when they are another network's."""
        load_weights(self.decoder, arrays, source)

    def update(self, grid: np.ndarray, batch: Batch, step: int) -> tuple[float, int, float]:
        """One update on `grid` [B, C, D] float16, the batch's features. Returns loss a token, tokens, and 0."""
        shown = [teacher.seen(batch.images) for teacher in self.teachers]
        return (*self.train(grid, batch.captions, step, shown), 0.0)

    def train(
        self, grid: np.ndarray, captions: np.ndarray, step: int, shown: Sequence[np.ndarray] = ()
    ) -> tuple[float, int]:
        """One update on `grid` [B, C, D] float16 and `captions` [B, N, T + 1]. Returns loss per token, and tokens.

        `shown` is what each of the teachers looks at, float16 [B, C, D].
        """
        worth = tf.ones(captions.shape[:2], tf.float32)
        grids = [tf.constant(one) for one in shown]
        loss, tokens = self._step(tf.constant(grid), tf.constant(captions), worth, tf.constant(step), grids)
        return float(loss), int(tokens)

    def caption(self, grid: np.ndarray) -> np.ndarray:
        """Greedy captions of `grid` [B, C, D], as ids [B, T]."""
        return np.asarray(self._greedy(tf.constant(grid)))

    def state(self) -> list[tf.Variable]:
        """What a checkpoint must keep beside the weights, always in the same order."""
        return [*(v.value for v in self.optimizer.variables), *self.average]

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """While this runs, the network has the averaged weights (where `ema` is on): for scores and for keeping."""
        weights = self.variables
        held = [w.value.numpy() for w in weights] if self.average else []
        for weight, average in zip(weights, self.average, strict=bool(self.average)):
            weight.assign(average)
        try:
            yield
        finally:
            for weight, array in zip(weights, held, strict=bool(held)):
                weight.assign(array)

    def _train(
        self,
        grid: tf.Tensor,
        captions: tf.Tensor,
        worth: tf.Tensor,
        step: tf.Tensor,
        shown: Sequence[tf.Tensor] = (),
    ) -> tuple[tf.Tensor, ...]:
        drop = Dropout(self.dropout, self.params.seed, step)
        inputs, targets = captions[:, :, :-1], captions[:, :, 1:]
        packing = Packing.of(targets != PAD)
        weights = self.variables
        taught = said_by(self.teachers, shown, inputs, packing) if self.teachers else None
        with self.decoder.product.in_format(self.params.precision):
            with tf.GradientTape() as tape:
                context = self.decoder.image(self._features(grid), drop)
                hidden = self.decoder.hidden(context, inputs, packing, drop)
                each = self._loss(hidden, packing.pick(targets), taught)
                row = packing.flat // tf.shape(targets)[2]
                loss = tf.reduce_mean(each * tf.gather(tf.reshape(worth, [-1]), row))
                if self.params.bag_of_words:
                    loss += self.params.bag_of_words * tf.reduce_mean(bag_of_words(self.decoder, context, targets))
                scaled = self.optimizer.scale_loss(loss)
            gradients = tape.gradient(scaled, [v.value for v in weights])
        self._apply(gradients)
        if self.average:
            # The average trusts early weights less: without this it would remember the random start for long.
            steps = tf.cast(self.optimizer.iterations, tf.float32)
            decay = tf.minimum(self.params.ema, (1.0 + steps) / (10.0 + steps))
            for average, weight in zip(self.average, weights, strict=True):
                average.assign(decay * average + (1.0 - decay) * weight.value)
        return tf.reduce_mean(each), tf.size(packing.flat)

    def _features(self, grid: tf.Tensor) -> tf.Tensor:
        """What the decoder looks at, float32 [B, C, D]."""
        return tf.cast(grid, tf.float32)

    def _apply(self, gradients: list[tf.Tensor]) -> None:
        """One step along `gradients`, of `variables`."""
        self.optimizer.apply(gradients, self.variables)

    def _loss(self, hidden: tf.Tensor, targets: tf.Tensor, taught: tf.Tensor | None) -> tf.Tensor:
        """Cross-entropy of each token, in nats, with label smoothing, and the teachers' share of it."""
        share = self.params.distill.share if taught is not None and self.params.distill else 0.0
        smoothing = self.params.label_smoothing
        return cross_entropy(self.decoder.softmax, hidden, targets, smoothing, taught=taught, share=share)

    def _caption(self, grid: tf.Tensor) -> tf.Tensor:
        ids, _ = beam_search(
            self.decoder, self.decoder.image(self._features(grid)), 1, self.params.max_words, length_power=0.0
        )
        return ids[:, 0]


def bag_of_words(decoder: Decoder, context: Context, captions: tf.Tensor) -> tf.Tensor:
    """Cross-entropy, in nats, between what a decoder would say of each image unasked and what people say of it, [B].

    People's words are those of all `captions` [B, N, T], in any order, each as often as it is there but N times at
    most. As in Ma et al. (2018), "Bag-of-Words as Target for Neural Machine Translation" (arXiv:1805.04871), of an
    image's five captions instead of a sentence's one.
    """
    images, rows, length = tf.unstack(tf.shape(captions))
    image = tf.repeat(tf.range(images), rows * length)
    said = tf.stack([image, tf.reshape(captions, [-1])], axis=1)
    counts = tf.scatter_nd(said, tf.ones(tf.shape(image)), [images, decoder.vocabulary])
    words = tf.cast(tf.range(decoder.vocabulary) >= len(SPECIAL), tf.float32)
    counts = tf.minimum(counts, tf.cast(rows, tf.float32)) * words
    shares = tf.math.divide_no_nan(counts, tf.reduce_sum(counts, axis=1, keepdims=True))
    return tf.nn.softmax_cross_entropy_with_logits(shares, decoder.softmax(decoder.gist(context)))


def words_of(ids: np.ndarray, vocabulary: Vocabulary) -> list[str]:
    """Rows of ids as captions."""
    return [vocabulary.decode(row) for row in ids]
