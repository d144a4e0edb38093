"""ROUGE-L as pycocoevalcap's `Rouge` computes it: best precision and best recall over the references, beta 1.2."""

from __future__ import annotations

from collections.abc import Sequence

from captioner.metrics.corpus import Tokens

BETA = 1.2


def rouge_l(hypothesis: Tokens, references: Sequence[Tokens]) -> float:
    """ROUGE-L x100 of one caption (Lin and Och 2004, with the maxima taken apart as in pycocoevalcap)."""
    common = [longest_common_subsequence(hypothesis, reference) for reference in references]
    precision = max(common) / max(1, len(hypothesis))
    recall = max(length / max(1, len(reference)) for length, reference in zip(common, references, strict=True))
    if not precision or not recall:
        return 0.0
    return 100.0 * (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def longest_common_subsequence(left: Tokens, right: Tokens) -> int:
    """Its length, by the bit-parallel method of Hyyrö (2004): one big integer holds a row of the table."""
    places: dict[str, int] = {}
    for position, token in enumerate(left):
        places[token] = places.get(token, 0) | 1 << position
    full = (1 << len(left)) - 1
    row = full
    for token in right:
        hits = row & places.get(token, 0)
        row = ((row + hits) | (row - hits)) & full
    return len(left) - row.bit_count()
