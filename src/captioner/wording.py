"""How captions are worded, the model's against people's: their length, their variety, how often they repeat themselves.

Pure: captions in, numbers out. Knows nothing of images, models or scores.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from captioner.faults import repeats
from captioner.text import tokenize

LONGEST = 30
"""The last bar of the histogram of caption lengths holds everything that is as long or longer."""


@dataclass(frozen=True)
class Wording:
    """A set of captions without a look at what they are of. Shares are of captions."""

    mean_words: float
    deviation: float  # standard deviation of the number of words
    different_words: int
    repeated_bigram: float  # share with the same two words in a row twice, such as "in a … in a"
    repeated_trigram: float  # … three words in a row, such as "a blue shirt … a blue shirt"


def wording(captions: Sequence[str], one_each: Sequence[str] | None = None) -> Wording:
    """The wording of `captions`, at least one. Different words are counted in `one_each`, so that two sets of equally
    many captions are compared: more captions use more words."""
    tokens = [tokenize(caption) for caption in captions]
    lengths = np.array([len(one) for one in tokens], np.float64)
    counted = tokens if one_each is None else [tokenize(caption) for caption in one_each]
    return Wording(
        mean_words=float(lengths.mean()),
        deviation=float(lengths.std()),
        different_words=len({word for one in counted for word in one}),
        repeated_bigram=sum(repeats(one, 2) for one in tokens) / len(tokens),
        repeated_trigram=sum(repeats(one, 3) for one in tokens) / len(tokens),
    )


def share_copied(hypotheses: Sequence[str], training: Collection[str]) -> float:
    """The share of captions whose tokens are those of a caption in `training`."""
    known = {tuple(tokenize(caption)) for caption in training}
    return sum(tuple(tokenize(caption)) in known for caption in hypotheses) / len(hypotheses)


def histogram(captions: Sequence[str]) -> list[float]:
    """The share of captions with 0, 1, … LONGEST (or more) words."""
    counts = np.bincount([min(len(tokenize(caption)), LONGEST) for caption in captions], minlength=LONGEST + 1)
    return [float(share) for share in counts / len(captions)]


def distance(one: Sequence[float], other: Sequence[float]) -> float:
    """How far two histograms of shares are apart: 0 when they are equal, 1 when no bar is in both (total variation)."""
    return float(np.abs(np.subtract(one, other)).sum() / 2)
