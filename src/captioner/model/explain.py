"""Where a decoder looked for each word of a caption: the caption is given to it again, word by word, in the graph.

Knows nothing of pictures: what it gives are weights over the cells of the grid. A decoder that can be asked has a
method ``looks(context, tokens, state)``, with the arguments of ``step``; the weights of several networks are for it to
average.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from captioner.model.decoder import Context
from captioner.text import START


def can_explain(decoder: Any, cells: int) -> bool:
    """Does `decoder` attend, and to more than one cell? One cell is the whole picture, whatever the weight."""
    return callable(getattr(decoder, "looks", None)) and cells > 1


def attention_over(decoder: Any, context: Context, ids: tf.Tensor) -> tf.Tensor:
    """The weights that chose each word of `ids` [B, T]: of the cells and, last, of the sentinel, [B, T, C + 1].

    They are those of the step that chose the word, which saw the words before it.
    """
    batch, length = tf.unstack(tf.shape(ids))
    state = decoder.initial(context, 1)
    found = tf.TensorArray(tf.float32, length, element_shape=[None, None])

    def body(t: tf.Tensor, last: tf.Tensor, state: Any, found: tf.TensorArray) -> Any:
        found = found.write(t, decoder.looks(context, last, state)[:, 0])
        _, state = decoder.step(context, last, state)
        return t + 1, ids[:, t, None], state, found

    start = (tf.constant(0), tf.fill([batch, 1], START), state, found)
    shapes = (
        tf.TensorShape([]),
        tf.TensorShape([None, None]),
        tf.nest.map_structure(lambda x: tf.TensorShape([None] * len(x.shape)), state),
        tf.TensorShape(None),
    )
    *_, found = tf.while_loop(lambda t, *_: t < length, body, start, shape_invariants=shapes)
    return tf.transpose(found.stack(), [1, 0, 2])
