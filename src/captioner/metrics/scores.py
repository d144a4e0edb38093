"""Every score of a set of captions at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from captioner.metrics.bleu import bleu_from_statistics, statistics_of
from captioner.metrics.cider import CiderScorer
from captioner.metrics.corpus import ORDERS, tokenize_hypotheses, tokenize_references
from captioner.metrics.rouge import rouge_l


@dataclass(frozen=True)
class Scores:
    """Scores of a corpus. BLEU, CIDEr and ROUGE-L are x100."""

    images: int
    bleu_1: float
    bleu_2: float
    bleu_3: float
    bleu_4: float
    cider: float
    rouge_l: float
    brevity: float  # words said for each word of the closest references; BLEU punishes less than 1
    mean_words: float  # of a caption
    distinct: float  # different captions for each caption; near 0 when every picture gets the same one
    empty: int  # captions without a word


class Scorer:
    """References of a set of images, prepared once, for scoring each epoch's captions."""

    def __init__(self, references: Sequence[Sequence[str]]) -> None:
        """Raises BadData for no images, and for an image without a reference."""
        self._references = tokenize_references(references)
        self._cider = CiderScorer.of_tokens(self._references)

    def score(self, hypotheses: Sequence[str]) -> Scores:
        """Scores of one caption per image, in the order of the references. Raises BadData on another number."""
        said = tokenize_hypotheses(hypotheses, len(self._references))
        sums = statistics_of(said, self._references).sum(axis=0)
        one, two, three, four = (float(bleu_from_statistics(sums, order)) for order in range(1, ORDERS + 1))
        rouge = [rouge_l(tokens, references) for tokens, references in zip(said, self._references, strict=True)]
        return Scores(
            images=len(said),
            bleu_1=one,
            bleu_2=two,
            bleu_3=three,
            bleu_4=four,
            cider=float(self._cider.of(said, range(len(said))).mean()),
            rouge_l=float(np.mean(rouge)),
            brevity=float(sums[-2] / sums[-1]) if sums[-1] else 0.0,
            mean_words=float(np.mean([len(tokens) for tokens in said])),
            distinct=len({" ".join(tokens) for tokens in said}) / len(said),
            empty=sum(not tokens for tokens in said),
        )

    def cider_each(self, hypotheses: Sequence[str]) -> npt.NDArray[np.float64]:
        """CIDEr x100 of each image, [images]. Raises BadData on another number of captions than images."""
        return self._cider.each(hypotheses)


def score(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Scores:
    """Scores of one caption per image against its references. Raises BadData where the numbers do not fit.

    BLEU is nltk's definition in our own code (see `bleu.nltk_bleu` for nltk itself).
    """
    return Scorer(references).score(hypotheses)
