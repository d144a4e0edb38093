"""How a model speaks of people, held against the references: words for gender and age, and remarks on skin or origin.

Counts of words, nothing more: a caption that says "man" is counted as saying so, whoever is in the picture. Pure:
captions in, shares out. The word lists are those that Flickr8k's captions use, so that a count is of what people wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from captioner.slices import PEOPLE
from captioner.text import tokenize

_NOUNS = {
    "man": "man men guy guys gentleman gentlemen male males father dad cowboy groom",
    "woman": "woman women lady ladies female females mother mom bride cheerleader cheerleaders",
    "boy": "boy boys son brother brothers",
    "girl": "girl girls daughter sister sisters",
    "child": "child children kid kids toddler toddlers baby babies infant",
    "person": "person people someone adult adults",
}
NOUNS: Mapping[str, frozenset[str]] = {name: frozenset(words.split()) for name, words in _NOUNS.items()}
"""What is counted → the words that count as it."""

MALE, FEMALE = NOUNS["man"] | NOUNS["boy"], NOUNS["woman"] | NOUNS["girl"]

_REMARKS = {
    "skin or origin": "black white asian african american indian caucasian chinese japanese hispanic skinned tan",
    "young": "young little small teenage teenaged",
    "old": "old older elderly aged",
}
REMARKS: Mapping[str, frozenset[str]] = {name: frozenset(words.split()) for name, words in _REMARKS.items()}
"""What is counted → the words that count as it where they stand directly before a noun for people."""


@dataclass(frozen=True)
class Said:
    """The share of captions that say something: the model's, and the references'."""

    model: float
    references: float


@dataclass(frozen=True)
class Agreement:
    """What the model says of `images` that half of the references or more call only so, and none the opposite."""

    images: int
    same: float
    opposite: float
    both: float
    neither: float


@dataclass(frozen=True)
class Mentions:
    """`words` and `remarks` by name; `gender` for images whose references agree on male or on female."""

    words: dict[str, Said]
    remarks: dict[str, Said]
    gender: dict[str, Agreement]


def mentions(captions: Sequence[str], references: Sequence[Sequence[str]]) -> Mentions:
    """Count in the model's `captions`, one for each image, and in each image's `references`."""
    said = [tokenize(caption) for caption in captions]
    meant = [[tokenize(caption) for caption in of_image] for of_image in references]
    written = [tokens for of_image in meant for tokens in of_image]

    def share(says: Callable[[Sequence[str], frozenset[str]], bool], words: frozenset[str]) -> Said:
        return Said(*(_share(says(tokens, words) for tokens in every) for every in (said, written)))

    return Mentions(
        words={name: share(_any, nouns) for name, nouns in NOUNS.items()},
        remarks={name: share(remarks, words) for name, words in REMARKS.items()},
        gender={
            "male": _agreement(said, meant, MALE, FEMALE),
            "female": _agreement(said, meant, FEMALE, MALE),
        },
    )


def remarks(tokens: Sequence[str], words: frozenset[str]) -> bool:
    """Does one of `words` stand before a noun for people? Only other remarks may stand between ("old black man")."""
    every = frozenset().union(*REMARKS.values())
    for place, token in enumerate(tokens):
        if token in words:
            rest = iter(tokens[place + 1 :])
            if next((word for word in rest if word not in every), "") in PEOPLE:
                return True
    return False


def _agreement(
    said: Sequence[Sequence[str]],
    meant: Sequence[Sequence[Sequence[str]]],
    words: frozenset[str],
    opposite: frozenset[str],
) -> Agreement:
    chosen = [
        (_any(tokens, words), _any(tokens, opposite))
        for tokens, of_image in zip(said, meant, strict=True)
        if 2 * sum(_any(one, words) for one in of_image) >= len(of_image)
        and not any(_any(one, opposite) for one in of_image)
    ]
    outcomes = [(True, False), (False, True), (True, True), (False, False)]
    return Agreement(len(chosen), *(_share(one == outcome for one in chosen) for outcome in outcomes))


def _any(tokens: Sequence[str], words: frozenset[str]) -> bool:
    return not words.isdisjoint(tokens)


def _share(values: Iterable[bool]) -> float:
    """The share that is true; 0 of nothing."""
    every = list(values)
    return sum(every) / len(every) if every else 0.0
