"""The learning test: on scenes that it has never seen the model beats every way of not looking at the picture.

Margins are about half of what was measured (BLEU-4 64, CIDEr 431; nearest neighbour 31 and 186), so that another
processor's rounding does not matter.
"""

from __future__ import annotations

from collections import Counter

import pytest

from captioner.metrics import bleu_from_statistics, score
from captioner.metrics.bleu import bleu_statistics
from captioner.records import read_json, read_manifest, read_predictions
from captioner.text import tokenize
from tests.learned import CANDIDATE, Learned

pytestmark = pytest.mark.timeout(600)  # the first test waits for the training


def said(learned: Learned) -> dict[str, str]:
    file = learned.paths.predictions(CANDIDATE) / "predictions.jsonl"
    return {one.id: one.captions[0].caption for one in read_predictions(file)}


def test_it_beats_the_nearest_neighbour_on_held_out_scenes(learned: Learned) -> None:
    ours, theirs = learned.report.scores, learned.report.baseline
    assert ours.bleu_4 > theirs.bleu_4 + 15
    assert ours.cider > 1.5 * theirs.cider


def test_it_beats_any_one_caption_for_all(learned: Learned) -> None:
    records = [r for r in read_manifest(learned.paths.validated / "manifest.jsonl") if r.split == "test"]
    common = Counter(caption for record in records for caption in record.captions).most_common(3)
    for caption, _ in common:
        constant = score([caption] * len(records), [record.captions for record in records])
        assert learned.report.scores.bleu_4 > constant.bleu_4 + 20
        assert learned.report.scores.cider > 3 * constant.cider


def test_it_looks_at_the_picture(learned: Learned) -> None:
    """The same captions beside the wrong pictures score far less."""
    records = [r for r in read_manifest(learned.paths.validated / "manifest.jsonl") if r.split == "test"]
    captions = [said(learned)[record.id] for record in records]
    moved = captions[1:] + captions[:1]
    wrong = score(moved, [record.captions for record in records])
    assert wrong.cider < learned.report.scores.cider / 3


def test_it_names_combinations_that_no_training_scene_shows(learned: Learned) -> None:
    """Kind, colour and place are learned apart: what was never together in training is told as well."""
    records = [r for r in read_manifest(learned.paths.validated / "manifest.jsonl") if r.split == "test"]
    unseen = [r for r in records if r.tags["combination"] == "unseen"]
    assert len(unseen) >= 20
    captions = [said(learned)[record.id] for record in unseen]
    ours = bleu_from_statistics(bleu_statistics(captions, [r.captions for r in unseen]).sum(axis=0))
    assert ours == pytest.approx(learned.report.slices["combination/unseen"].bleu_4)
    assert ours > learned.report.baseline.bleu_4 + 10


def test_it_makes_its_own_captions(learned: Learned) -> None:
    assert learned.report.scores.distinct > 0.8
    assert learned.report.copied < 0.5
    assert learned.report.scores.empty == 0
    assert 0.8 < learned.report.scores.brevity < 1.25


def test_dev_and_test_are_told_apart_and_close(learned: Learned) -> None:
    dev = learned.report.dev
    assert dev is not None
    # Different scenes, so not equal; the same kind of scenes, so not far apart.
    assert 0 < abs(learned.report.gap["cider"]) < 0.25 * learned.report.scores.cider
    assert abs(learned.report.gap["bleu_4"]) < 15


def test_what_training_saw_of_itself_is_what_the_artifact_does(learned: Learned) -> None:
    """Training judges greedy captions of dev images; the artifact's, by beam search, are about as good."""
    train = read_json(learned.paths.report("train", CANDIDATE))
    best = max(epoch["cider"] for epoch in train["epochs"])
    assert learned.report.dev is not None
    assert learned.report.dev.cider > 0.85 * best
    assert train["epochs"][-1]["loss"] < train["epochs"][0]["loss"] / 2


def test_the_faults_of_a_model_that_has_learned_are_few(learned: Learned) -> None:
    faults = learned.report.faults
    assert faults["wrong subject"].people == 0.0
    assert faults["wrong subject"].captions < 0.15
    assert faults["phrased differently"].captions > 0.2
    words = {word for caption in said(learned).values() for word in tokenize(caption)}
    assert len(words) > 20
