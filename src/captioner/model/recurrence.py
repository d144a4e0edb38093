"""The LSTM of every decoder, over real tokens only: they lie packed, step after step, longest caption first.

Knows nothing of images or attention. Letters as in decoder.py: B images, N rows each, R rows in all, T steps, P real
tokens, U units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from captioner.model.precision import Product

State = tuple[tf.Tensor, tf.Tensor]


@dataclass(frozen=True)
class Packing:
    """Where the real tokens of [B, N, T] lie once they are packed, step after step, longest caption first."""

    order: tf.Tensor  # [R] rows (of B * N) by falling length
    sizes: tf.Tensor  # [T] rows that are still running at each step
    image: tf.Tensor  # [P] which image each token belongs to
    flat: tf.Tensor  # [P] each token's place in the flat [B * N * T]

    @classmethod
    def of(cls, real: tf.Tensor) -> Packing:
        """`real` [B, N, T] is true where there is a token; every row's tokens come first."""
        b, n, t = tf.unstack(tf.shape(real))
        rows = tf.reshape(real, [b * n, t])
        order = tf.argsort(tf.reduce_sum(tf.cast(rows, tf.int32), axis=1), direction="DESCENDING", stable=True)
        running = tf.transpose(tf.gather(rows, order))
        where = tf.cast(tf.where(running), tf.int32)
        row = tf.gather(order, where[:, 1])
        sizes = tf.reduce_sum(tf.cast(running, tf.int32), axis=1)
        return cls(order=order, sizes=sizes, image=row // n, flat=row * t + where[:, 0])

    def pick(self, padded: tf.Tensor) -> tf.Tensor:
        """[B, N, T] → [P]."""
        return tf.gather(tf.reshape(padded, [-1]), self.flat)


class Recurrence(keras.layers.Layer):
    """An LSTM over inputs that are projected for all steps at once; only ``h @ W`` stays in the loop."""

    def __init__(self, units: int, seed: int, product: Product, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.seed = seed
        self.product = product

    def build(self, _: Any = None) -> None:
        orthogonal = keras.initializers.Orthogonal(seed=self.seed)
        self.kernel = self.add_weight(shape=(self.units, 4 * self.units), initializer=orthogonal, name="kernel")
        self.bias = self.add_weight(shape=(4 * self.units,), initializer="zeros", name="bias")
        # A forget gate that starts open (Jozefowicz et al. 2015).
        self.bias.assign(np.concatenate([np.zeros(self.units), np.ones(self.units), np.zeros(2 * self.units)]))
        self.built = True

    def step(self, inputs: tf.Tensor, state: State) -> State:
        """One step. `inputs` [..., 4U] are projected already; `state` is (h, c), each [..., U]."""
        h, c = state
        gates = inputs + self.product(h, self.kernel) + self.bias
        i, f, g, o = tf.split(gates, 4, axis=-1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        return tf.sigmoid(o) * tf.tanh(c), c

    def packed(self, inputs: tf.Tensor, state: State, packing: Packing) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """All steps over packed tokens. `inputs` [P, 4U], `state` of the rows in the packing's order [R, U].

        Returns, each [P, U]: h before the step, h and c after it.
        """
        steps = tf.shape(packing.sizes)[0]
        # Split before the loop: a slice taken in it would have a gradient of all tokens at every step.
        given = tf.TensorArray(tf.float32, steps, element_shape=[None, 4 * self.units], infer_shape=False)
        given = given.split(inputs, packing.sizes)
        outs = [
            tf.TensorArray(tf.float32, steps, element_shape=[None, self.units], infer_shape=False) for _ in range(3)
        ]

        def body(t: tf.Tensor, h: tf.Tensor, c: tf.Tensor, outs: Any) -> Any:
            size = packing.sizes[t]
            before = h[:size]
            h, c = self.step(given.read(t), (before, c[:size]))
            return t + 1, h, c, [out.write(t, x) for out, x in zip(outs, (before, h, c), strict=True)]

        any_rows = tf.TensorShape([None, self.units])
        shapes = (tf.TensorShape([]), any_rows, any_rows, [tf.TensorShape(None)] * 3)
        _, _, _, outs = tf.while_loop(lambda t, *_: t < steps, body, (0, *state, outs), shape_invariants=shapes)
        before, hs, cs = (out.concat() for out in outs)
        return before, hs, cs
