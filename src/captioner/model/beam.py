"""Beam search in the graph: one compiled loop for a whole batch, whatever the decoder. A beam of 1 is greedy search.

Two sets per image, as in tensor2tensor's search: the `beam` best unfinished captions, and the `beam` best finished ones
by log probability / length ** power, length counting the words and the end token (0 keeps the plain log probability).
An image is done when no unfinished caption can still beat its worst finished one; that bound is exact, so the
images around it in the batch change nothing. Whenever half of a batch is done, the others go on without it. A caption
that never ends is returned as it stands: there is always an answer.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import tensorflow as tf

from captioner.model.decoder import Context
from captioner.model.ensemble import Network
from captioner.model.recurrence import State
from captioner.text import END, PAD, START, UNKNOWN

NEVER = -1e9


def never_said(vocabulary: int) -> tf.Tensor:
    """What is added to logits or log probabilities [V] so that no special token but the end is ever chosen."""
    return tf.reduce_sum(tf.one_hot([PAD, START, UNKNOWN], vocabulary), axis=0) * NEVER


def without_repeats(log_words: tf.Tensor, ids: tf.Tensor, t: tf.Tensor, words: int) -> tf.Tensor:
    """Log probabilities [B, K, V] of word `t` of captions `ids` [B, K, T] which never again say `words` words in a row
    that they have said: what would complete them is forbidden. As in Paulus et al. (2017), "A Deep Reinforced Model
    for Abstractive Summarization"."""
    places = tf.shape(ids)[2] - words + 1
    begun = tf.ones_like(ids[..., :places], tf.bool)
    for i in range(words - 1):
        before = ids[..., tf.maximum(t - words + 1 + i, 0), None]
        begun &= (ids[..., i : places + i] == before) & (before != PAD)
    ends = ids[..., words - 1 :]
    # What is not said yet is padding, and that is no end of anything.
    found = tf.where(begun & (ends != PAD))
    forbidden = tf.concat([found[:, :2], tf.cast(tf.gather_nd(ends, found), tf.int64)[:, None]], axis=1)
    return tf.tensor_scatter_nd_update(log_words, forbidden, tf.fill([tf.shape(found)[0]], NEVER))


def beam_search(
    decoder: Network, context: Context, beam: tf.Tensor | int, max_words: int, length_power: float, no_repeat: int = 0
) -> tuple[tf.Tensor, tf.Tensor]:
    """The `beam` best captions of each image, best first. None says `no_repeat` words in a row twice; 0: all may.

    Returns ids [B, beam, max_words + 1] int32, padded after the end token, and log probabilities [B, beam], natural,
    summed over the words and the end token.
    """
    beam = tf.convert_to_tensor(beam, tf.int32)
    images = tf.shape(next(iter(context.values())))[0]
    length = max_words + 1
    forbidden = never_said(decoder.vocabulary)
    only_end = (1.0 - tf.one_hot(END, decoder.vocabulary)) * NEVER
    state = decoder.initial(context, beam)
    first = tf.where(tf.range(beam) == 0, 0.0, NEVER)
    alive = (
        tf.fill([images, beam, length], PAD),
        tf.fill([images, beam], START),
        tf.tile(first[None], [images, 1]),
        *state,
    )
    done = (tf.fill([images, beam, length], PAD), tf.fill([images, beam], NEVER), tf.fill([images, beam], NEVER))

    def normalised(log_probability: tf.Tensor, words: tf.Tensor) -> tf.Tensor:
        return log_probability / tf.cast(words, tf.float32) ** length_power

    def is_open(alive: Any, done: Any) -> tf.Tensor:
        return normalised(alive[2][:, 0], tf.constant(length)) > done[2][:, -1]

    def most_are_open(t: tf.Tensor, alive: Any, done: Any) -> tf.Tensor:
        there = is_open(alive, done)
        return (t < length) & (2 * tf.math.count_nonzero(there, dtype=tf.int32) > tf.size(there))

    def say(context: Context, t: tf.Tensor, alive: Any, done: Any) -> Any:
        """One more word of each caption."""
        ids, last, score, h, c = alive
        batch = tf.shape(ids)[0]
        logits, (h, c) = decoder.step(context, last, (h, c))
        log_words = tf.nn.log_softmax(logits) + forbidden + tf.where(t == max_words, only_end, 0.0)
        if 0 < no_repeat <= max_words:
            log_words = without_repeats(log_words, ids, t, no_repeat)
        # The best 2 * beam of each row suffice: at most one of a row's candidates ends it.
        wide = tf.minimum(2 * beam, decoder.vocabulary)
        best, word = tf.math.top_k(log_words, wide)
        total = tf.reshape(score[:, :, None] + best, [batch, beam * wide])
        total, flat = tf.math.top_k(total, tf.minimum(2 * beam, beam * wide))
        parent, word = flat // wide, tf.gather(tf.reshape(word, [batch, beam * wide]), flat, batch_dims=1)
        here = tf.one_hot(t, length, dtype=tf.int32)
        longer = tf.gather(ids, parent, batch_dims=1) + word[:, :, None] * here
        ends = word == END

        # An end counts when it is among the best `beam`, as a word would have to be: so a beam of 1 is greedy.
        finishes = ends & (tf.range(tf.shape(total)[1]) < beam) & (total > NEVER / 2)
        finished_score = tf.where(finishes, normalised(total, t + 1), NEVER)
        pool_score = tf.concat([done[2], finished_score], axis=1)
        pool_score, keep = tf.math.top_k(pool_score, beam)
        pool_ids = tf.gather(tf.concat([done[0], longer], axis=1), keep, batch_dims=1)
        pool_total = tf.gather(tf.concat([done[1], total], axis=1), keep, batch_dims=1)

        alive_total, keep = tf.math.top_k(tf.where(ends, NEVER, total), beam)
        rows = tf.gather(parent, keep, batch_dims=1)
        new_state: State = (tf.gather(h, rows, batch_dims=1), tf.gather(c, rows, batch_dims=1))
        new_ids = tf.gather(longer, keep, batch_dims=1)
        new_last = tf.gather(word, keep, batch_dims=1)
        return t + 1, (new_ids, new_last, alive_total, *new_state), (pool_ids, pool_total, pool_score)

    def several(tensors: Any) -> Any:
        """Any number of images and of beams."""
        return tuple(tf.TensorShape([None, None, *one.shape[2:]]) for one in tensors)

    def round_of(t: tf.Tensor, rows: tf.Tensor, alive: Any, done: Any, found: Any) -> Any:
        """Words of the images `rows`, until half of them are done; what is found of each so far."""
        here = {name: tf.gather(value, rows) for name, value in context.items()}
        shapes = (tf.TensorShape([]), several(alive), several(done))
        t, alive, done = tf.while_loop(most_are_open, partial(say, here), (t, alive, done), shape_invariants=shapes)
        found = [
            tf.tensor_scatter_nd_update(whole, rows[:, None], part) for whole, part in zip(found, done[:2], strict=True)
        ]
        rest = tf.where(is_open(alive, done))[:, 0]
        alive = tuple(tf.gather(one, rest) for one in alive)
        done = tuple(tf.gather(one, rest) for one in done)
        return t, tf.gather(rows, rest), alive, done, tuple(found)

    start = (0, tf.range(images), alive, done, done[:2])
    found = tf.while_loop(
        lambda t, rows, *_: (t < length) & (tf.size(rows) > 0),
        round_of,
        start,
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None]), several(alive), several(done), several(done[:2])),
    )[4]
    return found[0], found[1]
