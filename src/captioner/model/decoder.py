"""The decoders: from an image's features to words. Knows nothing of files, strings or training data.

Both are one LSTM whose input is hoisted out of the recurrence; they differ in what the image adds to it:

- ``merge``, the seed's network: the pooled image vector is added to every word's embedding; the hidden state goes to
  the softmax.
- ``attention``: the hidden state attends over the grid's cells and over a visual sentinel, so that the network can
  also look away from the image (Lu et al. 2017, "Knowing When to Look", arXiv:1612.01887, with scaled dot products).
  Attention does not feed back into the recurrence, so in training it is one matrix product over all steps.

Shapes: B images, N rows per image (its captions in training, its beams in decoding), T steps, V words, U units, and
C cells of D channels each. Images are projected once and shared by their N rows. Training sees real tokens only: the P
of them lie packed, step after step, longest caption first, so that no product is spent on padding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import keras
import tensorflow as tf

from captioner.model.dropout import DropoutLike, no_dropout
from captioner.model.precision import Dense, Product
from captioner.model.recurrence import Packing, Recurrence, State
from captioner.params import DecoderParams

Context = dict[str, tf.Tensor]


class Look(Protocol):
    """Brings queries to their images' cells, [B, M, ...], for one product, and its result back."""

    def __call__(self, query: tf.Tensor, attend: Callable[[tf.Tensor], tf.Tensor], /) -> tf.Tensor: ...


class Decoder(keras.Model):
    """What the two networks share: embedding, recurrence and softmax."""

    def __init__(self, params: DecoderParams, vocabulary: int, channels: int, seed: int) -> None:
        # Members of an ensemble lie in one SavedModel, which tells its variables apart by their names.
        super().__init__(name=params.kind if params.members == 1 else f"{params.kind}_{seed}")
        self.params, self.vocabulary, self.channels, self.seed = params, vocabulary, channels, seed
        self.product = Product()
        glorot = [keras.initializers.GlorotUniform(seed=seed * 100 + i) for i in range(12)]
        self.initializers = glorot
        self.embedding = keras.layers.Embedding(
            vocabulary,
            params.embedding,
            embeddings_initializer=keras.initializers.RandomNormal(stddev=0.5, seed=seed),
            name="embedding",
        )
        dense, units = partial(Dense, self.product), params.units
        self.word_gates = dense(4 * units, use_bias=False, kernel_initializer=glorot[0], name="word_gates")
        self.recurrence = Recurrence(units, seed, self.product, name="recurrence")
        self.softmax = dense(vocabulary, kernel_initializer=glorot[1], name="softmax")

    @property
    def state_size(self) -> int:
        """Numbers in each of h and c."""
        return self.params.units

    def build(self, _: Any = None) -> None:
        units, embedding = self.params.units, self.params.embedding
        self.embedding.build((None,))
        self.word_gates.build((None, embedding))
        self.recurrence.build()
        self.softmax.build((None, units))
        self.built = True

    def image(self, grid: tf.Tensor, drop: DropoutLike = no_dropout) -> Context:
        """What the rows of an image share. `grid` [B, C, D]; every tensor in the result starts with B."""
        raise NotImplementedError

    def initial(self, context: Context, rows: tf.Tensor | int) -> State:
        """The state before the first word, [B, rows, U] twice."""
        raise NotImplementedError

    def inputs(self, image: tf.Tensor, words: tf.Tensor) -> tf.Tensor:
        """Projected inputs of the recurrence [..., 4U], for embedded `words` [..., E] and what `per_row` gave."""
        raise NotImplementedError

    def per_row(self, context: Context) -> tf.Tensor:
        """The part of the context that `inputs` adds to every word, [B, ...]."""
        raise NotImplementedError

    def output(
        self, context: Context, look: Look, words: tf.Tensor, before: tf.Tensor, h: tf.Tensor, c: tf.Tensor
    ) -> tf.Tensor:
        """What the softmax sees, [..., U]; `before` is h one step earlier, `look` how queries reach their images."""
        raise NotImplementedError

    def gist(self, context: Context) -> tf.Tensor:
        """What the softmax sees of an image by itself, before any word, [B, U]. Training's; decoding never asks."""
        raise NotImplementedError

    def hidden(
        self, context: Context, tokens: tf.Tensor, packing: Packing, drop: DropoutLike = no_dropout
    ) -> tf.Tensor:
        """Teacher forcing on whole sequences: what the softmax sees of each real token, packed [P, U]."""
        b, n, t = tf.unstack(tf.shape(tokens))
        words = drop(self.embedding(packing.pick(tokens)))
        inputs = self.inputs(tf.gather(self.per_row(context), packing.image), words)
        h, c = (tf.gather(tf.reshape(x, [b * n, self.params.units]), packing.order) for x in self.initial(context, n))
        before, hs, cs = self.recurrence.packed(inputs, (h, c), packing)

        def look(query: tf.Tensor, attend: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
            # Attention is a product per image: the packed queries go back to their images for it.
            padded = tf.scatter_nd(packing.flat[:, None], query, [b * n * t, query.shape[-1]])
            found = attend(tf.reshape(padded, [b, n * t, query.shape[-1]]))
            return tf.gather(tf.reshape(found, [b * n * t, found.shape[-1]]), packing.flat)

        return drop(self.output(context, look, words, before, hs, cs))

    def step(self, context: Context, tokens: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
        """One decoding step: logits [B, N, V] and the new state, for `tokens` [B, N]."""
        words = self.embedding(tokens)
        h, c = self.recurrence.step(self.inputs(self.per_row(context)[:, None], words), state)
        out = self.output(context, lambda query, attend: attend(query), words, state[0], h, c)
        return self.softmax(out), (h, c)


class Merge(Decoder):
    """The seed's network: Dense(image) + embedding → LSTM → softmax."""

    def __init__(self, params: DecoderParams, vocabulary: int, channels: int, seed: int) -> None:
        super().__init__(params, vocabulary, channels, seed)
        init = self.initializers[2]
        self.project = Dense(self.product, params.embedding, "relu", kernel_initializer=init, name="project")

    def build(self, _: Any = None) -> None:
        self.project.build((None, self.channels))
        super().build()

    def image(self, grid: tf.Tensor, drop: DropoutLike = no_dropout) -> Context:
        return {"image": self.project(drop(tf.reduce_mean(grid, axis=1)))}

    def initial(self, context: Context, rows: tf.Tensor | int) -> State:
        zeros = tf.zeros([tf.shape(context["image"])[0], rows, self.params.units])
        return zeros, zeros

    def per_row(self, context: Context) -> tf.Tensor:
        return context["image"]

    def inputs(self, image: tf.Tensor, words: tf.Tensor) -> tf.Tensor:
        return self.word_gates(words + image)

    def output(
        self, context: Context, look: Look, words: tf.Tensor, before: tf.Tensor, h: tf.Tensor, c: tf.Tensor
    ) -> tf.Tensor:
        return h

    def gist(self, context: Context) -> tf.Tensor:
        h, _ = self.recurrence.step(self.word_gates(context["image"])[:, None], self.initial(context, 1))
        return h[:, 0]


class Attention(Decoder):
    """LSTM with spatial attention of one or more heads (Vaswani et al. 2017), with or without a visual sentinel."""

    def __init__(self, params: DecoderParams, vocabulary: int, channels: int, seed: int) -> None:
        super().__init__(params, vocabulary, channels, seed)
        units, init = params.units, self.initializers

        def dense(size: int, i: int, name: str, activation: str | None = None, bias: bool = True) -> Any:
            return Dense(self.product, size, activation, bias, kernel_initializer=init[i], name=name)

        self.values = dense(units, 2, "values", "relu")
        self.keys = dense(units, 3, "keys", bias=False)
        self.query = dense(units, 4, "query", bias=False)
        self.image_gates = dense(4 * units, 5, "image_gates", bias=False)
        self.start = dense(2 * units, 6, "start", "tanh")
        if params.sentinel:
            self.sentinel_gate = dense(units, 7, "sentinel_gate")
            self.sentinel_input = dense(units, 8, "sentinel_input", bias=False)
            self.sentinel_key = dense(units, 9, "sentinel_key", bias=False)
        self.join = dense(units, 10, "join", "tanh")

    def build(self, _: Any = None) -> None:
        units = self.params.units
        self.values.build((None, self.channels))
        for layer in (self.keys, self.query, self.image_gates, self.start):
            layer.build((None, units))
        if self.params.sentinel:
            self.sentinel_gate.build((None, units))
            self.sentinel_key.build((None, units))
            self.sentinel_input.build((None, self.params.embedding))
        self.join.build((None, 2 * units))
        super().build()

    def image(self, grid: tf.Tensor, drop: DropoutLike = no_dropout) -> Context:
        values = self.values(drop(grid))
        mean = tf.reduce_mean(values, axis=1)
        return {
            "values": values,
            "keys": self.keys(values),
            "gates": self.image_gates(mean),
            "start": self.start(mean),
        }

    def initial(self, context: Context, rows: tf.Tensor | int) -> State:
        start = tf.repeat(context["start"][:, None], rows, axis=1)
        h, c = tf.split(start, 2, axis=-1)
        return h, c

    def per_row(self, context: Context) -> tf.Tensor:
        return context["gates"]

    def inputs(self, image: tf.Tensor, words: tf.Tensor) -> tf.Tensor:
        return self.word_gates(words) + image

    def output(
        self, context: Context, look: Look, words: tf.Tensor, before: tf.Tensor, h: tf.Tensor, c: tf.Tensor
    ) -> tf.Tensor:
        heads = self.params.heads
        query = self.query(h) * float(self.params.units // heads) ** -0.5
        scores = by_head(look(query, lambda q: self._attend(q, context["keys"], transpose_b=True)), heads)
        if self.params.sentinel:
            sentinel = tf.sigmoid(self.sentinel_gate(before) + self.sentinel_input(words)) * tf.tanh(c)
            own = tf.reduce_sum(by_head(query * self.sentinel_key(sentinel), heads), axis=-1, keepdims=True)
            weights = tf.nn.softmax(tf.concat([scores, own], axis=-1))
            seen = self._seen(context, look, weights[..., :-1])
            seen += _flat(weights[..., -1:] * by_head(sentinel, heads))
        else:
            seen = self._seen(context, look, tf.nn.softmax(scores))
        return self.join(tf.concat([seen, h], axis=-1))

    def gist(self, context: Context) -> tf.Tensor:
        h, _ = tf.split(context["start"], 2, axis=-1)
        return self.join(tf.concat([tf.reduce_mean(context["values"], axis=1), h], axis=-1))

    def _seen(self, context: Context, look: Look, weights: tf.Tensor) -> tf.Tensor:
        """The cells' mean [..., U] under each head's `weights` [..., H, C]."""
        return look(_flat(weights), lambda w: self._attend(w, context["values"]))

    def _attend(self, rows: tf.Tensor, cells: tf.Tensor, transpose_b: bool = False) -> tf.Tensor:
        """Each head's part of `rows` [B, M, H * X] times its part of `cells` [B, C, U]: [B, M, H * Y]."""
        if self.params.heads == 1:
            return self.product(rows, cells, transpose_b=transpose_b)
        rows, cells = (tf.transpose(by_head(x, self.params.heads), [0, 2, 1, 3]) for x in (rows, cells))
        return _flat(tf.transpose(self.product(rows, cells, transpose_b=transpose_b), [0, 2, 1, 3]))


def by_head(x: tf.Tensor, heads: int) -> tf.Tensor:
    """[..., H * X] → [..., H, X]."""
    return tf.reshape(x, tf.concat([tf.shape(x)[:-1], [heads, x.shape[-1] // heads]], axis=0))


def _flat(x: tf.Tensor) -> tf.Tensor:
    """[..., H, X] → [..., H * X]."""
    return tf.reshape(x, tf.concat([tf.shape(x)[:-2], [x.shape[-2] * x.shape[-1]]], axis=0))


DECODERS: dict[str, type[Decoder]] = {"merge": Merge, "attention": Attention}


def build_decoder(params: DecoderParams, vocabulary: int, channels: int, seed: int = 0) -> Decoder:
    """A decoder with its weights initialised by `seed`."""
    decoder = DECODERS[params.kind](params, vocabulary, channels, seed)
    decoder.build()
    return decoder
