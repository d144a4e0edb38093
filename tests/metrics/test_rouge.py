from __future__ import annotations

import random

import pytest

from captioner.metrics.rouge import longest_common_subsequence, rouge_l


def by_table(left: list[str], right: list[str]) -> int:
    """The textbook's table."""
    above = [0] * (len(right) + 1)
    for word in left:
        row = [0]
        for place, other in enumerate(right):
            row.append(above[place] + 1 if word == other else max(above[place + 1], row[place]))
        above = row
    return above[-1]


def test_the_longest_common_subsequence_is_that_of_the_textbook() -> None:
    dice = random.Random(2)
    for _ in range(300):
        left, right = ([dice.choice("abcd") for _ in range(dice.randint(0, 70))] for _ in range(2))
        assert longest_common_subsequence(left, right) == by_table(left, right)


def test_precision_and_recall_may_come_from_different_references() -> None:
    # precision 2/2 from the second, recall 2/3 from the first: (1 + 1.44) * 1 * 2/3 / (2/3 + 1.44)
    found = rouge_l(["a", "b"], [["a", "b", "c"], ["a", "x", "b", "y", "z"]])
    assert found == pytest.approx(100 * 2.44 * (2 / 3) / (2 / 3 + 1.44))


@pytest.mark.parametrize("said", [[], ["x"]])
def test_nothing_in_common_scores_zero(said: list[str]) -> None:
    assert rouge_l(said, [["a", "dog"], []]) == 0.0
