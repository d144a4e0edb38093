from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from captioner.errors import BadData
from captioner.metrics import bleu, bleu_from_statistics, bleu_statistics, nltk_bleu
from tests.sentences import corpus


def test_statistics_of_one_image() -> None:
    rows = bleu_statistics(["a dog runs fast"], [["A dog runs.", "the dog runs fast today now"]])
    # matches of 1- to 4-grams, totals, words said, the closest reference's words (3 is as close as 6 is not)
    assert rows.tolist() == [[4, 3, 2, 0, 4, 3, 2, 1, 4, 3]]


def test_of_two_references_that_are_as_close_the_shorter_one_counts() -> None:
    assert bleu_statistics(["a b c d"], [["a b c d e", "a b c"]])[0, -1] == 3


def test_a_word_counts_as_often_as_one_reference_has_it() -> None:
    rows = bleu_statistics(["the the the the"], [["the cat", "the dog and the cat"]])
    assert rows[0, 0] == 2


def test_bleu_of_a_set_follows_from_the_sum_of_its_rows() -> None:
    hypotheses, references = corpus(60, seed=3)
    rows = bleu_statistics(hypotheses, references)
    some = [5, 5, 17, 30, 41, 59]  # an image may be drawn twice
    expected = nltk_bleu([hypotheses[i] for i in some], [references[i] for i in some])
    assert [float(bleu_from_statistics(rows[some].sum(axis=0), order)) for order in (1, 2, 3, 4)] == pytest.approx(
        list(expected), abs=1e-8
    )


def test_bleu_of_many_sums_at_once() -> None:
    rows = bleu_statistics(*corpus(40, seed=4))
    sums = np.stack([rows.sum(axis=0), rows[:20].sum(axis=0)])
    assert bleu_from_statistics(sums).shape == (2,)
    assert bleu_from_statistics(sums)[1] == bleu_from_statistics(sums[1])
    assert bleu_from_statistics(sums / 40) == pytest.approx(bleu_from_statistics(sums))


def test_short_captions_are_punished_and_long_ones_are_not() -> None:
    reference = [["a dog runs on the long beach"]]
    assert bleu(["a dog runs on the"], reference)[0] == pytest.approx(100 * math.exp(1 - 7 / 5))
    assert bleu(["a dog runs on the long beach today"], reference)[0] == pytest.approx(100 * 7 / 8)


@pytest.mark.parametrize(
    ("hypotheses", "references"),
    [
        (["", ""], [["a dog runs"], ["a cat sleeps"]]),
        (["a dog", ""], [["a dog runs here"], ["a cat sleeps"]]),
        (["x y z"], [["a dog runs here"]]),
        (["a dog"], [["a dog"]]),
        (["a cat dog the"], [["the dog a cat here"]]),
        (["a"], [["", "a dog"]]),
    ],
    ids=["all empty", "one empty", "no word right", "no 4-gram anywhere", "no 4-gram right", "an empty reference"],
)
def test_degenerate_captions_score_as_in_nltk_without_a_warning(
    hypotheses: list[str], references: list[list[str]]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, theirs = bleu(hypotheses, references), nltk_bleu(hypotheses, references)
    assert found == pytest.approx(theirs, abs=1e-8)
    assert found[3] == 0.0


def test_numbers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BadData, match="2 captions cannot be scored against the references of 1 images"):
        bleu(["a", "b"], [["a"]])
    with pytest.raises(BadData, match=r"2 of 3 images have no reference caption .* number 1"):
        bleu(["a", "b", "c"], [["a"], [], []])
    with pytest.raises(BadData, match="nothing to score"):
        bleu([], [])
