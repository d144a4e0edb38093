"""Mixed precision: products in a shorter format, everything else in float32, and float32 as it always was."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from captioner.model.decoder import Decoder, build_decoder
from captioner.model.precision import FORMATS, Dense, Product
from captioner.model.trained import weights_of
from captioner.model.training import Trainer
from captioner.text import END, PAD, START
from tests.tiny import decoder_params, train_params

KINDS = ("merge", "attention")
SHORT = tuple(name for name in FORMATS if name != "float32")
GRID = np.random.default_rng(0).random((2, 4, 6)).astype(np.float16)
CAPTIONS = np.array([[[START, 5, 6, 7, END]], [[START, 8, 9, END, PAD]]], np.int32)


def trainer(kind: str, precision: str, **changes: Any) -> tuple[Trainer, Decoder]:
    decoder = build_decoder(decoder_params(kind, units=16), 12, channels=6, seed=3)
    params = train_params(precision=precision, max_words=5, label_smoothing=0.0, **changes)
    return Trainer(decoder, params, dropout=0.0, steps_per_epoch=1), decoder


def steps(one: Trainer, number: int) -> list[float]:
    return [one.train(GRID, CAPTIONS, step)[0] for step in range(number)]


@pytest.mark.parametrize("precision", SHORT)
@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_two_captions_by_heart(kind: str, precision: str) -> None:
    one, decoder = trainer(kind, precision, epochs=150, learning_rate=0.03)
    losses = steps(one, 150)
    assert losses[-1] < 0.15 < losses[0]
    assert all(array.dtype == np.float32 for array in weights_of(decoder).values())
    said = one.caption(GRID)
    assert said[0, :4].tolist() == [5, 6, 7, END]
    assert said[1, :3].tolist() == [8, 9, END]


@cache
def begun(kind: str, precision: str) -> tuple[Trainer, list[float]]:
    """A training after five steps, and their losses: nobody goes on with it."""
    one, _ = trainer(kind, precision, epochs=20)
    return one, steps(one, 5)


@pytest.mark.parametrize(("precision", "apart"), [("mixed_bfloat16", 0.05), ("mixed_float16", 0.01)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_first_losses_are_those_of_float32(kind: str, precision: str, apart: float) -> None:
    (_, exact), (_, found) = begun(kind, "float32"), begun(kind, precision)
    np.testing.assert_allclose(found, exact, atol=apart, rtol=0)
    assert found != exact, "nothing was rounded"


@pytest.mark.parametrize("precision", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_only_products_are_short(kind: str, precision: str) -> None:
    """Read from the traced graph, gradients included: what is computed in which format."""
    one, _ = begun(kind, precision)
    (traced,) = one._step._list_all_concrete_functions_for_serialization()
    graph = traced.graph
    # The recurrence's loop and its gradient are functions of their own.
    functions = [graph, *(f.graph for f in graph._functions.values() if hasattr(f, "graph"))]
    found: dict[str, set[str]] = {}
    for operation in (op for function in functions for op in function.get_operations()):
        if operation.outputs:
            found.setdefault(operation.type, set()).add(operation.outputs[0].dtype.name)
    short = FORMATS[precision].name
    assert found["MatMul"] == {short}
    assert found["Softmax"] == found["Log"] == {"float32"}, "the loss"
    for kind_of_sum in ("Sigmoid", "Tanh", "Sqrt"):
        assert found.get(kind_of_sum, {"float32"}) == {"float32"}, kind_of_sum


def test_a_float16_step_that_overflows_is_left_out_and_the_scale_falls() -> None:
    one, decoder = trainer("merge", "mixed_float16")
    scale = one.optimizer.dynamic_scale
    scale.assign(1e30)
    before = weights_of(decoder)
    steps(one, 1)
    assert all((before[name] == array).all() for name, array in weights_of(decoder).items())
    assert float(scale.value) < 1e30


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (2, 1, 3, 4)])
@pytest.mark.parametrize("precision", FORMATS)
def test_a_layer_keeps_its_shapes_and_decoding_stays_exact(shape: tuple[int, ...], precision: str) -> None:
    product = Product()
    layer = Dense(product, 5, "tanh")
    layer.build((None, 4))
    layer.bias.assign(np.linspace(-1, 1, 5))
    x = tf.constant(np.random.default_rng(1).normal(size=shape), tf.float32)
    exact = layer(x)
    with product.in_format(precision):
        inside = layer(x)
    assert inside.dtype == tf.float32
    assert inside.shape == (*shape[:-1], 5)
    np.testing.assert_allclose(inside, exact, atol=0.02)
    assert product.plain
    np.testing.assert_array_equal(layer(x), exact)


def test_it_trains_on_a_gpu_where_there_is_one() -> None:
    if not tf.config.list_physical_devices("GPU"):
        pytest.skip("TensorFlow sees no GPU here")
    for precision in FORMATS:
        one, decoder = trainer("attention", precision, epochs=100, learning_rate=0.03)
        losses = steps(one, 100)
        assert losses[-1] < losses[0] / 4, precision
        assert "GPU" in decoder.softmax.kernel.value.device
