"""Counts of how people are spoken of, on captions whose shares are known."""

from __future__ import annotations

import pytest

from captioner.mentions import REMARKS, Agreement, Said, mentions, remarks

SAID = ["a man runs", "Two boys and a girl", "a black dog", "A woman in a hat"]
MEANT = [
    ["a woman runs", "a lady is running", "somebody runs"],
    ["two boys and a girl", "children", "kids play"],
    ["a man and a dog", "a man walks his dog", "an old man with a dog"],
    ["a woman", "a young black woman", "the woman's hat"],
]


def test_shares_are_of_captions_and_of_references() -> None:
    words = mentions(SAID, MEANT).words
    assert words["man"] == Said(model=1 / 4, references=3 / 12)
    assert words["woman"] == Said(model=1 / 4, references=5 / 12)
    assert words["boy"] == Said(model=1 / 4, references=1 / 12)
    assert words["child"] == Said(model=0.0, references=2 / 12)


def test_gender_is_held_against_what_the_references_agree_on() -> None:
    gender = mentions(SAID, MEANT).gender
    assert gender["female"] == Agreement(images=2, same=0.5, opposite=0.5, both=0.0, neither=0.0)
    assert gender["male"] == Agreement(images=1, same=0.0, opposite=0.0, both=0.0, neither=1.0)


def test_nothing_agreed_on_is_no_division_by_zero() -> None:
    assert mentions(["a dog"], [["a dog"]]).gender["male"] == Agreement(0, 0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("caption", "found"),
    [
        ("a black man", {"skin or origin"}),
        ("an old black man", {"old", "skin or origin"}),
        ("a little girl", {"young"}),
        ("a black dog and a man", set()),
        ("a man in a black shirt", set()),
        ("an african american woman", {"skin or origin"}),
        ("an old building", set()),
        ("the black", set()),
    ],
)
def test_a_remark_stands_before_a_word_for_people(caption: str, found: set[str]) -> None:
    assert {name for name, words in REMARKS.items() if remarks(caption.split(), words)} == found
