from __future__ import annotations

import math

import numpy as np
import pytest

from captioner.errors import BadData
from captioner.metrics import CiderScorer, cider_each
from captioner.text import tokenize
from tests.sentences import corpus


def test_a_caption_that_is_its_only_reference_scores_full() -> None:
    references = [["a dog runs on grass"], ["two men climb a rock"]]
    # The scale is x100 of pycocoevalcap's, which ends at 10.
    assert cider_each(["a dog runs on grass", "nothing like it"], references) == pytest.approx([1000.0, 0.0])


def test_an_example_by_hand() -> None:
    # Two images, single words: idf is log 2 for each word that one image has, 0 for "a" that both have.
    found = cider_each(["a dog", "a dog"], [["a dog"], ["a cat"]])
    # Image 1: unigrams and bigrams agree wholly, there are no 3- and 4-grams: the mean of 1, 1, 0, 0.
    assert found == pytest.approx([500.0, 0.0])


def test_the_penalty_for_another_length_is_gaussian_in_bigrams() -> None:
    references = [["dog"], ["cat"]]
    said = ["dog cat cat", "cat"]
    cosine = math.log(2) ** 2 / (math.log(2) * math.sqrt(5) * math.log(2))
    expected = 1000 * cosine / 4 * math.exp(-(2**2) / (2 * 6.0**2))
    assert cider_each(said, references)[0] == pytest.approx(expected)


def test_repeating_a_word_does_not_pay() -> None:
    references = [["dog park"], ["cat"]]
    once, thrice = (cider_each([said, "cat"], references)[0] for said in ("dog park", "dog dog dog park"))
    assert thrice < once


def test_a_single_image_has_no_document_frequencies_and_scores_zero() -> None:
    assert cider_each(["a dog"], [["a dog", "the dog"]]) == [0.0]


def test_an_empty_caption_scores_zero() -> None:
    assert cider_each(["", "a cat"], [["a dog"], ["a cat"]])[0] == 0.0


def test_a_scorer_can_be_used_again_and_for_any_image() -> None:
    hypotheses, references = corpus(50, seed=5)
    scorer = CiderScorer(references)
    first = scorer.each(hypotheses)
    assert (scorer.each(hypotheses) == first).all()
    assert len(scorer) == 50
    some = [7, 7, 31]
    assert (scorer.of([tokenize(hypotheses[i]) for i in some], some) == first[some]).all()
    assert (first == np.array(cider_each(hypotheses, references))).all()


def test_order_of_images_does_not_matter() -> None:
    hypotheses, references = corpus(30, seed=6)
    backwards = cider_each(hypotheses[::-1], references[::-1])
    assert backwards[::-1] == pytest.approx(cider_each(hypotheses, references))


def test_numbers_that_do_not_fit_are_refused() -> None:
    scorer = CiderScorer([["a dog"], ["a cat"]])
    with pytest.raises(BadData, match="1 captions cannot be scored against the references of 2 images"):
        scorer.each(["a dog"])
    with pytest.raises(BadData, match="2 captions cannot be scored for 1 images"):
        scorer.of([["a"], ["b"]], [0])
    with pytest.raises(BadData, match="no reference"):
        CiderScorer([["a dog"], []])
