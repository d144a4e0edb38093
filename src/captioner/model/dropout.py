"""Dropout whose masks can be drawn again: by a run that was cut short and goes on. Knows nothing of networks."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


class Dropout:
    """Dropout masks that depend on a seed and a step alone, so that a resumed run draws what an unbroken one would."""

    def __init__(self, rate: float, seed: int, step: tf.Tensor) -> None:
        self.rate, self.seed, self.step, self.calls = rate, seed, step, 0

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        self.calls += 1
        if self.rate == 0:
            return x
        seed = tf.stack([tf.constant(self.seed * 1000 + self.calls, tf.int32), tf.cast(self.step, tf.int32)])
        keep = 1.0 - self.rate
        mask = tf.cast(tf.random.stateless_uniform(tf.shape(x), seed) < keep, x.dtype)
        return x * mask / keep


def no_dropout(x: tf.Tensor) -> tf.Tensor:
    """What stands for dropout wherever the network is used rather than trained."""
    return x


DropoutLike = Callable[[tf.Tensor], tf.Tensor]
