"""From a caption to tokens and back. The one tokeniser: training, scoring and detokenising share it.

The protocol: lower-cased, `'s` split off, every run of characters outside ``[a-z0-9' ]`` becomes a space, split on
spaces. No start or end token is ever part of a caption's tokens.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PAD, START, END, UNKNOWN = 0, 1, 2, 3
SPECIAL = ("<pad>", "<start>", "<end>", "<unk>")

_POSSESSIVE = re.compile(r"(?<=[a-z0-9])'s\b")
_OUTSIDE = re.compile(r"[^a-z0-9' ]+")


def tokenize(caption: str) -> list[str]:
    """The tokens of a caption, as training and every score see them."""
    return _OUTSIDE.sub(" ", _POSSESSIVE.sub(" 's", caption.lower())).split()


@dataclass(frozen=True)
class Vocabulary:
    """Words and their ids. The first four ids are special: padding, start, end, unknown."""

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.words[: len(SPECIAL)] != SPECIAL:
            raise ValueError(f"a vocabulary starts with {SPECIAL}")
        object.__setattr__(self, "_ids", {word: index for index, word in enumerate(self.words)})

    @classmethod
    def build(cls, captions: Iterable[Sequence[str]], min_count: int) -> Vocabulary:
        """Words that occur at least `min_count` times in tokenised `captions`, the most frequent first."""
        counts = Counter(token for caption in captions for token in caption)
        kept = sorted((w for w, n in counts.items() if n >= min_count), key=lambda w: (-counts[w], w))
        return cls((*SPECIAL, *kept))

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        return word in self._ids  # type: ignore[attr-defined]

    def encode(self, tokens: Sequence[str], max_words: int) -> list[int]:
        """Ids of start, the first `max_words` tokens, and end: at most ``max_words + 2`` ids."""
        ids: dict[str, int] = self._ids  # type: ignore[attr-defined]
        return [START, *(ids.get(token, UNKNOWN) for token in tokens[:max_words]), END]

    def decode(self, ids: Sequence[int]) -> str:
        """The caption that `ids` spell, up to the end token; special tokens are left out."""
        words = []
        for index in ids:
            if index == END:
                break
            if index >= len(SPECIAL):
                words.append(self.words[index])
        return detokenize(words)


def detokenize(words: Sequence[str]) -> str:
    """Tokens as a sentence: joined by spaces, `'s` put back on its word."""
    return " ".join(words).replace(" 's", "'s")
