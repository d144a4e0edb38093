"""CIDEr (Vedantam et al. 2015) as pycocoevalcap's `Cider` computes it: clipped, with a length penalty of sigma 6.

Document frequencies are counted over the references of the images that are scored, so a figure belongs to its test
set. The scale here is x100, the one in which papers print 50 to 60 (pycocoevalcap's 0.5 to 0.6). With a single image
every n-gram is in every document, nothing has weight, and the score is zero.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from captioner.errors import BadData
from captioner.metrics.corpus import (
    ORDERS,
    Counted,
    NGram,
    References,
    Tokens,
    count,
    count_hypotheses,
    count_references,
)

Floats = npt.NDArray[np.float64]

SIGMA = 6.0
SCALE = 1000.0
"""pycocoevalcap multiplies by 10; papers print that x100."""


@dataclass(frozen=True)
class _Vector:
    """A caption's tf-idf weights, their norm per n-gram order, and its length as pycocoevalcap has it: in bigrams."""

    weights: dict[NGram, float]
    norms: tuple[float, ...]
    bigrams: int


class CiderScorer:
    """References of a set of images, weighed once, to score any number of captions against."""

    def __init__(self, references: Sequence[Sequence[str]]) -> None:
        """Raises BadData for no images, and for an image without a reference."""
        self._prepare(count_references(references))

    @classmethod
    def of_counted(cls, references: References) -> CiderScorer:
        """The same from references that are counted already."""
        scorer = cls.__new__(cls)
        scorer._prepare(references)
        return scorer

    def __len__(self) -> int:
        return len(self._references)

    def each(self, hypotheses: Sequence[str]) -> Floats:
        """CIDEr x100 of one caption per image; their mean is the corpus's. Raises BadData on another number."""
        return self.each_counted(count_hypotheses(hypotheses, len(self)))

    def each_counted(self, hypotheses: Sequence[Counted]) -> Floats:
        """The same from captions that are counted already."""
        return np.array([self._score(said, image) for image, said in enumerate(hypotheses)], np.float64)

    def of(self, captions: Sequence[Tokens], images: Sequence[int]) -> Floats:
        """CIDEr x100 of tokenised `captions`, each against the references of the image with the number beside it.

        Any number of captions of an image, in any order. Raises BadData when the two differ in length.
        """
        if len(captions) != len(images):
            raise BadData(f"{len(captions)} captions cannot be scored for {len(images)} images.")
        scores = [self._score(count(tokens), image) for tokens, image in zip(captions, images, strict=True)]
        return np.array(scores, np.float64)

    def _prepare(self, references: References) -> None:
        documents: Counter[NGram] = Counter()
        for of_image in references:
            documents.update({gram for reference in of_image for gram in reference.grams})
        self._idf_of_unseen = math.log(len(references))
        self._idf = {gram: self._idf_of_unseen - math.log(number) for gram, number in documents.items()}
        self._references = [[self._weigh(reference) for reference in of_image] for of_image in references]

    def _weigh(self, caption: Counted) -> _Vector:
        weights: dict[NGram, float] = {}
        squares = [0.0] * ORDERS
        idf, unseen = self._idf, self._idf_of_unseen
        for gram, number in caption.grams.items():
            weight = number * idf.get(gram, unseen)
            weights[gram] = weight
            squares[len(gram) - 1] += weight * weight
        return _Vector(weights, tuple(map(math.sqrt, squares)), max(0, len(caption.tokens) - 1))

    def _score(self, caption: Counted, image: int) -> float:
        said = self._weigh(caption)
        references = self._references[image]
        return SCALE * sum(_similarity(said, meant) for meant in references) / len(references)


def cider_each(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """CIDEr x100 of each image, with the document frequencies of all. Raises BadData where the numbers do not fit."""
    return [float(value) for value in CiderScorer(references).each(hypotheses)]


def _similarity(said: _Vector, meant: _Vector) -> float:
    """The mean over the orders of the clipped cosine, times the penalty for another length."""
    overlap = [0.0] * ORDERS
    # In the caption's order: a set's would differ from process to process, and sums with it in their last bit.
    for gram, weight in said.weights.items():
        target = meant.weights.get(gram)
        if target is not None:
            overlap[len(gram) - 1] += min(weight, target) * target
    cosines = (
        value / (one * other) if one and other else value
        for value, one, other in zip(overlap, said.norms, meant.norms, strict=True)
    )
    gap = said.bigrams - meant.bigrams
    return math.exp(-(gap * gap) / (2 * SIGMA * SIGMA)) * sum(cosines) / ORDERS
