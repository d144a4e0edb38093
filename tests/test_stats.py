from __future__ import annotations

import numpy as np
import pytest

from captioner.errors import BadData
from captioner.metrics import nltk_bleu
from captioner.stats import bleu_from_statistics, bleu_statistics, non_inferior, paired_bootstrap
from tests.sentences import corpus


def test_a_model_against_itself_is_no_worse() -> None:
    scores = np.random.default_rng(0).gamma(2.0, 25.0, 500)
    found = paired_bootstrap(scores, scores)
    assert (found.low, found.difference, found.high) == (0.0, 0.0, 0.0)
    assert found.champion == found.challenger == pytest.approx(scores.mean())
    assert non_inferior(found, margin=0.5)
    assert not non_inferior(found, margin=0.0)  # nothing is shown to be better than nothing


def test_a_clearly_worse_model_fails_and_a_better_one_passes() -> None:
    random = np.random.default_rng(1)
    champion = random.gamma(2.0, 25.0, 500)
    noise = random.normal(0, 15, 500)
    worse, better = paired_bootstrap(champion, champion - 8 + noise), paired_bootstrap(champion, champion + 8 + noise)
    assert not non_inferior(worse, margin=3.0)
    assert worse.high < 0
    assert non_inferior(better, margin=0.0)
    assert better.low > 0


def test_pairing_matters() -> None:
    """Two models that fail on the same images can be told apart where unpaired scores could not."""
    random = np.random.default_rng(2)
    champion = random.gamma(1.0, 50.0, 400)
    challenger = champion + 2 + random.normal(0, 3, 400)
    assert paired_bootstrap(champion, challenger).low > 0
    assert paired_bootstrap(champion, random.permutation(challenger)).low < 0


def test_the_interval_agrees_with_the_normal_approximation() -> None:
    random = np.random.default_rng(3)
    difference = random.normal(1.0, 20.0, 2000)
    found = paired_bootstrap(np.zeros(2000), difference, resamples=4000)
    half = 1.96 * difference.std() / np.sqrt(2000)
    assert found.low == pytest.approx(difference.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(difference.mean() + half, abs=0.1 * half)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(4)
    truth, covered, runs = -1.5, 0, 300
    for seed in range(runs):
        champion = random.gamma(2.0, 25.0, 150)
        challenger = champion + truth + random.normal(0, 20, 150)
        found = paired_bootstrap(champion, challenger, resamples=400, seed=seed, confidence=0.9)
        covered += found.low <= truth <= found.high
    # 0.9 of 300, give or take four standard errors.
    assert covered / runs == pytest.approx(0.9, abs=0.07)


def test_a_wider_confidence_gives_a_wider_interval() -> None:
    random = np.random.default_rng(5)
    old, new = random.normal(50, 10, (2, 200))
    narrow, wide = (paired_bootstrap(old, new, confidence=level) for level in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_the_same_seed_gives_the_same_interval() -> None:
    random = np.random.default_rng(6)
    old, new = random.normal(50, 10, (2, 200))
    assert paired_bootstrap(old, new, seed=3) == paired_bootstrap(old, new, seed=3)
    assert paired_bootstrap(old, new, seed=3) != paired_bootstrap(old, new, seed=4)


def test_blocks_draw_what_one_piece_would(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(7)
    old, new = random.normal(50, 10, (2, 100))
    whole = paired_bootstrap(old, new, resamples=500)
    monkeypatch.setattr("captioner.stats._BLOCK", 700)
    found = paired_bootstrap(old, new, resamples=500)
    assert (found.low, found.high) == pytest.approx((whole.low, whole.high))


def test_resampled_bleu_is_the_corpus_bleu_of_what_was_drawn() -> None:
    old, references = corpus(25, seed=8)
    new = [refs[0] for refs in references]
    rows = [bleu_statistics(said, references) for said in (old, new)]
    found = paired_bootstrap(*rows, statistic=bleu_from_statistics, resamples=20, seed=9)
    assert found.champion == pytest.approx(nltk_bleu(old, references)[3])
    assert found.challenger == pytest.approx(100.0)
    drawn = np.random.default_rng(9).integers(0, 25, size=(20, 25))
    by_nltk = []
    for images in drawn:
        chosen = [references[i] for i in images]
        by_nltk.append(nltk_bleu([new[i] for i in images], chosen)[3] - nltk_bleu([old[i] for i in images], chosen)[3])
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(by_nltk, [0.025, 0.975])))


def test_the_score_is_computed_for_many_resamples_at_once() -> None:
    calls = []

    def counting(means: np.ndarray) -> np.ndarray:
        calls.append(means.shape)
        return bleu_from_statistics(means)

    rows = bleu_statistics(*corpus(200, seed=10)).repeat(5, axis=0)
    paired_bootstrap(rows, rows[::-1], statistic=counting, resamples=1000)
    assert len(calls) == 4, "both models, once for all resamples and once for the test set itself"


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(BadData, match="2 scored images cannot be paired with 3"):
        paired_bootstrap([1.0, 2.0, 3.0], [1.0, 2.0])
    with pytest.raises(BadData, match="no images"):
        paired_bootstrap([], [])
    with pytest.raises(BadData, match="not a number"):
        paired_bootstrap([1.0, float("nan")], [1.0, 2.0])
    with pytest.raises(ValueError, match="one column"):
        paired_bootstrap(np.ones((3, 10)), np.ones((3, 10)))
