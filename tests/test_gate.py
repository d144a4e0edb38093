"""The gate: each check by itself, on numbers written by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from captioner.errors import BadData
from captioner.gate import Evidence, Slice, judge
from captioner.metrics import bleu_statistics
from captioner.params import RegisterParams

PARAMS = RegisterParams(
    metric="cider",
    margin=2.0,
    confidence=0.95,
    resamples=500,
    seed=0,
    max_slice_drop=8.0,
    min_slice=20,
    min_distinct=0.1,
    min_score=20.0,
)
SCORES = [float(40 + n % 21) for n in range(100)]


def model(called: str = "attention", per_image: Sequence[float] = SCORES, **changes: object) -> Evidence:
    values = {"called": called, "test_set": "t" * 64, "score": np.mean(SCORES), "per_image": per_image}
    return Evidence(**{**values, **changes})


def shifted(by: float) -> list[float]:
    return [score + by for score in SCORES]


def failed(challenger: Evidence, champion: Evidence | None, params: RegisterParams = PARAMS) -> list[str]:
    return [check.name for check in judge(params, challenger, champion).checks if not check.passed]


def test_a_first_model_passes_on_its_own_checks() -> None:
    verdict = judge(PARAMS, model(), None)
    assert verdict.passed
    assert verdict.interval is None
    assert [check.name for check in verdict.checks] == ["parity", "collapse", "floor"]


@pytest.mark.parametrize(
    ("changes", "check"),
    [({"score": 19.9}, "floor"), ({"distinct": 0.09}, "collapse"), ({"parity": False}, "parity")],
)
def test_a_first_model_fails_on_each_of_them(changes: dict[str, object], check: str) -> None:
    assert failed(model(**changes), None) == [check]


def test_the_floor_is_for_first_champions_only() -> None:
    low = [score - 30 for score in SCORES]
    assert failed(model(per_image=low, score=19.0), model("version 1", per_image=low, score=19.0)) == []


def test_slightly_worse_than_the_champion_is_within_the_margin() -> None:
    verdict = judge(PARAMS, model(per_image=shifted(-1.9)), model("version 1"))
    assert verdict.passed
    assert verdict.interval.difference == pytest.approx(-1.9)
    assert verdict.interval.low == pytest.approx(-1.9)  # the same shift on every image: no spread


def test_worse_than_the_margin_is_refused_with_the_numbers() -> None:
    verdict = judge(PARAMS, model(per_image=shifted(-2.1)), model("version 1"))
    (reason,) = verdict.reasons
    assert "version 1, the champion, by -2.1 points (95% interval -2.1 to -2.1)" in reason
    assert "above -2.0" in reason


def test_a_mean_within_the_margin_is_not_enough_when_the_interval_is_wide() -> None:
    noisy = [score + (40 if n % 2 else -41) for n, score in enumerate(SCORES)]
    verdict = judge(PARAMS, model(per_image=noisy), model("version 1"))
    assert verdict.interval.difference == pytest.approx(-0.5)
    assert verdict.interval.low < -2.0
    assert [check.name for check in verdict.checks if not check.passed] == ["non-inferiority"]


def test_the_verdict_does_not_change_from_run_to_run() -> None:
    noisy = [score + (3 if n % 3 else -5) for n, score in enumerate(SCORES)]
    assert judge(PARAMS, model(per_image=noisy), model()) == judge(PARAMS, model(per_image=noisy), model())


def test_another_test_set_is_refused_and_nothing_is_compared() -> None:
    verdict = judge(PARAMS, model(), model("version 1", per_image=(), test_set="u" * 64))
    assert verdict.interval is None
    (reason,) = verdict.reasons
    assert reason.startswith("It was judged on the test set tttttttttttt and version 1, the champion, on uuuuuuuuuuuu")


def test_other_numbers_of_images_on_one_test_set_are_an_error() -> None:
    with pytest.raises(BadData, match="cannot be paired"):
        judge(PARAMS, model(), model("version 1", per_image=SCORES[:-1]))


def test_a_slice_may_not_drop_too_far() -> None:
    old = {"people": Slice(60, 50.0), "animals": Slice(40, 50.0)}
    new = {"people": Slice(60, 43.0), "animals": Slice(40, 41.5)}
    verdict = judge(PARAMS, model(slices=new), model("version 1", slices=old))
    assert verdict.reasons == ("Too much is lost in: animals -8.5 (40 images); a slice may lose 8.0 points of CIDEr.",)
    assert {one.name: (one.judged, one.passed) for one in verdict.slices} == {
        "people": (True, True),
        "animals": (True, False),
    }


def test_a_small_slice_is_shown_and_not_judged() -> None:
    verdict = judge(
        PARAMS,
        model(slices={"other": Slice(19, 0.0)}),
        model("version 1", slices={"other": Slice(19, 90.0)}),
    )
    assert verdict.passed
    assert verdict.slices[0].difference == -90.0
    assert not verdict.slices[0].judged


def test_a_slice_that_only_one_has_is_left_out() -> None:
    verdict = judge(PARAMS, model(slices={"new": Slice(50, 1.0)}), model("version 1", slices={"old": Slice(50, 90.0)}))
    assert verdict.passed
    assert verdict.slices == ()


def test_every_reason_is_given_at_once() -> None:
    bad = model(per_image=shifted(-9), distinct=0.0, parity=False, slices={"people": Slice(60, 0.0)})
    champion = model("version 1", slices={"people": Slice(60, 50.0)})
    assert failed(bad, champion) == ["parity", "collapse", "non-inferiority", "slices"]


def test_bleu_is_resampled_as_a_corpus_score() -> None:
    references = [["a red dog runs on the grass", "the dog is red"]] * 30
    right = bleu_statistics(["a red dog runs on the grass"] * 30, references)
    half = bleu_statistics(["a red dog runs on the grass", "a blue cat sits on the grass"] * 15, references)
    params = PARAMS.model_copy(update={"metric": "bleu_4"})
    verdict = judge(params, model(per_image=half), model("version 1", per_image=right))
    assert verdict.interval.champion == pytest.approx(100.0)
    assert "Its BLEU-4 differs" in verdict.reasons[0]
