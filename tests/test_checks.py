"""The frames that the rules look at, and what follows from a broken rule. No Great Expectations here."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from captioner.checks import (
    Look,
    Outcome,
    Rule,
    caption_rules,
    captions_frame,
    first_reasons,
    image_rules,
    images_frame,
    split_rules,
    without_captions,
    without_images,
    word_rules,
    words_frame,
)
from captioner.images import ImageInfo
from captioner.params import ValidateParams
from captioner.records import ImageRecord, Quarantined, Split

PARAMS = ValidateParams(
    captions_per_image=5,
    captions_per_image_min=1,
    max_words=10,
    min_pixels=8,
    max_pixels=100,
    max_aspect=4.0,
    min_vocabulary=2,
    min_images={"train": 2, "test": 1},
    max_quarantined=0.5,
)


def record(name: str, *captions: str, split: Split = "train", digest: str | None = None) -> ImageRecord:
    return ImageRecord(name, "images-000.zip", name, digest or f"digest of {name}", split, captions)


def look(width: int = 20, height: int = 10, mode: str = "RGB") -> Look:
    return Look(ImageInfo("PNG", mode, width, height, 1, 1))


def test_a_caption_row_knows_its_image_its_number_and_its_tokens() -> None:
    frame = captions_frame([record("a", "A dog's ball.", "Two cats"), record("b", "!?", split="test")])
    assert frame[["row", "id", "image", "number", "split"]].to_numpy().tolist() == [
        [0, "a", 0, 1, "train"],
        [1, "a", 0, 2, "train"],
        [2, "b", 1, 1, "test"],
    ]
    assert frame["tokens"].tolist() == ["a dog 's ball", "two cats", ""]
    assert frame["words"].tolist() == [4, 2, 0]
    assert frame["has_image"].all()


def test_captions_without_an_image_come_last() -> None:
    frame = captions_frame([record("a", "one")], [Quarantined("x.jpg.1", "caption without image", "two")])
    assert frame[["id", "image", "has_image", "caption"]].to_numpy().tolist() == [
        ["a", 0, True, "one"],
        ["x.jpg.1", -1, False, "two"],
    ]


@pytest.mark.parametrize("frame", [captions_frame([]), images_frame([], []), words_frame([])])
def test_no_rows_are_a_frame_with_columns(frame: pd.DataFrame) -> None:
    assert len(frame) == 0
    assert "row" in frame.columns
    assert len(frame.columns) > 2


def test_an_image_row_has_sizes_whichever_way_it_is_turned() -> None:
    frame = images_frame([record("a", "x"), record("b")], [look(20, 10), look(10, 40, "L")])
    columns = ["id", "shortest", "longest", "aspect", "mode", "captions", "decodable"]
    assert frame[columns].to_numpy().tolist() == [["a", 10, 20, 2.0, "RGB", 1, True], ["b", 10, 40, 4.0, "L", 0, True]]


def test_an_image_that_cannot_be_decoded_has_no_sizes_to_judge() -> None:
    frame = images_frame([record("a"), record("b")], [Look(None, "a is empty"), look()])
    assert frame["decodable"].tolist() == [False, True]
    assert frame["problem"].iat[0] == "a is empty"
    assert frame[["shortest", "longest", "aspect", "mode"]].iloc[0].isna().all()


@pytest.mark.parametrize(
    ("splits", "same_as"),
    [
        (("train", "test"), ["test: 1", None]),
        (("test", "train"), [None, "test: 0"]),
        (("none", "train", "dev"), ["dev: 2", "dev: 2", None]),
        (("train", "train"), [None, None]),  # twice in one split leaks nothing
        (("train", "test", "test"), ["test: 1", None, None]),
    ],
)
def test_of_one_picture_in_two_splits_the_most_protected_stays(
    splits: tuple[Split, ...], same_as: list[str | None]
) -> None:
    records = [record(str(number), split=split, digest="same") for number, split in enumerate(splits)]
    frame = images_frame(records, [look() for _ in records])
    assert [None if pd.isna(value) else value for value in frame["same_as"]] == same_as


def test_the_vocabulary_is_the_training_splits() -> None:
    frame = words_frame([record("a", "a dog", "A cat."), record("b", "a zebra", split="test")])
    assert frame[["word", "count"]].to_numpy().tolist() == [["a", 2], ["cat", 1], ["dog", 1]]


def test_the_first_broken_rule_names_the_reason() -> None:
    frame = captions_frame([record("a", "", "fine")])
    outcomes = [Outcome(rule("empty"), met=False, rows=(0,)), Outcome(rule("wordless"), met=False, rows=(0, 1))]
    assert first_reasons(frame, outcomes) == {0: "empty", 1: "wordless"}


def test_of_equal_rows_the_first_stays() -> None:
    frame = captions_frame([record("a", "A dog", "a cat", "a dog ."), record("b", "a dog", "A DOG")])
    twice = Outcome(rule("duplicate", keep_first=("image", "tokens")), met=False, rows=(4, 3, 2, 0))
    assert first_reasons(frame, [twice]) == {2: "duplicate", 4: "duplicate"}


def rule(reason: str, **options: Any) -> Rule:
    return Rule(reason, "expect_anything", {}, **options)


def test_bad_captions_leave_their_image() -> None:
    records = [record("a", "one", "", "three"), record("b", "four")]
    orphan = Quarantined("x", "caption without image", "five", "from the release")
    frame = captions_frame(records, [orphan])
    parts = without_captions(records, [orphan], frame, {1: "empty caption", 4: "whatever the rule says"})
    assert [one.captions for one in parts.kept] == [("one", "three"), ("four",)]
    assert parts.quarantined == (Quarantined("a", "empty caption", "", "caption 2"), orphan)


def test_bad_images_go_with_all_their_captions_and_say_why() -> None:
    records = [record("a", "one"), record("b", "two"), record("c", "three")]
    frame = images_frame(records, [Look(None, "a is empty (0 bytes)."), look(), look(4, 90)])
    parts = without_images(records, frame, {0: "image cannot be decoded", 2: "image too long or too wide"})
    assert [one.id for one in parts.kept] == ["b"]
    assert parts.positions == (1,)
    assert [(one.id, one.caption, one.detail) for one in parts.quarantined] == [
        ("a", None, "a is empty (0 bytes)."),
        ("c", None, "90 x 4 pixels"),
    ]


def test_every_limit_in_the_params_is_in_a_rule() -> None:
    rules = (*caption_rules(PARAMS), *image_rules(PARAMS), *split_rules(PARAMS), *word_rules(PARAMS))
    found = {value for one in rules for key, value in one.options.items() if key in ("min_value", "max_value")}
    limits = {5, 1, 10, 8, 100, 4.0, 2}
    assert limits <= found
    assert {one.where for one in split_rules(PARAMS)} == {("split", "train"), ("split", "test")}


def test_no_two_rules_give_the_same_reason() -> None:
    reasons = [one.reason for one in (*caption_rules(PARAMS), *image_rules(PARAMS), *split_rules(PARAMS))]
    assert len(reasons) == len(set(reasons))
