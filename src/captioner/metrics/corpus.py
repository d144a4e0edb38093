"""What every score starts from: captions as tokens and n-gram counts, hypotheses beside their references.

Knows nothing of any score. Numbers of captions that do not fit are refused here, once, for all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from captioner.errors import BadData
from captioner.text import tokenize

ORDERS = 4
"""BLEU and CIDEr look at n-grams of one to this many tokens."""

Tokens = list[str]
NGram = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Counted:
    """A caption's tokens, and how often each n-gram of 1 to ORDERS tokens is in it."""

    tokens: Tokens
    grams: Counter[NGram]


References = Sequence[Sequence[Counted]]


def count(tokens: Tokens) -> Counted:
    """A tokenised caption with its n-grams."""
    grams: Counter[NGram] = Counter()
    for order in range(1, ORDERS + 1):
        grams.update(zip(*(tokens[start:] for start in range(order)), strict=False))
    return Counted(tokens, grams)


def count_references(references: Sequence[Sequence[str]]) -> References:
    """Each image's references, counted. Raises BadData for no images, and for an image without a reference."""
    if not references:
        raise BadData("There is nothing to score: no images were given.")
    bare = [number for number, of_image in enumerate(references) if not of_image]
    if bare:
        raise BadData(
            f"{len(bare)} of {len(references)} images have no reference caption to be scored against "
            f"(the first is number {bare[0]}): leave them out."
        )
    return [[count(tokenize(caption)) for caption in of_image] for of_image in references]


def count_hypotheses(hypotheses: Sequence[str], images: int) -> list[Counted]:
    """One caption per image, counted. Raises BadData when their number is not `images`."""
    if len(hypotheses) != images:
        raise BadData(f"{len(hypotheses)} captions cannot be scored against the references of {images} images.")
    return [count(tokenize(caption)) for caption in hypotheses]
