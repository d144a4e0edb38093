from __future__ import annotations

import pytest

from captioner.datasets.scenes import COLOURS as SCENE_COLOURS
from captioner.datasets.scenes import KINDS
from captioner.lexicon import COLOURS, CONCEPTS, NUMBERS, PARENTS, SEVERAL, UNSURE, agree, is_a, things
from captioner.slices import ANIMALS, PEOPLE
from captioner.text import tokenize


def named(caption: str) -> list[tuple[str, int, str]]:
    return [(t.word, t.count, "/".join(sorted(t.colours))) for t in things(tokenize(caption))]


@pytest.mark.parametrize(
    ("caption", "found"),
    [
        ("A man in a red shirt rides a bike.", [("man", 1, ""), ("shirt", 1, "red"), ("bike", 1, "")]),
        ("two black and white dogs run", [("dogs", 2, "black/white")]),
        ("a young black boy", [("boy", 1, "black")]),
        ("a group of people on the grass", [("people", SEVERAL, ""), ("grass", 1, "")]),
        ("several small children", [("children", SEVERAL, "")]),
        ("two large dogs", [("dogs", 2, "")]),
        ("three grey geese", [("geese", 3, "grey")]),
        ("a man walks two dogs", [("man", 1, ""), ("dogs", 2, "")]),
        ("a couple of dogs", [("dogs", 2, "")]),
        ("a crowd of people watch a couple", [("people", SEVERAL, ""), ("couple", SEVERAL, "")]),
        ("the dog 's ball", [("dog", 1, ""), ("ball", 1, "")]),
        ("", []),
    ],
)
def test_the_things_of_a_caption_with_their_number_and_colours(caption: str, found: list[tuple[str, int, str]]) -> None:
    assert named(caption) == found


def test_a_word_that_may_be_a_verb_is_a_thing_only_after_the_right_word() -> None:
    assert named("people cross the street") == [("people", SEVERAL, ""), ("street", 1, "")]
    assert named("a red cross above two stars") == [("cross", 1, "red"), ("stars", 2, "")]
    assert named("a boy swings a bat") == [("boy", 1, ""), ("bat", 1, "")]
    assert named("a girl on the swing") == [("girl", 1, ""), ("swing", 1, "")]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("poodle", "dogs", True), ("dog", "animal", True), ("dog", "horse", False), ("ocean", "water", True),
        ("ocean", "pool", False), ("man", "player", True), ("boy", "kid", True), ("man", "woman", False),
        ("man", "boy", False), ("bike", "motorcycle", True), ("bicycle", "motorcycle", False),
        ("shirt", "outfit", True),
    ],
)  # fmt: skip
def test_things_agree_when_one_is_a_kind_of_the_other(one: str, other: str, same: bool) -> None:
    assert agree(CONCEPTS[one], CONCEPTS[other]) == agree(CONCEPTS[other], CONCEPTS[one]) == same


def test_every_wider_concept_exists_and_none_goes_in_a_circle() -> None:
    concepts = {concept for found in CONCEPTS.values() for concept in found}
    assert set(PARENTS) | set(PARENTS.values()) <= concepts
    for start in PARENTS:
        seen, concept = set(), start
        while concept in PARENTS:
            assert concept not in seen
            seen.add(concept)
            concept = PARENTS[concept]


def test_the_lexicon_and_the_slices_agree_on_who_is_a_person_and_what_an_animal() -> None:
    for word in PEOPLE & CONCEPTS.keys():
        assert is_a(CONCEPTS[word], "person"), word
    for word in ANIMALS & CONCEPTS.keys():
        assert is_a(CONCEPTS[word], "animal"), word
    assert len(PEOPLE & CONCEPTS.keys()) > 0.9 * len(PEOPLE)
    assert len(ANIMALS & CONCEPTS.keys()) > 0.8 * len(ANIMALS)


def test_the_samples_shapes_colours_and_numbers_are_known() -> None:
    assert set(KINDS) <= CONCEPTS.keys()
    assert set(SCENE_COLOURS) <= set(COLOURS.values())
    assert {"two", "three"} <= NUMBERS.keys()


def test_every_unsure_word_is_a_word_of_the_lexicon() -> None:
    assert CONCEPTS.keys() >= UNSURE, sorted(UNSURE - CONCEPTS.keys())
