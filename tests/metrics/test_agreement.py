"""The same captions, scored by us, nltk, pycocoevalcap and sacrebleu."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from captioner.metrics import CiderScorer, bleu, nltk_bleu, score
from captioner.records import read_manifest, read_predictions
from captioner.text import tokenize
from tests.learned import CANDIDATE, Learned
from tests.sentences import corpus

TOLERANCE = 1e-3  # of the x100 scale

pytestmark = pytest.mark.timeout(600)  # one corpus is a model's, which is trained first

Corpus = tuple[list[str], list[list[str]]]


@pytest.fixture(scope="module")
def made_up() -> Corpus:
    return corpus(400, seed=11)


@pytest.fixture(scope="module")
def people(flickr8k: Path) -> Corpus:
    """Flickr8k's test images: each one's first caption against the other four.

    Captions of fewer than four words are left out: see test_nltk_counts_an_n_gram_where_there_is_none.
    """
    with zipfile.ZipFile(flickr8k / "Flickr8k_text.zip") as text:
        images = text.read("Flickr_8k.testImages.txt").decode().split()
        captions: dict[str, list[str]] = {}
        for line in text.read("Flickr8k.token.txt").decode().splitlines():
            key, caption = line.split("\t")
            captions.setdefault(key.split("#")[0], []).append(caption)
    kept = [image for image in images if len(tokenize(captions[image][0])) >= 4]
    return [captions[image][0] for image in kept], [captions[image][1:] for image in kept]


@pytest.fixture(scope="module")
def model(learned: Learned) -> Corpus:
    """What a model said of the sample's test scenes, as its evaluation saved it."""
    rows = {row.id: list(row.captions) for row in read_manifest(learned.paths.validated / "manifest.jsonl")}
    said = read_predictions(learned.paths.predictions(CANDIDATE) / "predictions.jsonl")
    return [one.captions[0].caption for one in said], [rows[one.id] for one in said]


@pytest.fixture(params=["made_up", "people", "model"])
def captions(request: pytest.FixtureRequest) -> Corpus:
    found: Corpus = request.getfixturevalue(request.param)
    return found


def joined(captions: Sequence[str]) -> list[str]:
    return [" ".join(tokenize(caption)) for caption in captions]


def as_coco(captions: Corpus) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """References and hypotheses as pycocoevalcap wants them: tokens joined by spaces, by image."""
    hypotheses, references = captions
    return dict(enumerate(map(joined, references))), {i: joined([text]) for i, text in enumerate(hypotheses)}


def test_bleu_is_that_of_nltk(captions: Corpus) -> None:
    assert bleu(*captions) == pytest.approx(nltk_bleu(*captions), abs=1e-8)


def test_bleu_is_that_of_pycocoevalcap(captions: Corpus) -> None:
    from pycocoevalcap.bleu.bleu import Bleu

    theirs, _ = Bleu(4).compute_score(*as_coco(captions), verbose=0)
    assert bleu(*captions) == pytest.approx([100 * value for value in theirs], abs=TOLERANCE)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_bleu_is_that_of_sacrebleu(captions: Corpus, order: int) -> None:
    from sacrebleu.metrics import BLEU

    hypotheses, references = captions
    most = max(map(len, references))
    # sacrebleu wants as many references everywhere; None stands for one that an image does not have.
    streams = [[joined(refs)[n] if n < len(refs) else None for refs in references] for n in range(most)]
    theirs = BLEU(tokenize="none", smooth_method="none", force=True, max_ngram_order=order)
    found = theirs.corpus_score(joined(hypotheses), streams).score
    assert bleu(*captions)[order - 1] == pytest.approx(found, abs=TOLERANCE)


def test_cider_is_that_of_pycocoevalcap_image_by_image(captions: Corpus) -> None:
    from pycocoevalcap.cider.cider import Cider

    hypotheses, references = captions
    mean, each = Cider().compute_score(*as_coco(captions))
    ours = CiderScorer(references).each(hypotheses)
    np.testing.assert_allclose(ours, 100 * each, atol=1e-8)
    assert score(hypotheses, references).cider == pytest.approx(100 * mean, abs=TOLERANCE)


def test_rouge_is_that_of_pycocoevalcap(captions: Corpus) -> None:
    from pycocoevalcap.rouge.rouge import Rouge

    mean, _ = Rouge().compute_score(*as_coco(captions))
    assert score(*captions).rouge_l == pytest.approx(100 * mean, abs=TOLERANCE)


def test_the_report_of_a_model_says_what_the_others_say(learned: Learned, model: Corpus) -> None:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider

    found = learned.report.scores
    assert found.images == len(model[0])
    theirs, _ = Bleu(4).compute_score(*as_coco(model), verbose=0)
    ours = [found.bleu_1, found.bleu_2, found.bleu_3, found.bleu_4]
    assert ours == pytest.approx([100 * value for value in theirs], abs=TOLERANCE)
    assert ours == pytest.approx(nltk_bleu(*model), abs=1e-8)
    assert found.cider == pytest.approx(100 * Cider().compute_score(*as_coco(model))[0], abs=TOLERANCE)


def test_people_score_what_is_known_of_people(people: Corpus) -> None:
    found = score(*people)
    # Measured apart from this project: BLEU-1/4 63.6/20.9 and CIDEr 78.9 for a human caption against the other four.
    assert found.bleu_1 == pytest.approx(63.6, abs=1.0)
    assert found.bleu_4 == pytest.approx(20.9, abs=1.0)
    assert found.cider == pytest.approx(78.9, abs=2.5)


def test_nltk_counts_an_n_gram_where_there_is_none() -> None:
    """The one known difference: for a caption too short for an n-gram, nltk's denominator is 1, the others' is 0.

    We follow nltk, whose figures are reported; the others agree as soon as every caption has four words.
    """
    from pycocoevalcap.bleu.bleu import Bleu

    said = ["a dog", "a man runs on the beach"]
    meant = [["a dog runs on grass"], ["a man runs on the beach"]]
    theirs, _ = Bleu(4).compute_score(*as_coco((said, meant)), verbose=0)
    assert bleu(said, meant) == pytest.approx(nltk_bleu(said, meant), abs=1e-8)
    assert bleu(said, meant)[3] < 100 * theirs[3] - 1
    assert bleu(said, meant)[1] == pytest.approx(100 * theirs[1], abs=TOLERANCE)
