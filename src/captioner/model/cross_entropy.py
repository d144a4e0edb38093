"""Softmax and cross-entropy in one, with a gradient that touches the vocabulary's P by V numbers as little as can be.

What a token's loss is worth is multiplied into the U units before or after a product instead of into the V words, and
label smoothing takes no logarithm of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from captioner.model.precision import Dense


def cross_entropy(
    softmax: Dense,
    hidden: tf.Tensor,
    targets: tf.Tensor,
    smoothing: float = 0.0,
    never: tf.Tensor | float = 0.0,
    taught: tf.Tensor | None = None,
    share: float = 0.0,
) -> tf.Tensor:
    """Cross-entropy of each token in nats, [P], for `hidden` [P, U] before the layer `softmax` and `targets` [P].

    `smoothing` is that of the labels (Szegedy et al. 2016, arXiv:1512.00567): the share of the target that all V words
    have together. `never` [V] is added to the logits. Of the whole loss `share` is against the probabilities `taught`
    [P, V] instead, through which no gradient flows. Its gradient's products are in the format that holds when it is
    traced, as those of the loss are.
    """
    own = 1.0 - share

    def each(
        hidden: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[..., tuple[tf.Tensor, ...]]]:
        logits = softmax.product(hidden, kernel) + bias
        chances = tf.nn.softmax(logits)
        # The likeliest word has at least a V-th: its logarithm is safe, where the target's might not be.
        total = tf.reduce_max(logits, axis=-1) - tf.math.log(tf.reduce_max(chances, axis=-1))
        where = tf.stack([tf.range(tf.size(targets)), targets], axis=1)
        loss = total - own * (1.0 - smoothing) * tf.gather_nd(logits, where)
        if smoothing:
            loss -= own * smoothing * tf.reduce_mean(logits, axis=-1)
        if taught is not None:
            loss -= share * tf.reduce_sum(taught * logits, axis=-1)

        def gradient(worth: tf.Tensor) -> tuple[tf.Tensor, ...]:
            # Of the logits it is `off`, each row times its worth.
            off = chances - own * smoothing / softmax.units if smoothing else chances
            if taught is not None:
                off -= share * taught
            off = tf.tensor_scatter_nd_sub(off, where, tf.fill(tf.shape(targets), own * (1.0 - smoothing)))
            of_hidden = softmax.product(off, kernel, transpose_b=True) * worth[:, None]
            of_kernel = softmax.product(tf.transpose(hidden * worth[:, None]), off)
            return of_hidden, of_kernel, softmax.product(worth[None], off)[0]

        return loss, gradient

    found: tf.Tensor = tf.custom_gradient(each)(
        hidden, tf.convert_to_tensor(softmax.kernel.value), softmax.bias.value + never
    )
    return found
