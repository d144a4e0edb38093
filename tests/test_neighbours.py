from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from captioner.errors import BadData
from captioner.neighbours import BLOCK, nearest, pool


class Rows:
    """Features in memory, which remember how many rows were asked for at once."""

    def __init__(self, values: npt.NDArray[np.float32]) -> None:
        self.values = values.astype(np.float16)
        self.most = 0

    def rows(self, indices: Sequence[int]) -> npt.NDArray[np.float16]:
        self.most = max(self.most, len(indices))
        return self.values[list(indices)]


def test_the_nearest_is_the_one_of_the_highest_cosine() -> None:
    random = np.random.default_rng(0)
    features = Rows(random.normal(size=(700, 4, 16)).astype(np.float32))
    wanted, known = range(600, 700), range(600)
    mean = features.values.astype(np.float64).mean(axis=1)
    unit = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    expected = (unit[600:] @ unit[:600].T).argmax(axis=1)
    assert (nearest(features, wanted, known) == expected).all()


def test_the_answer_is_a_row_and_not_a_place_in_the_list() -> None:
    features = Rows(np.eye(6, dtype=np.float32)[:, None, :])
    features.values[5] = features.values[2]
    assert nearest(features, [5], [4, 2, 0]).tolist() == [2]


def test_only_the_direction_counts() -> None:
    features = Rows(np.array([[[1, 0]], [[0, 9]], [[0.1, 0.02]]], np.float32))
    assert nearest(features, [2], [0, 1]).tolist() == [0]


def test_of_equal_images_the_first_is_taken() -> None:
    features = Rows(np.ones((2 * BLOCK + 10, 1, 3), np.float32))
    assert nearest(features, [0], range(1, len(features.values))).tolist() == [1]


def test_memory_is_bounded_by_the_block() -> None:
    features = Rows(np.random.default_rng(1).normal(size=(3 * BLOCK, 1, 4)).astype(np.float32))
    nearest(features, range(BLOCK + 5), range(3 * BLOCK))
    assert features.most == BLOCK


def test_an_image_of_zeros_has_a_neighbour_all_the_same() -> None:
    features = Rows(np.array([[[0, 0]], [[1, 0]]], np.float32))
    assert nearest(features, [0], [1]).tolist() == [1]
    assert np.isfinite(pool(features.values)).all()


def test_nothing_to_look_for_and_nothing_to_find() -> None:
    features = Rows(np.ones((2, 1, 2), np.float32))
    assert nearest(features, [], [0]).tolist() == []
    with pytest.raises(BadData, match="training images"):
        nearest(features, [0], [])
