"""From logs to a verdict: what is counted, what is left out, and what follows."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from captioner.experiment.analysis import analyse, as_json
from captioner.experiment.assignment import assigned
from captioner.experiment.document import as_document
from captioner.experiment.events import Exposure, Feedback
from captioner.experiment.planning import plan
from captioner.experiment.sequences import contributions, intervals, tuned, variance
from captioner.experimentparams import ExperimentParams
from captioner.ledger import CHALLENGER, CHAMPION
from tests.experiment.worlds import START, logs, running, stamp

PARAMS = ExperimentParams(min_users=100)
LATER = START + timedelta(hours=48)


def found(exposures: list[Exposure], feedback: list[Feedback], params: ExperimentParams = PARAMS) -> dict[str, Any]:
    """The analysis as JSON, which holds nothing that JSON does not know."""
    analysis = as_json(analyse(running(), exposures, feedback, params, LATER))
    return json.loads(json.dumps(analysis, allow_nan=False))


def test_a_better_challenger_is_promoted() -> None:
    told = found(*logs(2000, better=0.5))
    assert told["verdict"] == "promote"
    assert 0 < told["difference"]["low"] < 0.5 < told["difference"]["high"]
    assert told["reasons"][0].endswith("better.")
    assert told["arms"][CHAMPION]["users"] + told["arms"][CHALLENGER]["users"] == 2000
    assert told["sample_ratio"]["ok"]
    assert told["over_time"][-1]["users"] == 2000
    assert len(told["over_time"]) <= 200


@pytest.mark.parametrize("deviation", [0.6, 1.2])
def test_the_verdicts_interval_is_the_one_that_was_planned(deviation: float) -> None:
    params = PARAMS.model_copy(update={"deviation": deviation})
    exposures, feedback = logs(2000)
    phi = contributions(
        [one.rating for one in feedback], [one.assigned == CHALLENGER for one in exposures], 0.5, start=3.0
    )
    mean, radius = intervals(phi, tuned(variance(deviation, 0.5) * plan(params).users, 0.05), 0.05)
    told = found(exposures, feedback, params)["difference"]
    assert (told["low"], told["high"]) == pytest.approx((mean[-1] - radius[-1], mean[-1] + radius[-1]))


@pytest.mark.parametrize(("better", "users"), [(-0.5, 2000), (0.0, 12_000)])
def test_a_worse_one_and_one_that_is_not_worth_it_are_rejected(better: float, users: int) -> None:
    assert found(*logs(users, better))["verdict"] == "reject"


def test_nothing_is_concluded_from_few_users_or_in_a_short_time() -> None:
    few = found(*logs(150, better=2.0))
    assert (few["verdict"], few["difference"]["value"]) == ("continue", None)
    assert "Too few users have rated: 150" in few["reasons"][0]
    early = found(*logs(2000, better=0.5), PARAMS.model_copy(update={"min_hours": 72.0}))
    assert (early["verdict"], early["reasons"][0]) == ("continue", "It runs for 48.0 h; no verdict before 72 h.")


def test_a_wrong_sample_ratio_blocks_the_verdict() -> None:
    exposures, feedback = logs(4000, better=0.5)
    # The log loses a tenth of those who met the challenger.
    kept = [one for number, one in enumerate(exposures) if one.assigned == CHAMPION or number % 5]
    told = found(kept, feedback)
    assert told["verdict"] == "continue"
    assert told["reasons"][0].startswith("The sample ratio is wrong")
    assert not told["sample_ratio"]["ok"]


def test_a_ramp_is_no_wrong_sample_ratio() -> None:
    assert found(*logs(4000, share=[0.05, 0.1, 0.25, 0.5]))["sample_ratio"]["ok"]


def test_a_slow_challenger_is_rejected_however_its_captions_are_rated() -> None:
    def slow(shown: Exposure) -> Exposure:
        return replace(shown, latency_ms=2 * shown.latency_ms) if shown.assigned == CHALLENGER else shown

    told = found(*logs(2000, better=0.5, change=slow), PARAMS.model_copy(update={"min_hours": 72.0}))
    assert told["verdict"] == "reject"
    latency = told["guardrails"][0]
    assert (latency["name"], latency["ok"]) == ("latency", False)
    assert latency["low"] < 2 < latency["high"]


def test_a_load_that_grows_during_a_ramp_is_no_slow_challenger() -> None:
    """Who moves is left out from then on: the champion's users would have their quick hours only."""
    first, feedback = logs(4000, share=[0.05, 0.1, 0.25, 0.5])
    last = running(0.5)
    later = [
        replace(one, inference_id=f"{one.inference_id}-later", at=stamp(60), latency_ms=8 * one.latency_ms,
                assigned=assigned(last, one.user), variant=assigned(last, one.user), share=0.5)
        for one in first
    ]  # fmt: skip
    told = found([*first, *later], feedback)
    assert told["excluded"]["after the user had moved on in a ramp"] > 500
    assert told["guardrails"][0]["low"] < 1 < told["guardrails"][0]["high"]


def test_a_challenger_that_fails_is_rejected_whoever_answers_in_its_place() -> None:
    def failing(shown: Exposure) -> Exposure:
        down = shown.assigned == CHALLENGER and int(shown.user[5:]) % 4 == 0
        return replace(shown, fallback=True, variant=CHAMPION) if down else shown

    told = found(*logs(2000, better=0.5, change=failing))
    assert told["verdict"] == "reject"
    assert not told["guardrails"][1]["ok"]
    assert told["excluded"]["answered by the champion in the challenger's place"] == pytest.approx(250, abs=40)


def test_what_does_not_count_is_counted() -> None:
    exposures, feedback = logs(400)
    twice = exposures[0]
    tester = replace(exposures[1], inference_id="t", override=True)
    moved = replace(
        next(one for one in exposures if one.assigned == CHAMPION), inference_id="m", assigned=CHALLENGER, at=stamp(50)
    )
    wrong = replace(exposures[2], inference_id="w", status=400, variant="")
    other = replace(exposures[3], inference_id="o", experiment="e0")
    before = found(exposures, feedback)
    told = found([*exposures, twice, tester, moved, wrong, other], [*feedback, Feedback("nobody", stamp(1), "u", 1)])
    assert told["excluded"] == {
        "logged twice": 1,
        "a tester chose the variant": 1,
        "after the user had moved on in a ramp": 1,
        "the request was wrong": 1,
    }
    assert told["difference"] == before["difference"]


def test_the_unit_is_the_user() -> None:
    exposures, feedback = logs(400)
    more = [replace(one, inference_id=f"{one.inference_id}-{again}") for one in exposures for again in range(3)]
    said = [replace(one, inference_id=f"{one.inference_id}-{again}") for one in feedback for again in range(3)]
    once, thrice = found(exposures, feedback), found(more, said)
    assert thrice["difference"] == once["difference"]
    assert thrice["arms"][CHAMPION]["ratings"] == 3 * once["arms"][CHAMPION]["ratings"]


def test_later_ratings_do_not_decide() -> None:
    exposures, feedback = logs(400)
    later = [replace(one, inference_id=f"{one.inference_id}-later", at=stamp(100)) for one in exposures]
    said = [
        Feedback(f"i{number}-later", stamp(100), one.user, 5 if one.assigned == CHALLENGER else 1)
        for number, one in enumerate(exposures)
    ]
    once, more = found(exposures, feedback), found([*exposures, *later], [*feedback, *said])
    assert more["difference"] == once["difference"]
    assert more["arms"][CHAMPION]["ratings"] == 2 * once["arms"][CHAMPION]["ratings"]


def test_corrections_are_measured() -> None:
    exposures, _ = logs(1000)
    said = [
        Feedback(one.inference_id, one.at, one.user, correction="a cat runs")
        for one in exposures
        if one.assigned == CHALLENGER
    ]
    told = found(exposures, said)
    assert (told["arms"][CHAMPION]["corrected"], told["arms"][CHALLENGER]["corrected"]) == (0.0, 1.0)
    assert told["arms"][CHALLENGER]["edit_distance"] == pytest.approx(1 / 3)
    assert told["metrics"][1]["low"] > 0.8


def test_days_and_slices_are_shown_with_slices_wider() -> None:
    told = found(*logs(2000, hours=47.0))
    assert [one["at"] for one in told["by_day"]] == ["2026-01-01", "2026-01-02"]
    assert sum(one["users"] for one in told["by_day"]) == 2000
    jpeg, png = told["slices"]
    assert (jpeg["value"], png["value"], jpeg["users"]) == ("jpeg", "png", 1000)
    day = told["by_day"][0]
    assert jpeg["high"] - jpeg["low"] > day["high"] - day["low"]  # as many users, less chance of error


def test_before_anybody_came_it_says_so() -> None:
    told = found([], [])
    assert (told["verdict"], told["over_time"]) == ("continue", [])
    assert told["reasons"] == ["Too few users have rated: 0 in all; 100 of each variant are needed to begin."]


def test_the_document_says_which_experiment_is_meant() -> None:
    exposures, feedback = logs(400)
    other = replace(running(), id="e2")
    assert as_document(other)["id"] == "e2"
    assert analyse(other, exposures, feedback, PARAMS, LATER).arms[CHAMPION].users == 0
