"""Every score of a set of captions at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from captioner.metrics.bleu import BleuScorer, bleu_of_all_orders
from captioner.metrics.cider import CiderScorer
from captioner.metrics.corpus import Counted, count_hypotheses, count_references
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
    """References of a set of images, prepared once, for scoring each epoch's captions or several models'."""

    def __init__(self, references: Sequence[Sequence[str]]) -> None:
        """Raises BadData for no images, and for an image without a reference."""
        self._references = count_references(references)
        self._bleu = BleuScorer(self._references)
        self._cider = CiderScorer.of_counted(self._references)

    def score(self, hypotheses: Sequence[str]) -> Scores:
        """Scores of one caption per image, in the order of the references. Raises BadData on another number."""
        said = count_hypotheses(hypotheses, len(self._references))
        sums = self._bleu.statistics(said).sum(axis=0)
        one, two, three, four = bleu_of_all_orders(sums)
        return Scores(
            images=len(said),
            bleu_1=one,
            bleu_2=two,
            bleu_3=three,
            bleu_4=four,
            cider=float(self._cider.each_counted(said).mean()),
            rouge_l=float(np.mean([self._rouge(caption, image) for image, caption in enumerate(said)])),
            brevity=float(sums[-2] / sums[-1]) if sums[-1] else 0.0,
            mean_words=float(np.mean([len(caption.tokens) for caption in said])),
            distinct=len({tuple(caption.tokens) for caption in said}) / len(said),
            empty=sum(not caption.tokens for caption in said),
        )

    def cider_each(self, hypotheses: Sequence[str]) -> npt.NDArray[np.float64]:
        """CIDEr x100 of each image, [images]. Raises BadData on another number of captions than images."""
        return self._cider.each(hypotheses)

    def bleu_statistics(self, hypotheses: Sequence[str]) -> npt.NDArray[np.float64]:
        """The statistics of each image, [images, 10]: see `bleu.BleuScorer`. Raises BadData on another number."""
        return self._bleu.statistics(count_hypotheses(hypotheses, len(self._references)))

    def _rouge(self, caption: Counted, image: int) -> float:
        return rouge_l(caption.tokens, [reference.tokens for reference in self._references[image]])


def score(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Scores:
    """Scores of one caption per image against its references. Raises BadData where the numbers do not fit.

    BLEU is nltk's definition in our own code (see `bleu.nltk_bleu` for nltk itself).
    """
    return Scorer(references).score(hypotheses)
