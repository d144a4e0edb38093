"""The crowd in front of the real API application over HTTP: who is answered, who rates, who is not answered."""

from __future__ import annotations

from captioner.demo.crowd import Crowd
from captioner.demo.playing import Play
from captioner.ledger import CHALLENGER, CHAMPION
from tests.api.conftest import World, picture
from tests.local_aws import until
from tests.web.conftest import api as api
from tests.web.conftest import world as world


def test_everybody_comes_is_captioned_and_rates_once(api: str, world: World) -> None:
    experiment = world.start(share=0.5)
    crowd = Crowd([picture()], effect=4.0, deviation=0.5, seed=0)
    play = Play(api, crowd, users=40, rate=1000.0)
    play.start()
    until(lambda: play.over, "the crowd to go")
    assert play.counts["failed"] == 0
    assert play.counts[CHAMPION] + play.counts[CHALLENGER] == 40
    assert min(play.counts[CHAMPION], play.counts[CHALLENGER]) > 5
    world.exposures()
    found = world.experiments.look(experiment)
    assert found.arms[CHAMPION].ratings == play.counts[CHAMPION]
    assert found.arms[CHALLENGER].rating == 5.0  # whom they like as much more as there are points
    assert {one["facts"]["source"] for one in world.exposures()} == {"demo"}


def test_whoever_is_not_answered_is_counted_with_the_reason() -> None:
    play = Play("http://127.0.0.1:9", Crowd([picture()], 0.0, 1.0, seed=0), users=3, rate=1000.0)
    play.start()
    until(lambda: play.over, "the crowd to go")
    assert play.counts == {"failed": 3}
    assert "does not answer" in play.fault


def test_nobody_comes_after_the_end(api: str, world: World) -> None:
    play = Play(api, Crowd([picture()], 0.0, 1.0, seed=0), users=10_000, rate=1.0)
    play.start()
    play.stop()
    assert play.over
    assert sum(play.counts.values()) < 10
