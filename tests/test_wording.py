from __future__ import annotations

import numpy as np
import pytest

from captioner.wording import LONGEST, distance, histogram, share_copied, wording


def test_a_repeated_phrase_is_found_and_a_repeated_word_is_none() -> None:
    found = wording(["a man in a blue shirt and a woman in a blue shirt", "a man and a dog", "a dog in a red hat"])
    assert found.repeated_trigram == pytest.approx(1 / 3)
    assert found.repeated_bigram == pytest.approx(1 / 3)
    assert wording(["a man in a boat in a lake"]).repeated_bigram == 1.0  # "in a … in a"
    assert wording(["a man in a boat in a lake"]).repeated_trigram == 0.0
    assert wording(["no no no"]).repeated_bigram == 1.0


def test_lengths_and_words_are_those_of_the_tokeniser() -> None:
    found = wording(["A dog 's ball.", "the dog"])
    assert found.mean_words == 3.0  # a dog 's ball, the dog
    assert found.deviation == 1.0
    assert found.different_words == 5
    assert wording(["a b c", "d e f"], one_each=["a b"]).different_words == 2


def test_copied_is_word_for_word() -> None:
    assert share_copied(["a dog runs", "a dog", "the dog", "dog the"], ["A dog runs.", "the dog"]) == 0.5


def test_the_histogram_is_of_shares_and_its_last_bar_holds_the_rest() -> None:
    found = histogram(["", "a dog", "the cat", " ".join(["a"] * 50)])
    assert len(found) == LONGEST + 1
    assert found[0] == 0.25
    assert found[2] == 0.5
    assert found[LONGEST] == 0.25
    assert sum(found) == 1.0


def test_the_distance_of_lengths_is_the_share_that_would_have_to_move() -> None:
    assert distance([0.5, 0.5, 0.0], [0.5, 0.5, 0.0]) == 0.0
    assert distance([1.0, 0.0], [0.0, 1.0]) == 1.0
    assert distance([0.5, 0.5], [0.25, 0.75]) == 0.25
    one, other = np.random.default_rng(0).dirichlet(np.ones(9), 2)
    assert distance(one, other) == distance(other, one)
