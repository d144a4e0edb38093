"""Who answers whom: sticky, one way, the champion when the other is down, and one exposure whatever happens."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import pytest

from captioner.api.routing import FIRST_S, LONGEST_S, TRIES
from captioner.errors import BadEnvironment, BadInput, ModelUnavailable
from captioner.experiment.assignment import assigned
from captioner.release.names import experiment_key
from tests.api.conftest import NAME, World, fault, picture


def as_user(name: str) -> dict[str, str]:
    return {"x-user-id": name}


def test_without_an_experiment_the_endpoints_weights_decide(world: World) -> None:
    found = world.ask(content=picture()).json()
    assert (found["experiment"], found["assigned"], found["variant"]) == (None, "", "champion")
    assert world.inference.asked[0].variant is None
    (exposure,) = world.exposures()
    assert (exposure["experiment"], exposure["assigned"], exposure["share"]) == ("", "", 0.0)


def test_an_experiment_that_has_ended_decides_nothing(world: World) -> None:
    world.run_experiment(share=1.0, state="stopped")
    assert world.ask(content=picture()).json()["experiment"] is None
    assert world.inference.asked[0].variant is None


def test_users_keep_their_variant_and_the_exposure_says_all(world: World) -> None:
    world.run_experiment(share=0.5)
    met = {}
    for _ in range(3):
        for user in map(str, range(12)):
            met.setdefault(user, set()).add(world.ask(content=picture(), headers=as_user(user)).json()["variant"])
    assert all(len(variants) == 1 for variants in met.values())
    assert Counter(variant for (variant,) in met.values()).keys() == {"champion", "challenger"}
    exposures = world.exposures()
    assert len(exposures) == 36
    for one in exposures:
        assert one["variant"] == one["assigned"]
        assert (one["experiment"], one["share"], one["status"], one["override"]) == ("e1", 0.5, 200, False)
        assert one["caption"] == f"the {one['variant']} says"
        assert one["version"] == {"champion": "1", "challenger": "2"}[one["variant"]]
        assert one["log_probability"] == -1.0
        assert one["at"].endswith("Z")


def test_a_ramp_moves_users_one_way(tmp_path: Path) -> None:
    met: dict[str, list[str]] = {}
    world = World(tmp_path)
    for share in (0.05, 0.1, 0.25, 0.5):
        experiment = world.run_experiment(share=share)
        for user in map(str, range(200)):
            met.setdefault(user, []).append(assigned(experiment, user))
    for variants in met.values():
        assert variants == sorted(variants, reverse=True)  # champion …, then challenger …
    assert 60 < sum(variants[-1] == "challenger" for variants in met.values()) < 140


def test_a_tester_may_choose_and_is_marked(world: World) -> None:
    world.run_experiment(share=0.0)
    found = world.ask(content=picture(), headers={"x-variant": "challenger"}).json()
    assert (found["variant"], found["assigned"], found["override"]) == ("challenger", "champion", True)
    (exposure,) = world.exposures()
    assert (exposure["override"], exposure["assigned"], exposure["variant"]) == (True, "champion", "challenger")


@pytest.mark.parametrize("override", [False, True])
@pytest.mark.parametrize("how", ["failed", "missing"])
def test_when_the_other_variant_is_down_the_champion_answers(world: World, how: str, override: bool) -> None:
    world.run_experiment(share=0.0 if override else 1.0)
    if how == "failed":
        world.inference.down.add("challenger")
    else:
        world.inference.variants.remove("challenger")
    found = world.ask(content=picture(), headers={"x-variant": "challenger"} if override else {})
    assert found.status_code == 200
    body = found.json()
    assert (body["variant"], body["fallback"], body["override"]) == ("champion", True, override)
    assert [one.variant for one in world.inference.asked] == ["challenger", "champion"]
    assert len({one.id for one in world.inference.asked}) == 1
    (exposure,) = world.exposures()
    assert (exposure["variant"], exposure["fallback"], exposure["status"]) == ("champion", True, 200)
    assert [one["variant"] for one in world.said if one["event"] == "fallback"] == ["challenger"]


def test_without_an_experiment_the_champion_stands_in_too(world: World) -> None:
    world.inference.faults[None] = [ModelUnavailable("The endpoint failed (500).")]
    body = world.ask(content=picture()).json()
    assert (body["variant"], body["fallback"]) == ("champion", True)
    assert [one.variant for one in world.inference.asked] == [None, "champion"]


def test_nobody_stands_in_for_the_champion(world: World) -> None:
    world.run_experiment(share=0.0)
    world.inference.down |= {"champion"}
    answer = world.ask(content=picture())
    assert fault(answer) == (503, "model_unavailable")
    assert answer.headers["retry-after"] == "1"
    assert [one.variant for one in world.inference.asked] == ["champion"]
    (exposure,) = world.exposures()
    assert (exposure["variant"], exposure["assigned"], exposure["status"]) == ("", "champion", 503)


def test_what_may_pass_is_asked_again_with_jitter(world: World) -> None:
    world.run_experiment(share=0.0)
    busy = [ModelUnavailable("The variant is busy.", again=True) for _ in range(TRIES[True] - 1)]
    world.inference.faults["champion"] = list(busy)
    body = world.ask(content=picture()).json()
    assert (body["variant"], body["fallback"]) == ("champion", False)
    assert len(world.inference.asked) == TRIES[True]
    assert len(world.exposures()) == 1
    world.inference.faults["champion"] = [*busy, ModelUnavailable("The variant is busy.", again=True)]
    assert fault(world.ask(content=picture())) == (503, "model_unavailable")
    assert len(world.inference.asked) == 2 * TRIES[True]


def test_a_busy_challenger_is_asked_twice_before_the_champion_stands_in(world: World) -> None:
    world.run_experiment(share=1.0)
    world.inference.faults["challenger"] = [ModelUnavailable("busy", again=True) for _ in range(2)]
    assert world.ask(content=picture()).json()["fallback"]
    assert [one.variant for one in world.inference.asked] == ["challenger", "challenger", "champion"]


def test_waits_are_drawn_from_a_range_that_doubles() -> None:
    from captioner.api.routing import Router

    draws = iter([0.0, 0.5, 0.999, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    router = Router(None, NAME, None, None, None, jitter=lambda: next(draws))  # type: ignore[arg-type]
    found = list(router._waits(10))
    assert found[:3] == [0.0, 0.5 * FIRST_S * 2, 0.999 * FIRST_S * 4]
    assert found[-2] == LONGEST_S
    assert found[-1] is None


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (BadInput("The picture is larger than an endpoint takes: scale it down."), (400, "bad_request")),
        (BadEnvironment("AWS does not let these credentials ask."), (503, "unavailable")),
    ],
)
def test_what_no_other_variant_would_answer_is_asked_once(
    world: World, error: Exception, expected: tuple[int, str]
) -> None:
    world.run_experiment(share=1.0)
    world.inference.faults["challenger"] = [error]
    assert fault(world.ask(content=picture())) == expected
    assert len(world.inference.asked) == 1
    assert [one["status"] for one in world.exposures()] == [expected[0]]


def test_a_challenger_that_hangs_leaves_the_champion_time_to_answer(tmp_path: Path) -> None:
    world = World(tmp_path, deadline_s=1.0)
    world.run_experiment(share=1.0)
    world.inference.hangs.add("challenger")
    try:
        began = time.monotonic()
        body = world.ask(content=picture()).json()
        assert time.monotonic() - began < 5
        assert (body["variant"], body["fallback"]) == ("champion", True)
    finally:
        world.inference.let_go.set()


def test_when_nobody_answers_in_time_that_is_said_in_time(tmp_path: Path) -> None:
    world = World(tmp_path, deadline_s=0.5)
    world.inference.hangs |= {"champion", "challenger"}
    try:
        assert fault(world.ask(content=picture())) == (504, "deadline")
        (exposure,) = world.exposures()
        assert (exposure["status"], exposure["variant"]) == (504, "")
        assert exposure["latency_ms"] >= 400
    finally:
        world.inference.let_go.set()


def test_a_body_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    world = World(tmp_path, deadline_s=0.2)

    async def never():  # type: ignore[no-untyped-def]
        yield picture()[:10]
        await asyncio.sleep(30)

    assert fault(world.ask(content=never())) == (408, "too_slow")


def test_a_document_that_cannot_be_read_leaves_the_last_one_in_force(tmp_path: Path) -> None:
    world = World(tmp_path)
    running = world.api.running
    running._fresh_s = running._stale_s = 0.0  # look each time
    world.run_experiment(share=1.0)
    assert world.ask(content=picture()).json()["variant"] == "challenger"
    found = world.documents.read(experiment_key(NAME))
    assert found
    world.documents.replace(experiment_key(NAME), {"version": 99}, found.tag)
    assert world.ask(content=picture()).json()["variant"] == "challenger"
    assert world.ask(content=picture()).json()["experiment"] == "e1"
    assert [one["what"] for one in world.said if one["event"] == "stale"] == ["running experiment"]  # said once
    world.run_experiment(share=0.0)
    assert world.ask(content=picture()).json()["assigned"] == "champion"


def test_many_at_once_are_each_exposed_once(world: World) -> None:
    world.run_experiment(share=0.5)
    world.inference.faults["challenger"] = [ModelUnavailable("busy", again=True) for _ in range(20)]

    async def all_at_once() -> list[int]:
        async with world.client() as client:
            sent = [client.post("/v1/captions", content=picture(), headers=as_user(str(n))) for n in range(60)]
            return [answer.status_code for answer in await asyncio.gather(*sent)]

    assert asyncio.run(all_at_once()) == [200] * 60
    exposures = world.exposures()
    assert len(exposures) == len({one["inference_id"] for one in exposures}) == 60
