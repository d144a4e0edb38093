"""Is one model worse than another? The paired bootstrap over images (Koehn 2004), exact for corpus scores as well.

What is resampled is a row of numbers per image: one column for a score that is a mean over the images (CIDEr), the ten
sufficient statistics for BLEU (`bleu_statistics`). A resample is a weight per image, so all of them together are one
matrix product. Knows nothing of models, gates or files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from captioner.errors import BadData
from captioner.metrics import bleu_from_statistics, bleu_statistics

__all__ = [
    "Interval",
    "bleu_from_statistics",
    "bleu_statistics",
    "mean_score",
    "non_inferior",
    "paired_bootstrap",
]

Floats = npt.NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""From the mean of the rows, [..., columns], to the score, [...]. `bleu_from_statistics` is one."""

_BLOCK = 4_000_000
"""Weights held at a time: 32 MB."""


@dataclass(frozen=True)
class Interval:
    """Challenger minus champion, in points of the score, and the bootstrap interval around it."""

    champion: float
    challenger: float
    difference: float
    low: float
    high: float
    confidence: float
    images: int
    resamples: int


def mean_score(means: Floats) -> Floats:
    """The score that is a mean over the images: the only column."""
    if means.shape[-1] != 1:
        raise ValueError(f"a mean score has one column, not {means.shape[-1]}")
    return means[..., 0]


def paired_bootstrap(
    champion: npt.ArrayLike,
    challenger: npt.ArrayLike,
    statistic: Statistic = mean_score,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """The two-sided percentile interval of challenger minus champion, the same images drawn for both.

    Both are [images] (scores that are averaged, such as CIDEr) or [images, columns] (e.g. `bleu_statistics`, with
    `statistic=bleu_from_statistics`), in the same order of images. The same arguments give the same interval.
    Raises BadData when they are not of the same shape, are empty, or hold a value that is not a number.
    """
    old, new = _rows(champion), _rows(challenger)
    if old.shape != new.shape:
        raise BadData(
            f"{len(new)} scored images cannot be paired with {len(old)}: score both models on the same test set."
        )
    if not len(old):
        raise BadData("There is nothing to compare: no images were scored.")
    if not (np.isfinite(old).all() and np.isfinite(new).all()):
        raise BadData("A score is not a number: score both models again.")
    if not (resamples > 0 and 0 < confidence < 1):
        raise ValueError(f"{resamples} resamples at confidence {confidence}")
    differences = _resampled(old, new, statistic, resamples, seed)
    low, high = np.quantile(differences, [(1 - confidence) / 2, (1 + confidence) / 2])
    was, now = float(statistic(old.mean(axis=0))), float(statistic(new.mean(axis=0)))
    return Interval(was, now, now - was, float(low), float(high), confidence, len(old), resamples)


def non_inferior(interval: Interval, margin: float) -> bool:
    """Whether the challenger is shown to lose less than `margin` points: the interval's lower end is above -margin."""
    return interval.low > -margin


def _rows(values: npt.ArrayLike) -> Floats:
    rows = np.asarray(values, np.float64)
    return rows.reshape(-1, 1) if rows.ndim == 1 else rows


def _resampled(old: Floats, new: Floats, statistic: Statistic, resamples: int, seed: int) -> Floats:
    """The difference of each resample. Drawn in blocks, so that memory does not grow with images times resamples."""
    random = np.random.default_rng(seed)
    images, columns = old.shape
    both = np.concatenate([old, new], axis=1)
    found: list[float] = []
    while len(found) < resamples:
        count = min(resamples - len(found), max(1, _BLOCK // images))
        drawn = random.integers(0, images, size=(count, images))
        # How often each image was drawn, row by row: one bincount over numbers that are apart by row.
        drawn += np.arange(count)[:, None] * images
        weights = np.bincount(drawn.ravel(), minlength=count * images).reshape(count, images).astype(np.float64)
        means = weights @ both / images
        found.extend(statistic(means[:, columns:]) - statistic(means[:, :columns]))
    return np.array(found)
