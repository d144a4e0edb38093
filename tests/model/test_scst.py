"""Self-critical training: what is drawn, what it is worth, and that it raises the reward."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from captioner.metrics.cider import cider_each
from captioner.model.decoder import build_decoder
from captioner.model.scst import CiderReward, SelfCritical, sample
from captioner.model.trained import load_weights, weights_of
from captioner.model.training import Batch, Trainer
from captioner.params import DecoderParams
from captioner.text import END, PAD, START, UNKNOWN
from tests.tiny import VOCABULARY, train_params

CAPTIONS = [
    [["a", "man", "runs", "on", "grass"], ["the", "man", "runs"]],
    [["a", "red", "ball", "in", "water"], ["the", "ball"]],
    [["a", "dog", "on", "grass"], ["the", "dog", "runs"]],
]
SCST = {"epochs": 60, "learning_rate": 0.01, "warmup_steps": 1, "samples": 6, "patience": 60}


@pytest.fixture
def grid() -> np.ndarray:
    return np.random.default_rng(0).random((3, 4, 6)).astype(np.float16)


@pytest.fixture
def decoder():
    return build_decoder(
        DecoderParams(kind="attention", units=16, embedding=8, dropout=0.0), len(VOCABULARY), channels=6, seed=3
    )


def draw(decoder, grid: np.ndarray, seed: int, rows: int = 4) -> np.ndarray:
    context = decoder.image(tf.cast(grid, tf.float32))
    return sample(decoder, context, rows, 6, tf.constant([seed, 0])).numpy()


def test_captions_are_drawn_from_start_to_end_and_padded(decoder, grid: np.ndarray) -> None:
    ids = draw(decoder, grid, 1, rows=50)
    assert ids.shape == (3, 50, 8)
    for row in ids.reshape(-1, 8):
        assert row[0] == START
        words = row[1:].tolist()
        end = words.index(END)
        assert not {PAD, START, UNKNOWN} & set(words[:end])
        assert set(words[end + 1 :]) <= {PAD}


def test_a_seed_decides_what_is_drawn(decoder, grid: np.ndarray) -> None:
    assert draw(decoder, grid, 1).tolist() == draw(decoder, grid, 1).tolist()
    assert draw(decoder, grid, 1).tolist() != draw(decoder, grid, 2).tolist()


def test_words_are_drawn_as_often_as_the_network_says(decoder, grid: np.ndarray) -> None:
    first = draw(decoder, grid[:1], 7, rows=4000)[0, :, 1]
    context = decoder.image(tf.cast(grid[:1], tf.float32))
    logits = decoder.step(context, tf.constant([[START]]), decoder.initial(context, 1))[0][0, 0].numpy()
    logits[[PAD, START, UNKNOWN]] = -np.inf
    expected = np.exp(logits - logits.max())
    expected /= expected.sum()
    found = np.bincount(first, minlength=len(expected)) / len(first)
    np.testing.assert_allclose(found, expected, atol=0.04)


def test_the_reward_is_cider_with_the_end_as_a_word() -> None:
    reward = CiderReward(CAPTIONS, VOCABULARY, brevity=False)
    said = ["a man runs on grass", "a red ball in water", "the dog"]
    ids = np.full((3, 2, 8), PAD)
    for i, caption in enumerate(said):
        encoded = VOCABULARY.encode(caption.split(), 6)
        ids[i, :, : len(encoded)] = encoded
    with_end = [[" ".join([*c, "end"]) for c in of_image] for of_image in CAPTIONS]
    expected = cider_each([f"{caption} end" for caption in said], with_end)
    np.testing.assert_allclose(reward(ids, np.arange(3)), np.repeat(np.array(expected)[:, None] / 100, 2, 1), rtol=1e-5)


def test_breaking_off_is_worth_less_than_ending() -> None:
    reward = CiderReward(CAPTIONS, VOCABULARY, brevity=False)
    whole = VOCABULARY.encode(["a", "man", "runs", "on", "grass"], 6)
    ids = np.full((1, 2, 8), PAD)
    ids[0, 0, : len(whole)] = whole
    ids[0, 1, : len(whole) - 1] = [*whole[:-2], END]
    scores = reward(ids, np.array([0]))
    assert scores[0, 0] > scores[0, 1]


def test_with_brevity_a_short_caption_is_worth_less_and_a_long_one_as_much() -> None:
    plain, punished = (CiderReward(CAPTIONS, VOCABULARY, brevity=brevity) for brevity in (False, True))
    ids = np.full((1, 2, 8), PAD)
    for i, caption in enumerate(("a man", "a man runs on the grass")):
        encoded = VOCABULARY.encode(caption.split(), 6)
        ids[0, i, : len(encoded)] = encoded
    before, after = plain(ids, np.array([0]))[0], punished(ids, np.array([0]))[0]
    assert after[0] == pytest.approx(before[0] * np.exp(1 - 4 / 2))  # people's captions have five and three words
    assert after[1] == before[1]


def test_what_only_peoples_captions_can_teach_is_left_out(decoder, grid: np.ndarray) -> None:
    start = weights_of(decoder)
    batch = Batch(np.arange(3), np.zeros((3, 1, 8), np.int32), np.arange(3))

    def learned(**changes: float) -> dict[str, np.ndarray]:
        load_weights(decoder, start, "the start")
        params = train_params(objective="scst", scst=SCST, max_words=6, **changes)
        trainer = SelfCritical(decoder, params, 1, CiderReward(CAPTIONS, VOCABULARY, brevity=False))
        for step in range(2):  # the first step's rate is zero
            trainer.update(grid, batch, step)
        return weights_of(decoder)

    plain, changed = learned(label_smoothing=0.0), learned(label_smoothing=0.1, bag_of_words=1.0)
    assert all(np.array_equal(plain[name], changed[name]) for name in plain)
    assert any(not np.array_equal(plain[name], start[name]) for name in plain)


def test_it_raises_the_reward(decoder, grid: np.ndarray) -> None:
    params = train_params(objective="scst", scst=SCST, max_words=6)
    encoded = np.full((3, 2, 8), PAD, np.int32)
    for i, of_image in enumerate(CAPTIONS):
        for j, caption in enumerate(of_image):
            ids = VOCABULARY.encode(caption, 6)
            encoded[i, j, : len(ids)] = ids
    batch = Batch(np.arange(3), encoded, np.arange(3))
    first = Trainer(decoder, train_params(learning_rate=0.02, epochs=20), 0.0, 1)
    for step in range(20):
        first.update(grid, batch, step)
    trainer = SelfCritical(decoder, params, 1, CiderReward(CAPTIONS, VOCABULARY, brevity=False))
    rewards = [trainer.update(grid, batch, step)[2] for step in range(60)]
    assert np.mean(rewards[-10:]) > 1.3 * np.mean(rewards[:10])
