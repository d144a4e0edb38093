"""The loss and its gradients, against TensorFlow's own operations."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from captioner.model.cross_entropy import cross_entropy
from captioner.model.precision import Dense, Product

TOKENS, UNITS, WORDS = 6, 5, 9


@pytest.fixture
def softmax() -> Dense:
    layer = Dense(Product(), WORDS)
    layer.build((None, UNITS))
    draw = np.random.default_rng(0)
    layer.kernel.assign(draw.normal(0, 1, (UNITS, WORDS)))
    layer.bias.assign(draw.normal(0, 1, WORDS))
    return layer


def plainly(
    softmax: Dense,
    hidden: tf.Tensor,
    targets: tf.Tensor,
    smoothing: float,
    never: tf.Tensor,
    taught: tf.Tensor | None,
    share: float,
) -> tf.Tensor:
    labels = (1.0 - smoothing) * tf.one_hot(targets, WORDS) + smoothing / WORDS
    if taught is not None:
        labels = (1.0 - share) * labels + share * taught
    return tf.nn.softmax_cross_entropy_with_logits(labels, softmax(hidden) + never)


@pytest.mark.parametrize("share", [0.0, 0.3], ids=["people's words", "a teacher's share"])
@pytest.mark.parametrize("never", [None, 3], ids=["all words", "one word never"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("far", [1.0, 60.0], ids=["likely words", "unlikely words"])
def test_loss_and_gradients_are_tensorflows(
    softmax: Dense, smoothing: float, never: int | None, far: float, share: float
) -> None:
    draw = np.random.default_rng(1)
    hidden = tf.constant(draw.normal(0, far, (TOKENS, UNITS)), tf.float32)
    targets = tf.constant([0, 8, 8, 2, 5, 0])
    worth = tf.constant(draw.normal(0, 1, TOKENS), tf.float32)
    added = np.zeros(WORDS, np.float32)
    if never is not None:
        added[never] = -50.0  # by more, and of a smoothed loss nothing else would be seen
    taught = tf.constant(draw.dirichlet(np.ones(WORDS), TOKENS), tf.float32) if share else None
    sources = [hidden, softmax.kernel.value, softmax.bias.value]
    found = []
    for loss in (plainly, cross_entropy):
        with tf.GradientTape() as tape:
            tape.watch(hidden)
            each = loss(softmax, hidden, targets, smoothing, tf.constant(added), taught, share)
            total = tf.reduce_mean(each * worth)
        found.append([each, *tape.gradient(total, sources)])
    for wanted, own in zip(*found, strict=True):
        np.testing.assert_allclose(own, wanted, rtol=2e-5, atol=2e-5)
