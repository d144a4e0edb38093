"""The peers compute what we compute: what each benchmark asserts before it times, on a tiny network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks.peers import keras_encoder, keras_prefixes, torch_attention
from captioner.model.beam import beam_search
from captioner.model.decoder import Decoder, build_decoder
from captioner.model.encoder import load_encoder
from captioner.model.trained import weights_of
from captioner.model.training import Trainer, encode_captions
from captioner.text import END
from tests.tiny import VOCABULARY, decoder_params, train_params

WORDS, CELLS, CHANNELS, STEPS = 8, 4, 6, 4
PARAMS = train_params(label_smoothing=0.0)
CAPTIONS = [
    [["a", "man", "runs"], ["the", "man", "in", "red"], ["a", "man"]],
    [["a", "dog", "on", "grass"], ["the", "dog", "runs", "on", "the", "grass"], ["grass"]],
    [["a", "red", "ball"], ["a", "ball", "in", "water"], ["the", "ball"]],
]

needs_torch = pytest.mark.skipif(not torch_attention.AVAILABLE, reason="PyTorch is not installed (make bench does)")


@pytest.fixture(scope="module")
def grid() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1, (3, CELLS, CHANNELS)).astype(np.float16)


@pytest.fixture(scope="module")
def captions() -> np.ndarray:
    return encode_captions(CAPTIONS, VOCABULARY, WORDS)


KINDS = {"one head and a sentinel": {}, "two heads and none": {"heads": 2, "sentinel": False}}


def decoder(kind: str, **changes: object) -> Decoder:
    return build_decoder(decoder_params(kind, dropout=0.0, **changes), len(VOCABULARY), CHANNELS, seed=3)


def losses(mine: Decoder, grid: np.ndarray, captions: np.ndarray, peer: Callable[[Decoder, Trainer], Callable]) -> None:
    """Assert that the losses of STEPS steps are equal."""
    trainer = Trainer(mine, PARAMS, dropout=0.0, steps_per_epoch=2)
    theirs = peer(mine, trainer)
    for step in range(STEPS):
        wanted = theirs(step)
        assert trainer.train(grid, captions, step)[0] == pytest.approx(wanted, rel=1e-3), step


def our_beam(mine: Decoder, grid: np.ndarray) -> list[list[int]]:
    ids, _ = beam_search(mine, mine.image(tf.cast(grid, tf.float32)), 3, WORDS, 0.7)
    return [words(row) for row in ids[:, 0].numpy()]


def words(row: np.ndarray) -> list[int]:
    found = [int(word) for word in row]
    return found[: found.index(END)] if END in found else found


def test_the_generator_of_prefixes_trains_the_same_network(grid: np.ndarray, captions: np.ndarray) -> None:
    def peer(mine: Decoder, trainer: Trainer) -> Callable[[int], float]:
        model = keras_prefixes.build(mine, WORDS, CHANNELS)
        optimizer = keras.optimizers.Adam(trainer.rate, global_clipnorm=PARAMS.clip_norm)
        model.compile(loss="categorical_crossentropy", optimizer=optimizer)

        def train(step: int) -> float:
            model.reset_metrics()
            return float(model.train_on_batch(*keras_prefixes.samples(grid, captions, WORDS, len(VOCABULARY))))

        return train

    losses(decoder("merge"), grid, captions, peer)


def test_predict_for_each_token_finds_the_same_captions(grid: np.ndarray) -> None:
    mine = decoder("merge")
    model = keras_prefixes.build(mine, WORDS, CHANNELS)
    pooled = grid.astype(np.float32).mean(axis=1)
    assert keras_prefixes.beam_search(model, pooled[1], 3, WORDS, 0.7) == our_beam(mine, grid)[1]


@needs_torch
@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
def test_the_pytorch_loop_trains_the_same_network(
    grid: np.ndarray, captions: np.ndarray, changes: dict[str, object]
) -> None:
    def peer(mine: Decoder, trainer: Trainer) -> Callable[[int], float]:
        loop = torch_attention.Loop(torch_attention.network(weights_of(mine), mine.params.heads), PARAMS.clip_norm)
        return lambda step: loop.train(grid, captions, float(trainer.rate(step)))

    losses(decoder("attention", **changes), grid, captions, peer)


@needs_torch
@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
def test_batched_pytorch_finds_the_same_captions(grid: np.ndarray, changes: dict[str, object]) -> None:
    mine = decoder("attention", **changes)
    model = torch_attention.network(weights_of(mine), mine.params.heads)
    found = torch_attention.beam_search(model, grid, 3, WORDS, 0.7)
    assert [words(row) for row in found] == our_beam(mine, grid)


def test_the_published_network_gives_the_same_features(tmp_path: Path) -> None:
    ours, theirs = load_encoder("efficientnet-lite0", "grid", None, tmp_path), keras_encoder.published_network()
    pixels = np.random.default_rng(1).uniform(0, 255, (2, 224, 224, 3)).astype(np.float32)
    wanted = theirs(pixels, training=False).numpy().reshape(2, ours.cells, ours.channels)
    np.testing.assert_allclose(ours.encode(pixels).numpy(), wanted, atol=2e-3)
