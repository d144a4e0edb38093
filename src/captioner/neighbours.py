"""The baseline that a captioner has to beat: the caption of the training image that looks most alike.

Alike is the cosine of mean-pooled features. Training features are read block by block, so memory depends on the number
of test images only. Knows nothing of models or scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from captioner.errors import BadData

BLOCK = 256
"""Training images read at a time: 32 MB of a 7x7x1280 grid."""

Pooled = npt.NDArray[np.float32]


class Features(Protocol):
    """What is needed of featurestore.packed.PackedFeatures."""

    def rows(self, indices: Sequence[int]) -> npt.NDArray[np.float16]: ...


def nearest(features: Features, wanted: Sequence[int], known: Sequence[int]) -> npt.NDArray[np.int64]:
    """For each row of `wanted`, the row of `known` with the highest cosine; of equal ones the first. [len(wanted)]

    Raises BadData when `known` is empty.
    """
    if not len(known):
        raise BadData("The nearest-neighbour baseline needs training images, and there are none.")
    if not len(wanted):
        return np.empty(0, np.int64)
    queries = np.concatenate([pool(features.rows(block)) for block in _blocks(wanted)])
    best = np.full(len(queries), -np.inf, np.float32)
    found = np.empty(len(queries), np.int64)
    for block in _blocks(known):
        cosines = queries @ pool(features.rows(block)).T
        first = cosines.argmax(axis=1)
        value = cosines[np.arange(len(queries)), first]
        better = value > best
        best[better] = value[better]
        found[better] = np.asarray(block)[first[better]]
    return found


def pool(grid: npt.NDArray[np.float16]) -> Pooled:
    """Mean over the cells, scaled to length one: float16 [n, cells, channels] to float32 [n, channels]."""
    mean: Pooled = grid.astype(np.float32).mean(axis=1)
    length = np.sqrt(np.square(mean).sum(axis=1, keepdims=True))
    pooled: Pooled = mean / np.maximum(length, np.float32(1e-12))
    return pooled


def _blocks(rows: Sequence[int]) -> list[Sequence[int]]:
    return [rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]
