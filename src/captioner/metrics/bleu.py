"""Corpus BLEU (Papineni et al. 2002) without smoothing, from statistics per image that can be added up.

The statistics of an image are ten numbers: matches of 1- to 4-grams, totals of 1- to 4-grams, the hypothesis's length
and the closest reference's length (the shorter one of two that are as close). BLEU of any set of images is a function
of their sum, which is what makes an exact bootstrap cheap. The definition is nltk's `corpus_bleu`; the tests hold the
two together, and evaluation reports what nltk itself says.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from captioner.metrics.corpus import ORDERS, NGram, Tokens, count_ngrams, tokenize_hypotheses, tokenize_references

Floats = npt.NDArray[np.float64]
Bleu = tuple[float, float, float, float]

WIDTH = 2 * ORDERS + 2


def bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Bleu:
    """BLEU-1 to BLEU-4 of the corpus, x100. Raises BadData when hypotheses and references do not fit."""
    sums = bleu_statistics(hypotheses, references).sum(axis=0)
    one, two, three, four = (float(bleu_from_statistics(sums, order)) for order in range(1, ORDERS + 1))
    return one, two, three, four


def bleu_statistics(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
    """[images, 10]: matches of 1- to 4-grams, totals of 1- to 4-grams, hypothesis length, closest reference length.

    Raises BadData when hypotheses and references do not fit.
    """
    tokens = tokenize_references(references)
    return statistics_of(tokenize_hypotheses(hypotheses, len(tokens)), tokens)


def statistics_of(hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> Floats:
    """The same, from tokens."""
    return np.array([_row(hypothesis, refs) for hypothesis, refs in zip(hypotheses, references, strict=True)])


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
    """What nltk's `corpus_bleu` says, x100: the reported figure. Its import takes seconds, so it happens here.

    nltk gives 1e-78 in place of zero where an order has no match; it is rounded away.
    """
    from nltk.translate.bleu_score import corpus_bleu

    tokens = tokenize_references(references)
    said = tokenize_hypotheses(hypotheses, len(tokens))
    weights = [(1.0,), (1 / 2, 1 / 2), (1 / 3, 1 / 3, 1 / 3), (1 / 4, 1 / 4, 1 / 4, 1 / 4)]
    with warnings.catch_warnings():
        # "The hypothesis contains 0 counts of 4-gram overlaps": the zero says so as well.
        warnings.simplefilter("ignore", UserWarning)
        one, two, three, four = (round(100.0 * float(value), 9) for value in corpus_bleu(tokens, said, weights))
    return one, two, three, four


def _row(hypothesis: Tokens, references: Sequence[Tokens]) -> list[float]:
    most: dict[NGram, int] = {}
    for reference in references:
        for gram, count in count_ngrams(reference).items():
            most[gram] = max(most.get(gram, 0), count)
    matches: Counter[int] = Counter()
    for gram, count in count_ngrams(hypothesis).items():
        matches[len(gram)] += min(count, most.get(gram, 0))
    length = len(hypothesis)
    # nltk counts at least one n-gram of each order in a caption that is too short to hold any.
    totals = [max(1, length - order + 1) for order in range(1, ORDERS + 1)]
    closest = min((abs(len(reference) - length), len(reference)) for reference in references)[1]
    return [*(matches[order] for order in range(1, ORDERS + 1)), *totals, length, closest]
