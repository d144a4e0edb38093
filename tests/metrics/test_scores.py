"""All scores at once, and what went wrong in the system that this one replaces."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from captioner.errors import BadData
from captioner.metrics import Scorer, bleu, score
from captioner.text import Vocabulary, tokenize
from tests.sentences import corpus

ROOT = Path(__file__).resolve().parents[2]


def test_what_is_reported_beside_the_scores() -> None:
    found = score(["A dog runs.", "a dog runs", "", "two men"], [["a dog runs fast"]] * 4)
    assert found.images == 4
    assert found.mean_words == 2.0
    assert found.distinct == 0.75  # the first two are the same words
    assert found.empty == 1
    assert found.brevity == 8 / 16


def test_perfect_captions_score_100() -> None:
    hypotheses, _ = corpus(40, seed=8)
    found = score(hypotheses, [[text] for text in hypotheses])
    assert dataclasses.astuple(found)[1:5] == pytest.approx([100.0] * 4)
    assert found.rouge_l == pytest.approx(100.0)
    assert found.brevity == 1.0


def test_one_caption_for_every_picture_shows() -> None:
    _, references = corpus(50, seed=9)
    found = score(["a man is standing"] * 50, references)
    assert found.distinct == 1 / 50
    assert found.cider < score([refs[0] for refs in references], references).cider / 3


def test_a_scorer_gives_the_same_in_every_epoch() -> None:
    hypotheses, references = corpus(50, seed=10)
    scorer = Scorer(references)
    assert scorer.score(hypotheses) == score(hypotheses, references) == scorer.score(hypotheses)
    assert scorer.cider_each(hypotheses).mean() == pytest.approx(scorer.score(hypotheses).cider)


def test_numbers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BadData, match="1 captions cannot be scored against the references of 2 images"):
        score(["a"], [["a"], ["b"]])


# The predecessor's defects


def test_start_and_end_never_count() -> None:
    """It scored `startseq … endseq` on both sides, which made 42 BLEU-1 points look like 52."""
    said, meant = "a dog sits", ["a man climbs the wall"]
    vocabulary = Vocabulary.build([tokenize(said), tokenize(meant[0])], min_count=1)
    decoded = vocabulary.decode(vocabulary.encode(tokenize(said), max_words=10))
    assert decoded == said
    assert score([decoded], [meant]) == score([said], [meant])
    framed = bleu([f"startseq {said} endseq"], [[f"startseq {meant[0]} endseq"]])
    assert framed[0] > bleu([decoded], [meant])[0] + 10


def test_scores_are_x100() -> None:
    """It printed 0.52 where papers print 52; here 1.0 would be one point of a hundred."""
    found = score(["a dog runs on the beach", "a cat"], [["a dog runs on the beach"], ["a cat sits on a wall"]])
    assert 50 < found.bleu_1 <= 100
    assert 50 < found.rouge_l <= 100
    assert found.cider > 100  # an exact caption alone brings 1000


def test_a_missing_last_word_costs() -> None:
    """It dropped the last word whenever decoding ended at the limit: 34 words, and no end token."""
    reference = "a dog runs along the sandy beach"
    whole = score([reference, "a cat"], [[reference], ["a cat"]])
    cut = score([reference.rsplit(" ", 1)[0], "a cat"], [[reference], ["a cat"]])
    for name in ("bleu_1", "bleu_4", "cider", "rouge_l", "brevity"):
        assert getattr(cut, name) < getattr(whole, name), name


def test_a_caption_that_ends_at_the_limit_keeps_its_last_word() -> None:
    vocabulary = Vocabulary.build([["a", "dog", "runs", "home"]], min_count=1)
    without_end = vocabulary.encode(["a", "dog", "runs", "home"], max_words=4)[:-1]
    assert vocabulary.decode(without_end) == "a dog runs home"


def test_scores_are_the_same_bits_in_every_process() -> None:
    """Sets of words are in another order in each process; sums in that order would differ in their last bit."""
    code = "from tests.sentences import corpus; from captioner.metrics import *; "
    code += "c = corpus(80, seed=14); print(repr(score(*c)), [float(x).hex() for x in cider_each(*c)])"
    seen = set()
    for seed in ("1", "2", "3"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        seen.add(done.stdout)
    assert len(seen) == 1
