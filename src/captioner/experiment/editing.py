"""How far a correction is from the caption: the share of words that had to be changed."""

from __future__ import annotations

import re

_WORDS = re.compile(r"\w+")


def edit_distance(caption: str, correction: str) -> float:
    """Levenshtein's distance in words, over the number of words of the longer one: 0 the same, 1 nothing in common.

    Case and punctuation do not count. Two texts without words are the same.
    """
    old, new = (_WORDS.findall(text.casefold()) for text in (caption, correction))
    if not old and not new:
        return 0.0
    row = list(range(len(new) + 1))
    for position, word in enumerate(old, start=1):
        diagonal, row[0] = row[0], position
        for column, other in enumerate(new, start=1):
            change = diagonal + (word != other)
            diagonal, row[column] = row[column], min(change, row[column] + 1, row[column - 1] + 1)
    return row[-1] / max(len(old), len(new))
