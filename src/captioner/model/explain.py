"""Where a decoder looked for each word of a caption: the caption is given to it again, word by word, in the graph.

Knows nothing of pictures: what it gives are weights over the cells of the grid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from captioner.model.decoder import Attention, Context, Decoder, by_head
from captioner.model.ensemble import Ensemble, Network
from captioner.model.recurrence import State
from captioner.text import START


def can_explain(decoder: Network, cells: int) -> bool:
    """Does `decoder` attend, and to more than one cell? One cell is the whole picture, whatever the weight."""
    networks = decoder.members if isinstance(decoder, Ensemble) else [decoder]
    return all(isinstance(network, Attention) for network in networks) and cells > 1


def looks(decoder: Network, context: Context, tokens: tf.Tensor, state: State) -> tf.Tensor:
    """Where ``decoder.step``, given the same, looks: the weights of the cells, [B, N, C]; the rest is the sentinel's.

    Several networks look where they look on average.
    """
    if isinstance(decoder, Ensemble):
        each = [looks(member, own, tokens, part) for member, own, part in decoder.parts(context, state)]
        return tf.reduce_mean(tf.stack(each), axis=0)
    return _last_brought(decoder, context, tokens, state)


def _last_brought(decoder: Decoder, context: Context, tokens: tf.Tensor, state: State) -> tf.Tensor:
    """The network brings its queries to the cells, and last the weights that came of them: what is asked for."""
    brought = []

    def look(query: tf.Tensor, attend: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
        brought.append(query)
        return attend(query)

    words = decoder.embedding(tokens)
    h, c = decoder.recurrence.step(decoder.inputs(decoder.per_row(context)[:, None], words), state)
    decoder.output(context, look, words, state[0], h, c)
    return tf.reduce_mean(by_head(brought[-1], decoder.params.heads), axis=-2)


def attention_over(decoder: Network, context: Context, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The weights that chose each word of `ids` [B, T]: of the cells [B, T, C], and of the sentinel [B, T].

    They are those of the step that chose the word, which saw the words before it.
    """
    batch, length = tf.unstack(tf.shape(ids))
    state = decoder.initial(context, 1)
    found = tf.TensorArray(tf.float32, length, element_shape=[None, None])

    def body(t: tf.Tensor, last: tf.Tensor, state: Any, found: tf.TensorArray) -> Any:
        found = found.write(t, looks(decoder, context, last, state)[:, 0])
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
    cells = tf.transpose(found.stack(), [1, 0, 2])
    return cells, 1.0 - tf.reduce_sum(cells, axis=-1)
