"""Where a decoder looked: the weights of the very steps that chose the words, in the graph and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from captioner.model.decoder import build_decoder
from captioner.model.ensemble import Ensemble
from captioner.model.explain import attention_over, can_explain
from captioner.text import START
from tests.tiny import META, VOCABULARY, decoder_params

IDS = np.array([[4, 8, 9, 10], [6, 7, 5, 4]], np.int32)


@pytest.fixture(scope="module")
def grid() -> tf.Tensor:
    return tf.constant(np.random.default_rng(3).normal(size=(2, META.cells, META.channels)), tf.float32)


def decoder_of(kind: str, seed: int = 1):
    return build_decoder(decoder_params(kind), len(VOCABULARY), META.channels, seed)


def by_hand(decoder, grid: tf.Tensor, ids: np.ndarray) -> np.ndarray:
    """The attention's formula, step by step, for one image: [T, cells + 1]."""
    context = decoder.image(grid)
    h, c = decoder.initial(context, 1)
    rows, last = [], START
    for token in ids:
        words = decoder.embedding(tf.constant([[last]]))
        before = h
        h, c = decoder.recurrence.step(decoder.inputs(decoder.per_row(context)[:, None], words), (h, c))
        gate = tf.sigmoid(decoder.sentinel_gate(before) + decoder.sentinel_input(words))
        sentinel = gate * tf.tanh(c)
        query = decoder.query(h)[0, 0].numpy()
        keys = np.vstack([context["keys"][0].numpy(), decoder.sentinel_key(sentinel)[0, 0].numpy()])
        scores = keys @ query / np.sqrt(decoder.params.units)
        rows.append(np.exp(scores) / np.exp(scores).sum())
        last = int(token)
    return np.array(rows)


def test_the_weights_are_those_that_the_formula_gives(grid: tf.Tensor) -> None:
    decoder = decoder_of("attention")
    cells, sentinel = attention_over(decoder, decoder.image(grid), tf.constant(IDS))
    assert cells.shape == (2, 4, META.cells)
    found = np.concatenate([cells, sentinel[..., None]], axis=-1)
    for image in range(2):
        np.testing.assert_allclose(found[image], by_hand(decoder, grid[image : image + 1], IDS[image]), atol=1e-6)


def test_several_networks_look_where_they_look_on_average(grid: tf.Tensor) -> None:
    members = [decoder_of("attention", seed) for seed in (1, 2, 3)]
    together = Ensemble(members)
    found = attention_over(together, together.image(grid), tf.constant(IDS))
    alone = [attention_over(member, member.image(grid), tf.constant(IDS)) for member in members]
    for part in (0, 1):
        np.testing.assert_allclose(found[part], np.mean([one[part] for one in alone], axis=0), atol=1e-6)
    assert not np.allclose(alone[0][0], alone[1][0])


def test_it_is_the_same_in_a_graph_whose_sizes_are_not_known(grid: tf.Tensor) -> None:
    decoder = decoder_of("attention")

    @tf.function(
        input_signature=[tf.TensorSpec([None, META.cells, META.channels]), tf.TensorSpec([None, None], tf.int32)]
    )
    def graph(grid: tf.Tensor, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return attention_over(decoder, decoder.image(grid), ids)

    eager = attention_over(decoder, decoder.image(grid), tf.constant(IDS))
    for found, expected in zip(graph(grid, tf.constant(IDS)), eager, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_only_a_decoder_that_attends_to_several_cells_can_explain() -> None:
    assert can_explain(decoder_of("attention"), cells=49)
    assert not can_explain(decoder_of("attention"), cells=1)
    assert not can_explain(decoder_of("merge"), cells=49)
    assert can_explain(Ensemble([decoder_of("attention", seed) for seed in (1, 2)]), cells=49)
    assert not can_explain(Ensemble([decoder_of("merge", seed) for seed in (1, 2)]), cells=49)
