from __future__ import annotations

from dataclasses import replace

import pytest

from captioner.errors import BadData
from captioner.evaluation import (
    LONGEST,
    EvaluationSet,
    as_nltk_says,
    histogram,
    human_scores,
    select,
    share_copied,
)
from captioner.metrics import nltk_bleu, score
from captioner.records import ImageRecord, Split
from tests.sentences import corpus


def record(name: str, split: Split, *captions: str) -> ImageRecord:
    return ImageRecord(name, "images-000.zip", name, "0" * 32, split, captions)


MANIFEST = [
    record("a", "train", "a dog runs", "the dog"),
    record("b", "test", "a cat sits", "the cat"),
    record("c", "dev", "a bird"),
    record("d", "train"),
    record("e", "test"),
    record("f", "none", "a fish"),
    record("g", "test", "a horse"),
]
IDS = [one.id for one in MANIFEST]


def test_the_split_is_what_has_references_and_training_what_has_captions() -> None:
    found = select(MANIFEST, IDS, "test")
    assert [one.id for one in found.records] == ["b", "g"]
    assert found.rows == (1, 6)
    assert [one.id for one in found.training] == ["a"]
    assert found.training_rows == (0,)
    assert found.without_references == 1
    assert found.references == [("a cat sits", "the cat"), ("a horse",)]


def test_a_split_without_images_or_without_references_is_refused() -> None:
    with pytest.raises(BadData, match=r"split 'dev' has no images .* evaluate\.split"):
        select(MANIFEST[:2], IDS[:2], "dev")
    bare = [replace(one, captions=()) for one in MANIFEST]
    with pytest.raises(BadData, match="None of the 3 images in the split 'test' has a caption"):
        select(bare, IDS, "test")


@pytest.mark.parametrize("ids", [IDS[:-1], IDS[::-1]])
def test_features_of_other_images_are_refused(ids: list[str]) -> None:
    with pytest.raises(BadData, match="run the features stage again"):
        select(MANIFEST, ids, "test")


def digest(*records: ImageRecord) -> str:
    return EvaluationSet(records, (), (), (), 0).digest


def test_the_digest_is_of_ids_and_references_and_of_nothing_else() -> None:
    one, two = MANIFEST[1], MANIFEST[6]
    same = digest(one, two)
    assert digest(two, one) == same, "the order of the images"
    assert digest(replace(one, pack="images-009.zip", tags={"x": "y"}), two) == same
    assert len(same) == 64
    others = [
        digest(one),
        digest(replace(one, id="z"), two),
        digest(replace(one, captions=("a cat sits",)), two),
        digest(replace(one, captions=("a cat", "sits", "the cat")), two),
        digest(replace(one, captions=one.captions[::-1]), two),
    ]
    assert len({same, *others}) == 6


def test_bleu_is_quoted_from_nltk_and_the_rest_is_kept() -> None:
    hypotheses, references = corpus(30, seed=13)
    plain = replace(score(hypotheses, references), bleu_1=-1.0, bleu_4=-1.0)
    found = as_nltk_says(plain, hypotheses, references)
    assert (found.bleu_1, found.bleu_2, found.bleu_3, found.bleu_4) == nltk_bleu(hypotheses, references)
    assert found.cider == plain.cider


def test_a_person_is_scored_against_the_others() -> None:
    references = [("a", "b", "c"), ("d", "e", "f"), ("g",), ("h", "i", "j"), ("k", "l", "m")]
    # In turn: a against b c, e against d f, (g has no others), j against h i, k against l m.
    assert human_scores(references) == score(["a", "e", "j", "k"], [["b", "c"], ["d", "f"], ["h", "i"], ["l", "m"]])
    assert human_scores([("a",), ("b",)]) is None


def test_copied_is_word_for_word() -> None:
    training = [record("a", "train", "A dog runs.", "the dog")]
    assert share_copied(["a dog runs", "a dog", "the dog", "dog the"], training) == 0.5


def test_the_histogram_is_of_shares_and_its_last_bar_holds_the_rest() -> None:
    found = histogram(["", "a dog", "the cat", " ".join(["a"] * 50)])
    assert len(found) == LONGEST + 1
    assert found[0] == 0.25
    assert found[2] == 0.5
    assert found[LONGEST] == 0.25
    assert sum(found) == 1.0
