"""The model card for people: every figure is the card's, and nothing is said that the card does not know."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from captioner.modelcard import render
from captioner.records import read_json


@pytest.fixture
def card(shipped_project: Path) -> dict[str, Any]:
    return copy.deepcopy(read_json(shipped_project / "models" / "shipped" / "card.json"))


def test_the_sections_that_a_reader_looks_for_are_there(card: dict[str, Any]) -> None:
    page = render(card)
    for title in ("What it is for", "Scores", "Slices", "How it speaks of people", "Limits", "Data", "How it was made"):
        assert f"\n## {title}\n" in page
    assert "\n## Licences\n" in page
    assert page.startswith("# The shipped model: `attention`, trained on flickr8k\n")
    assert page.endswith("\n")
    assert "\n\n\n" not in page


def test_figures_are_the_cards(card: dict[str, Any]) -> None:
    card["reports"]["evaluate"]["scores"]["cider"] = 61.257
    card["people"]["words"]["man"] = {"model": 0.4321, "references": 0.1234}
    card["people"]["gender"]["female"] = {"images": 321, "same": 0.5, "opposite": 0.25, "both": 0.125, "neither": 0.125}
    page = render(card)
    assert "CIDEr 61.3" in page
    assert "| CIDEr | 61.26 |" in page
    assert "\n## What is wrong with its captions\n" in page
    assert "| man | 43.2% | 12.3% |" in page
    assert "Of 321 images whose references agree on female, it says female of 50.0%, male of 25.0%" in page


def test_what_is_not_known_is_left_out_or_said(card: dict[str, Any]) -> None:
    card["metrics"]["dev_greedy"] = card["reports"]["evaluate"]["dev"] = None
    card["reports"]["evaluate"]["faults"] = {}
    card["encoder"]["package"] = None
    card["git"] = {"sha": "", "dirty": False}
    card["people"]["gender"]["male"]["images"] = 0
    page = render(card)
    assert "dev, greedy" not in page
    assert "on dev |" not in page
    assert "wrong with its captions" not in page
    assert "as keras.applications downloads them" in page
    assert "no commit that is known" in page
    assert "agree on male" not in page


def test_of_several_networks_it_is_said_which_one_dev_is_of(card: dict[str, Any]) -> None:
    assert "greedy" not in render(card)  # the artifact's own scores on dev are there
    card["reports"]["evaluate"]["dev"] = None
    assert "as training saw it at the best epoch (2)" in render(card)
    card["seeds"]["members"] = [1, 2, 3]
    page = render(card)
    assert "as training saw its best member at the best epoch (2)" in page
    assert "`members` 1 2 3" in page


def test_it_is_said_who_has_a_say_and_what_git_holds_for_that(card: dict[str, Any]) -> None:
    assert "agrees best" not in render(card)
    card["export"] |= {"neighbours": 6, "agreement": 20.0}
    card["files"]["memory.npz"] = "0" * 64
    page = render(card)
    assert "what people wrote of the 6 training pictures that look most alike." in page
    assert "as hashed n-grams with weights (`memory.npz`), without a pickle" in page


def test_it_is_said_what_no_sentence_says_twice(card: dict[str, Any]) -> None:
    assert "said twice" not in render(card)
    card["export"] |= {"no_repeat_ngram_size": 2}
    assert "a sentence in English, in which no 2 words in a row are said twice." in render(card)


def test_it_is_said_who_is_shown_the_mirror_image_too(card: dict[str, Any]) -> None:
    assert "mirror" not in render(card)
    card["export"] |= {"flip": True}
    assert "sees the picture and its mirror image, an LSTM" in render(card)


def test_a_person_has_a_column_where_there_is_one(card: dict[str, Any]) -> None:
    assert "| a person" not in render(card)
    card["reports"]["evaluate"]["human"] = card["reports"]["evaluate"]["baseline"]
    assert "| a person (leave one out) |" in render(card)


def test_every_table_is_whole(card: dict[str, Any]) -> None:
    width = None
    for line in render(card).splitlines():
        cells = line.count("|") if line.startswith("|") else None
        assert width is None or cells is None or cells == width, line
        width = cells
