from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from captioner.errors import BadData
from captioner.evaluation import (
    COMPARED,
    SHOWN,
    WORST,
    EvaluationSet,
    as_nltk_says,
    by_index,
    by_score,
    fault_shares,
    fixed_indices,
    gap,
    human_scores,
    quote,
    select,
    wordings,
)
from captioner.faults import FAULTS
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


def test_the_gap_is_what_dev_scores_above_test() -> None:
    dev, test = score(*corpus(30, seed=1)), score(*corpus(30, seed=2))
    found = gap(dev, test)
    assert list(found) == list(COMPARED)
    assert found["cider"] == pytest.approx(dev.cider - test.cider)
    assert gap(None, test) == {}


def test_wording_is_that_of_the_captions_beside_all_references() -> None:
    worded, apart = wordings(["a dog", "a cat"], [("a dog", "the black dog"), ("one cat", "a very small cat")])
    assert worded["captions"].mean_words == 2.0
    assert worded["people"].mean_words == 2.75
    assert worded["captions"].different_words == 3  # a dog cat
    assert worded["people"].different_words == 5  # "a dog" and "a very small cat": one caption of each image
    assert apart == 0.5


def test_faults_are_counted_for_the_captions_and_for_a_person() -> None:
    references = [("a dog runs", "the dog is running"), ("a man sits", "the man is sitting")]
    found = fault_shares(["a cat runs", "a man sits"], references)
    assert list(found) == list(FAULTS)
    assert (found["wrong subject"].captions, found["wrong subject"].people) == (0.5, 0.0)
    assert found["phrased differently"].people == 1.0
    assert fault_shares(["a cat"], [("a dog",)])["wrong subject"].people == 0.0, "nobody to compare a person with"


@pytest.mark.parametrize(("images", "first"), [(1000, [0, 41, 83, 125]), (180, [0, 7, 15, 22]), (24, [0, 1, 2, 3])])
def test_the_quoted_images_are_evenly_spaced_and_depend_on_the_number_alone(images: int, first: list[int]) -> None:
    found = fixed_indices(images)
    assert found[:4] == first
    assert len(set(found)) == SHOWN
    assert images - images / SHOWN - 1 <= found[-1] < images
    assert fixed_indices(5) == [0, 1, 2, 3, 4]


def test_captions_are_quoted_by_index_and_by_score_whatever_the_manifests_order() -> None:
    records = [record(f"{number:03d}", "test", f"a man rides a bike {number}") for number in (7, 3, 9, 1)]
    cider = np.array([5.0, 2.0, 2.0, 80.0])
    assert by_index(records) == [3, 1, 0, 2]
    assert by_score(cider, records) == [1, 2, 0, 3]
    assert len(by_score(np.arange(50.0), [record(f"{n:02d}", "test", "a") for n in range(50)])) == WORST
    worst, right = quote(["a dog rides a bike", "", "", "a man rides a bike"], cider, records, [0, 3])
    assert (worst.index, worst.id, worst.cider, worst.fault) == (2, "007", 5.0, "wrong subject")
    assert worst.faults[0] == "wrong subject: says dog; people say man"
    assert worst.references == ("a man rides a bike 7",)
    assert (right.index, right.fault) == (0, "phrased differently")
