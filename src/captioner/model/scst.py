"""Self-critical training: the decoder samples captions and learns from what they are worth in CIDEr.

Rennie et al. 2017 (arXiv:1612.00563), with the baseline of Luo 2020 (arXiv:2003.09971): a caption is held against the
mean of the image's other samples, so nothing is decoded beside them. The end token counts as a word in the
reward: else breaking off in the middle of a phrase would cost nothing, and captions shrink.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from captioner.metrics.cider import CiderScorer
from captioner.metrics.corpus import count
from captioner.model.beam import NEVER, never_said
from captioner.model.cross_entropy import cross_entropy
from captioner.model.decoder import Context, Decoder
from captioner.model.training import Batch, Trainer, schedule
from captioner.params import ScstParams, TrainParams
from captioner.text import END, PAD, SPECIAL, START, Vocabulary


def sample(decoder: Decoder, context: Context, rows: int, max_words: int, seed: tf.Tensor) -> tf.Tensor:
    """`rows` captions of each image, drawn word by word: ids [B, rows, max_words + 2] from start to end, then padding.

    The same for the same `seed` [2] int32. Unknown words are never drawn, as in beam search.
    """
    batch = tf.shape(next(iter(context.values())))[0]
    forbidden = never_said(decoder.vocabulary)
    only_end = (1.0 - tf.one_hot(END, decoder.vocabulary)) * NEVER
    length = max_words + 1
    out = tf.TensorArray(tf.int32, length, element_shape=[None, rows])

    def body(t: tf.Tensor, last: tf.Tensor, h: tf.Tensor, c: tf.Tensor, out: tf.TensorArray) -> tuple[tf.Tensor, ...]:
        logits, (h, c) = decoder.step(context, last, (h, c))
        logits = logits + forbidden + tf.where(t == max_words, only_end, 0.0)
        drawn = tf.random.stateless_uniform(tf.shape(logits), seed + tf.stack([0, t]), minval=1e-20)
        word = tf.argmax(logits - tf.math.log(-tf.math.log(drawn)), axis=-1, output_type=tf.int32)
        word = tf.where((last == END) | (last == PAD), PAD, word)
        return t + 1, word, h, c, out.write(t, word)

    start = tf.fill([batch, rows], START)
    h, c = decoder.initial(context, rows)
    *_, out = tf.while_loop(lambda t, *_: t < length, body, (0, start, h, c, out))
    return tf.concat([start[:, :, None], tf.transpose(out.stack(), [1, 2, 0])], axis=2)


class CiderReward:
    """What captions of training images are worth: CIDEr against each image's own captions, the end token included."""

    def __init__(self, captions: Sequence[Sequence[Sequence[str]]], vocabulary: Vocabulary, brevity: bool) -> None:
        """`captions`: of each training image, tokenised. With `brevity`, a caption shorter than people's mean is worth
        less by BLEU's brevity penalty, exp(1 - mean / length): CIDEr alone makes captions short."""
        self._lengths = np.array([np.mean([len(c) for c in of_image]) for of_image in captions]) if brevity else None
        end = SPECIAL[END]
        self._words = vocabulary.words
        self._scorer = CiderScorer.of_counted([[count([*c, end]) for c in of_image] for of_image in captions])

    def __call__(self, ids: np.ndarray, images: np.ndarray) -> np.ndarray:
        """`ids` [B, N, T] as `sample` gives them, of `images` [B] → CIDEr/100, float32 [B, N]."""
        b, n, _ = ids.shape
        said = [[self._words[i] for i in row if i not in (PAD, START)] for row in ids.reshape(b * n, -1)]
        places = np.repeat(images, n)
        scores = self._scorer.of(said, [int(image) for image in places])
        if self._lengths is not None:
            words = np.array([max(len(one) - (one[-1:] == [SPECIAL[END]]), 1) for one in said])
            scores = scores * np.exp(np.minimum(0.0, 1.0 - self._lengths[places] / words))
        return (scores / 100.0).astype(np.float32).reshape(b, n)


class SelfCritical(Trainer):
    """The same decoder and step; the captions are its own, each weighed by its advantage."""

    objective = "scst"

    def __init__(self, decoder: Decoder, params: TrainParams, steps_per_epoch: int, reward: CiderReward) -> None:
        assert params.scst is not None, "params.py sees to it"
        self.scst: ScstParams = params.scst
        # Without dropout, whatever cross-entropy had: it would rate the samples by another network than the one that
        # drew them, and what that network finds unlikely is pushed down without end (docs/LOG.md).
        self.decoder, self.dropout, self.reward = decoder, 0.0, reward
        # Smoothing would pull every caption, the bad ones too, towards the uniform distribution. The captions are its
        # own: there is nothing to foretell.
        self.params = params.model_copy(update={"label_smoothing": 0.0, "bag_of_words": 0.0})
        self.epochs, self.patience = self.scst.epochs, self.scst.patience
        self._compile(schedule(self.scst.learning_rate, self.scst.warmup_steps, steps_per_epoch * self.scst.epochs))
        self._draw = tf.function(self._sample, reduce_retracing=True, autograph=False)

    def update(self, grid: np.ndarray, batch: Batch, step: int) -> tuple[float, int, float]:
        """One update. Returns the samples' mean -log p a token (nats), their tokens, and their mean reward (CIDEr)."""
        features = tf.constant(grid)
        ids = self._draw(features, tf.constant(step))
        rewards = self.reward(ids.numpy(), batch.images)
        n = rewards.shape[1]
        others = (rewards.sum(axis=1, keepdims=True) - rewards) / (n - 1)
        loss, tokens = self._step(features, ids, tf.constant(rewards - others), tf.constant(step))
        return float(loss), int(tokens), float(rewards.mean()) * 100.0

    def _loss(self, hidden: tf.Tensor, targets: tf.Tensor, taught: tf.Tensor | None) -> tf.Tensor:
        """-log p of each token in the distribution that it was drawn from.

        Over all tokens, what is never drawn would never be blamed, and would take the probability of what is.
        """
        return cross_entropy(self.decoder.softmax, hidden, targets, never=never_said(self.decoder.vocabulary))

    def _sample(self, grid: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        seed = tf.stack([tf.constant(self.params.seed, tf.int32), tf.cast(step, tf.int32) * 1000])
        context = self.decoder.image(tf.cast(grid, tf.float32))
        return sample(self.decoder, context, self.scst.samples, self.params.max_words, seed)
