"""Matrix products in a shorter number format: what is slow on a GPU, and nothing else.

Weights, sums, gates, softmax, loss and optimizer stay float32; a product rounds its factors to the format, multiplies,
and gives float32 back, so that no layer around it has to know. Decoding and the artifact are always float32. Which
format holds is a matter of when a graph is traced: inside `Product.in_format`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

FORMATS = {"float32": tf.float32, "mixed_bfloat16": tf.bfloat16, "mixed_float16": tf.float16}
"""train.precision → the format of the products."""


class Product:
    """``a @ b`` of float32 tensors, in whatever format holds at the moment. One network's layers share one."""

    def __init__(self) -> None:
        self._format: tf.DType = tf.float32

    @property
    def plain(self) -> bool:
        return bool(self._format == tf.float32)

    def __call__(self, a: Any, b: Any, transpose_b: bool = False) -> tf.Tensor:
        """[..., I, K] and [..., K, J], or [..., J, K] with `transpose_b`, to float32 [..., I, J]."""
        if self.plain:
            return tf.matmul(a, b, transpose_b=transpose_b)
        short = tf.matmul(tf.cast(a, self._format), tf.cast(b, self._format), transpose_b=transpose_b)
        return tf.cast(short, tf.float32)

    @contextmanager
    def in_format(self, precision: str) -> Iterator[None]:
        """Products that are traced inside are computed in the format of `precision`, a key of FORMATS."""
        before, self._format = self._format, FORMATS[precision]
        try:
            yield
        finally:
            self._format = before


class Dense(keras.layers.Dense):
    """Keras' layer with its product from `product`."""

    def __init__(self, product: Product, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.product = product

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if self.product.plain:
            return super().call(inputs, training=training)
        rows = self.product(tf.reshape(inputs, [-1, inputs.shape[-1]]), self.kernel.value)
        x = tf.reshape(rows, tf.concat([tf.shape(inputs)[:-1], [self.units]], axis=0))
        x = tf.ensure_shape(x, [*inputs.shape[:-1], self.units])
        x = x + self.bias.value if self.use_bias else x
        return x if self.activation is None else self.activation(x)


def optimizer_for(precision: str, optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """`optimizer` itself, or with the loss scaled where float16's range would lose small gradients.

    A scaled step whose gradients overflow is left out and the scale halved: the optimizer sees to it.
    """
    return keras.optimizers.LossScaleOptimizer(optimizer) if precision == "mixed_float16" else optimizer
