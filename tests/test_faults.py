"""The rules on captions whose faults a person can see at a glance."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from captioner.faults import FAULTS, explain, repeats, shares, stem
from tests.sentences import corpus

DOG = ("a brown dog runs through the snow", "the brown dog is running in snow", "a dog plays in the white snow")
MEN = ("two men ride bikes", "two men are riding their bicycles", "a pair of men on bikes", "men on bikes")


def kinds(caption: str, references: tuple[str, ...]) -> list[str]:
    return [fault.kind for fault in explain(caption, references)]


@pytest.mark.parametrize(
    ("caption", "references", "kind", "text"),
    [
        ("", DOG, "no words", ""),
        ("a dog in the snow and a dog in the snow", DOG, "repetition", "says “a dog in” twice"),
        ("a dog dog runs in the snow", DOG, "repetition", "says “dog dog”"),
        ("a cat runs in the snow", DOG, "wrong subject", "says cat; people say dog"),
        ("two women ride bikes", MEN, "other kind of person", "says women; people say men"),
        ("a man rides a bike", MEN, "wrong number", "says one (man); people say two, several"),
        ("a black dog runs in the snow", DOG, "wrong colour", "says black dog; people say brown dog"),
        ("a brown dog is swimming in the snow", DOG, "other action", "says swimming; no reference has the verb"),
        ("a dog runs with a ball in the snow", DOG, "named by nobody", "says ball"),
        ("a brown dog runs", DOG, "left out", "people say snow"),
        (" ".join(["a brown dog runs through snow", *["very"] * 9]), DOG, "length", "the references 7 on average"),
        ("a brown dog runs in snow", DOG, "phrased differently", "it shares dog, snow with the references"),
        ("hm", DOG, "left out", "people say dog, snow"),
        ("hm", ("oh", "ah"), "unexplained", "no rule knows its words"),
    ],
)
def test_each_fault_is_found_by_its_words(caption: str, references: tuple[str, ...], kind: str, text: str) -> None:
    (found,) = [fault for fault in explain(caption, references) if fault.kind == kind]
    assert found.text.endswith(text)
    if kind not in ("length",):
        assert explain(caption, references)[0].kind == kind, "it is the main one"


def test_faults_come_in_the_order_of_their_list_and_all_are_told() -> None:
    found = kinds("a red cat is flying over two cars", DOG)
    assert found == ["wrong subject", "other action", "named by nobody", "left out"]
    assert found == [kind for kind in FAULTS if kind in found]


@pytest.mark.parametrize(
    ("caption", "references"),
    [
        ("a poodle plays in the snow", DOG),
        ("a person rides a bike", ("a man rides a bike", "the man rides a bike")),
        ("a woman and a man walk", ("two people walk", "a couple walking")),
        ("several people ride bikes", MEN),
        ("a bunch of men on their bikes", MEN),
        ("a child jumps", ("a boy jumps", "a boy is jumping")),
        ("a dog in the white and cold snow", DOG),
        ("a man in a red shirt", ("a man in a red and white shirt", "a man in a white shirt")),
    ],
)
def test_what_is_only_said_otherwise_is_no_fault(caption: str, references: tuple[str, ...]) -> None:
    assert kinds(caption, references) == ["phrased differently"]


def test_one_reference_that_says_it_is_enough() -> None:
    assert "wrong colour" not in kinds("a red car", ("a red car", "a blue car", "a blue car"))
    assert "wrong number" not in kinds("two cars", ("two cars", "a car", "a car"))
    assert "named by nobody" not in kinds("a car on a bridge", ("a car", "a car on a bridge"))


@pytest.mark.parametrize(
    "words",
    [("run", "runs", "running"), ("ride", "rides", "riding"), ("swim", "swims", "swimming"), ("jump", "jumped")],
)
def test_the_forms_of_a_verb_have_one_stem(words: tuple[str, ...]) -> None:
    assert len({stem(word) for word in words}) == 1


def test_the_docs_explain_every_rule_in_the_order_in_which_it_is_asked() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([a-z ]+) \| ", page.split("## Faults")[1], re.MULTILINE)
    assert rows == list(FAULTS)


def test_repeats() -> None:
    assert repeats(["in", "a", "hat", "in", "a"], 2)
    assert not repeats(["in", "a", "hat", "in", "a"], 3)
    assert not repeats([], 2)


def test_people_are_blamed_less_than_shuffled_captions() -> None:
    """The rules on captions of the right images and of others: they must tell the two apart."""
    said, references = corpus(200, seed=4)
    others = random.Random(0).sample(said, len(said))
    right, wrong = shares(said, references), shares(others, references)
    assert list(right) == list(FAULTS)
    for kind in ("wrong subject", "other action", "named by nobody"):
        assert wrong[kind] > 1.2 * right[kind], kind
    assert wrong["phrased differently"] < right["phrased differently"]
    assert all(0 <= share <= 1 for share in right.values())
