"""What every score starts from: tokenised hypotheses beside their tokenised references, and n-gram counts.

Knows nothing of any score. Counts that do not fit are refused here, once, for all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from captioner.errors import BadData
from captioner.text import tokenize

ORDERS = 4
"""BLEU and CIDEr look at n-grams of one to this many tokens."""

Tokens = list[str]
NGram = tuple[str, ...]


def tokenize_references(references: Sequence[Sequence[str]]) -> list[list[Tokens]]:
    """The tokens of each image's references. Raises BadData for no images, and for an image without a reference."""
    if not references:
        raise BadData("There is nothing to score: no images were given.")
    bare = [number for number, of_image in enumerate(references) if not of_image]
    if bare:
        raise BadData(
            f"{len(bare)} of {len(references)} images have no reference caption to be scored against "
            f"(the first is number {bare[0]}): leave them out."
        )
    return [[tokenize(caption) for caption in of_image] for of_image in references]


def tokenize_hypotheses(hypotheses: Sequence[str], images: int) -> list[Tokens]:
    """The tokens of one caption per image. Raises BadData when their number is not `images`."""
    if len(hypotheses) != images:
        raise BadData(f"{len(hypotheses)} captions cannot be scored against the references of {images} images.")
    return [tokenize(caption) for caption in hypotheses]


def count_ngrams(tokens: Sequence[str], orders: int = ORDERS) -> Counter[NGram]:
    """How often each n-gram of 1 to `orders` tokens occurs in one caption."""
    grams: Counter[NGram] = Counter()
    for order in range(1, orders + 1):
        grams.update(zip(*(tokens[start:] for start in range(order)), strict=False))
    return grams
