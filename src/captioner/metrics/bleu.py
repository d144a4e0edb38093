"""Corpus BLEU (Papineni et al. 2002) without smoothing, from statistics per image that can be added up.

The statistics of an image are ten numbers: matches of 1- to 4-grams, totals of 1- to 4-grams, the hypothesis's length
and the closest reference's length (the shorter one of two that are as close). BLEU of any set of images is a function
of their sum, which is what makes an exact bootstrap cheap. The definition is nltk's `corpus_bleu`; the tests hold the
two together, and evaluation reports what nltk itself says.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from captioner.errors import BadData
from captioner.imports import without
from captioner.metrics.corpus import ORDERS, Counted, NGram, References, count_hypotheses, count_references
from captioner.text import tokenize

Floats = npt.NDArray[np.float64]
Bleu = tuple[float, float, float, float]


class BleuScorer:
    """References of a set of images, prepared once: how often each n-gram may count, and their lengths."""

    def __init__(self, references: References) -> None:
        self._most = [_most(of_image) for of_image in references]
        self._lengths = [[len(one.tokens) for one in of_image] for of_image in references]

    def statistics(self, hypotheses: Sequence[Counted]) -> Floats:
        """[images, 10]: matches of 1- to 4-grams, totals of 1- to 4-grams, hypothesis and closest reference lengths."""
        return np.array([_row(*image) for image in zip(hypotheses, self._most, self._lengths, strict=True)], np.float64)


def bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Bleu:
    """BLEU-1 to BLEU-4 of the corpus, x100. Raises BadData when hypotheses and references do not fit."""
    return bleu_of_all_orders(bleu_statistics(hypotheses, references).sum(axis=0))


def bleu_statistics(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
    """The statistics of each image, [images, 10]: see `BleuScorer.statistics`.

    Raises BadData when hypotheses and references do not fit.
    """
    counted = count_references(references)
    return BleuScorer(counted).statistics(count_hypotheses(hypotheses, len(counted)))


def bleu_of_all_orders(sums: Floats) -> Bleu:
    """BLEU-1 to BLEU-4, x100, of summed statistics [10]."""
    one, two, three, four = (float(bleu_from_statistics(sums, order)) for order in range(1, ORDERS + 1))
    return one, two, three, four


def bleu_from_statistics(sums: npt.ArrayLike, order: int = ORDERS) -> Floats:
    """BLEU x100 of summed statistics [..., 10] or of their means (only ratios count); 0 when an order has no match."""
    values = np.asarray(sums, np.float64)
    matches, totals = values[..., :order], values[..., ORDERS : ORDERS + order]
    length, closest = values[..., -2], values[..., -1]
    whole = (matches > 0).all(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.log(matches / totals).mean(axis=-1)
        penalty = np.minimum(0.0, 1.0 - closest / length)
        return np.where(whole, 100.0 * np.exp(precision + penalty), 0.0)


def nltk_bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Bleu:
    """What nltk's `corpus_bleu` says, x100: the reported figure.

    nltk gives 1e-78 in place of zero where an order has no match; it is rounded away.
    """
    # It takes half a second, so it happens here; what nltk's other parts would take along takes two more.
    with without("sklearn", "scipy", "pandas", "matplotlib"):
        from nltk.translate.bleu_score import corpus_bleu

    if len(hypotheses) != len(references):
        raise BadData(
            f"{len(hypotheses)} captions cannot be scored against the references of {len(references)} images."
        )
    said = [tokenize(caption) for caption in hypotheses]
    tokens = [[tokenize(caption) for caption in of_image] for of_image in references]
    weights = [(1.0,), (1 / 2, 1 / 2), (1 / 3, 1 / 3, 1 / 3), (1 / 4, 1 / 4, 1 / 4, 1 / 4)]
    with warnings.catch_warnings():
        # "The hypothesis contains 0 counts of 4-gram overlaps": the zero says so as well.
        warnings.simplefilter("ignore", UserWarning)
        one, two, three, four = (round(100.0 * float(value), 9) for value in corpus_bleu(tokens, said, weights))
    return one, two, three, four


def _most(references: Sequence[Counted]) -> dict[NGram, int]:
    most: dict[NGram, int] = {}
    for reference in references:
        for gram, count in reference.grams.items():
            if count > most.get(gram, 0):
                most[gram] = count
    return most


def _row(hypothesis: Counted, most: dict[NGram, int], lengths: Sequence[int]) -> list[float]:
    matches = [0] * ORDERS
    for gram, count in hypothesis.grams.items():
        matches[len(gram) - 1] += min(count, most.get(gram, 0))
    length = len(hypothesis.tokens)
    # nltk counts at least one n-gram of each order in a caption that is too short to hold any.
    totals = [max(1, length - order + 1) for order in range(1, ORDERS + 1)]
    closest = min((abs(other - length), other) for other in lengths)[1]
    return [*matches, *totals, length, closest]
