"""Beam search against exhaustive search, on a decoder whose probabilities are written down."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import tensorflow as tf

from captioner.faults import repeats
from captioner.model.beam import beam_search
from captioner.text import END, PAD, START

WORDS = 7  # four special ones and three words
MAX_WORDS = 3


class Table:
    """A decoder that reads the next word's logits from a table of (image, last word)."""

    vocabulary = WORDS

    def initial(self, context, rows):
        zeros = tf.zeros([tf.shape(context["table"])[0], rows, 1])
        return zeros, zeros

    def step(self, context, tokens, state):
        return tf.gather(context["table"], tokens, batch_dims=1), state


@pytest.fixture
def tables() -> np.ndarray:
    return np.random.default_rng(5).normal(0, 2, (6, WORDS, WORDS)).astype(np.float32)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def exhaustive(table: np.ndarray, power: float, most: int = MAX_WORDS) -> list[tuple[float, float, list[int]]]:
    """Every caption of at most `most` words: (score, log probability, ids), best first."""
    found = []
    log_p = log_softmax(table)
    for length in range(most + 1):
        for words in itertools.product(range(4, WORDS), repeat=length):
            path = [START, *words, END]
            total = sum(log_p[a, b] for a, b in itertools.pairwise(path))
            found.append((total / (length + 1) ** power, total, [*words, END]))
    return sorted(found, key=lambda f: -f[0])


def search(tables: np.ndarray, beam: int, power: float):
    ids, scores = beam_search(Table(), {"table": tf.constant(tables)}, beam, MAX_WORDS, power)
    return ids.numpy(), scores.numpy()


@pytest.mark.parametrize("power", [0.0, 0.7, 1.0])
def test_a_wide_beam_finds_what_exhaustive_search_finds(tables: np.ndarray, power: float) -> None:
    ids, scores = search(tables, 27, power)
    for image, table in enumerate(tables):
        for rank, (_, total, words) in enumerate(exhaustive(table, power)[:5]):
            assert scores[image, rank] == pytest.approx(total, abs=1e-4)
            assert [i for i in ids[image, rank] if i != PAD] == words


def says_again(ids: Sequence[int], n: int) -> bool:
    return repeats([str(i) for i in ids if i not in (PAD, END)], n)


@pytest.mark.parametrize("n", [2, 3])
def test_without_repeats_it_finds_the_best_that_repeat_nothing(tables: np.ndarray, n: int) -> None:
    most, liked = 5, tables.copy()
    liked[:, :, END] -= 4.0  # long captions, so that there is something to repeat
    ids, scores = beam_search(Table(), {"table": tf.constant(liked)}, 3**most, most, 0.7, n)
    free, _ = beam_search(Table(), {"table": tf.constant(liked)}, 3**most, most, 0.7)
    assert any(says_again(best, n) for best in free.numpy()[:, 0])
    for image, table in enumerate(liked):
        wanted = [one for one in exhaustive(table, 0.7, most) if not says_again(one[2], n)]
        for rank, (_, total, _) in enumerate(wanted[:20]):
            assert scores[image, rank].numpy() == pytest.approx(total, abs=1e-4)
            # The same steps in another order are as likely.
            equal = [words for _, other, words in wanted if other == pytest.approx(total, abs=1e-4)]
            assert [i for i in ids[image, rank].numpy() if i != PAD] in equal


def test_no_caption_is_long_enough_to_repeat_more_than_it_has(tables: np.ndarray) -> None:
    ids, scores = beam_search(Table(), {"table": tf.constant(tables)}, 3, MAX_WORDS, 0.7, 10)
    usual, likely = search(tables, 3, 0.7)
    assert np.array_equal(ids, usual)
    assert np.array_equal(scores, likely)


def test_a_beam_of_one_is_greedy(tables: np.ndarray) -> None:
    ids, _ = search(tables, 1, 0.0)
    for image, table in enumerate(tables):
        last, greedy = START, []
        while last != END:
            allowed = [END] if len(greedy) == MAX_WORDS else [END, *range(4, WORDS)]
            last = max(allowed, key=lambda word: table[last, word])
            greedy.append(last)
        assert [i for i in ids[image, 0] if i != PAD] == greedy


def test_the_images_around_it_change_nothing(tables: np.ndarray) -> None:
    together, scores = search(tables, 3, 0.7)
    for image in range(len(tables)):
        alone, score = search(tables[image : image + 1], 3, 0.7)
        assert np.array_equal(alone[0], together[image])
        np.testing.assert_allclose(score[0], scores[image], atol=1e-5)


def test_images_that_are_done_leave_the_others_a_smaller_batch() -> None:
    most, tables = 12, np.random.default_rng(8).normal(0, 2, (8, WORDS, WORDS)).astype(np.float32)
    tables[:, 4:, END] = [[8.0]] * 5 + [[4.0]] * 2 + [[-50.0]]  # five stop soon, two later, one never
    asked: list[int] = []

    class Counting(Table):
        def step(self, context, tokens, state):
            asked.append(len(tokens))
            return super().step(context, tokens, state)

    ids, scores = beam_search(Counting(), {"table": tf.constant(tables)}, 3, most, 0.7)
    assert len(asked) == most + 1
    assert (asked[0], asked[-1]) == (8, 1)
    assert asked == sorted(asked, reverse=True)
    for image in range(8):
        alone, score = beam_search(Table(), {"table": tf.constant(tables[image : image + 1])}, 3, most, 0.7)
        assert np.array_equal(alone[0], ids[image])
        np.testing.assert_allclose(score[0], scores[image], atol=1e-5)


def test_there_is_always_an_answer_and_its_last_word_is_kept() -> None:
    # A network that never wants to stop: the caption is cut at the limit, with all its words.
    never = np.zeros((1, WORDS, WORDS), np.float32)
    never[:, :, END] = -50.0
    never[:, :, 4] = 5.0
    ids, scores = search(never, 2, 0.0)
    assert ids[0, 0].tolist() == [4, 4, 4, END]
    assert np.isfinite(scores).all()


def test_special_tokens_are_never_said(tables: np.ndarray) -> None:
    eager = tables.copy()
    eager[:, :, [PAD, START, 3]] = 20.0
    ids, _ = search(eager, 3, 0.7)
    for row in ids.reshape(-1, MAX_WORDS + 1):
        words = row[: list(row).index(END)]
        assert set(words) <= set(range(4, WORDS))
