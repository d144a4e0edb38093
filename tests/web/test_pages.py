"""The pages, run by Streamlit's own harness in front of the real API application: what users see and can do."""

from __future__ import annotations

import sys
from base64 import b64encode
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from captioner.errors import BadInput, ServiceUnavailable
from captioner.ledger import CHALLENGER, CHAMPION
from captioner.release.names import models_key
from captioner.web.client import Client
from captioner.web.experiment_page import arms, chart
from captioner.web.models_page import side_by_side
from tests.api.conftest import World, picture


def caption_page(url: str) -> None:
    from captioner.web import caption_page
    from captioner.web.client import Client

    caption_page.show(Client(url))


def experiment_page(url: str) -> None:
    from captioner.web import experiment_page
    from captioner.web.client import Client

    experiment_page.show(Client(url))


def models_page(url: str) -> None:
    from captioner.web import models_page
    from captioner.web.client import Client

    models_page.show(Client(url))


@pytest.fixture(autouse=True)
def main_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamlit's harness leaves its script as ``__main__``: a process that is spawned later would run it."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


def opened(page: Callable[[str], None], url: str) -> AppTest:
    return AppTest.from_function(page, args=(url,), default_timeout=30).run()


def test_the_client_speaks_plainly(api: str, world: World) -> None:
    client = Client(api)
    found = client.caption(picture())
    assert found["caption"] == "a dog of the champion"
    token = client.token
    client.caption(picture())
    assert token
    assert client.token == token  # the same user
    assert client.say(found["inference_id"], rating=4)["rating"] == 4
    with pytest.raises(BadInput, match="not a picture"):
        client.caption(b"no picture")
    with pytest.raises(BadInput, match="not given out"):
        client.say("unknown", rating=1)
    with pytest.raises(BadInput, match="not a public address"):
        client.caption_url("http://127.0.0.1/cat.png")
    world.runtime.down[CHAMPION] = ServiceUnavailable("It is away.")
    with pytest.raises(ServiceUnavailable, match="away"):
        client.caption(picture())
    with pytest.raises(ServiceUnavailable, match="Is it up"):
        Client("http://127.0.0.1:1").experiment()


def test_a_page_without_an_api_says_so() -> None:
    page = opened(experiment_page, "http://127.0.0.1:1")
    assert not page.exception
    assert "Is it up?" in page.error[0].value


def test_the_experiment_page_before_and_while_one_runs(api: str, world: World) -> None:
    page = opened(experiment_page, api)
    assert not page.exception
    assert "No experiment has run" in page.info[0].value

    world.start()
    client = Client(api)
    for number in range(12):
        one = Client(api, token="")
        found = one.caption(picture(), explain=False)
        client.say(found["inference_id"], rating=1 + number % 5)
    world.exposures()
    world.documents.create(
        "ledger/captioner-sample/00000001.json",
        {"number": 1, "at": "2026-01-01T00:00:00Z", "action": "promote", "who": "ada", "why": "fewer dogs"},
    )
    world.now += 60
    page = page.run()
    assert not page.exception
    said = " ".join(one.value for one in (*page.subheader, *page.markdown, *page.info))
    assert "Not decided yet" in said
    assert "Too few users have rated: 12 in all" in said
    assert "fewer dogs" in said


def test_the_figures_are_the_analysis_own() -> None:
    from captioner.experiment.analysis import analyse, as_json
    from captioner.experiment.document import as_document
    from captioner.experimentparams import ExperimentParams
    from tests.experiment.worlds import START, logs, running

    analysis = as_json(analyse(running(), *logs(1000, better=0.5), ExperimentParams(), START))
    shown = arms(as_document(running()), analysis)
    assert set(shown) == {f"{CHAMPION} (version 1)", f"{CHALLENGER} (version 2)"}
    assert sum(int(arm["users"]) for arm in shown.values()) == 1000
    band, line, zero = chart(analysis["over_time"]).to_dict()["layer"]
    assert [one["mark"]["type"] for one in (band, line, zero)] == ["area", "line", "rule"]


def test_the_models_page_before_and_after_a_deployment(api: str, world: World) -> None:
    page = opened(models_page, api)
    assert not page.exception
    assert "Nothing has been deployed" in page.info[0].value

    scores = {"bleu_4": "24.1000", "cider": "59.8600", "distinct": "0.8000"}
    arms = {
        CHAMPION: {"version": "1", "digest": "a" * 64, "gate": "passed", "test": scores, "run": "r1"},
        CHALLENGER: {"version": "2", "digest": "b" * 64, "gate": "passed", "test": {}},
    }
    gallery = [
        {"id": "1.jpg", "picture": None, CHAMPION: "a dog", CHALLENGER: "a cat", "people": ["a small dog"]},
        {"id": "2.jpg", "picture": b64encode(picture()).decode(), CHAMPION: "x", CHALLENGER: "y", "people": []},
    ]
    value = {"as_of": "now", "models": arms, "compared": 9, "differ": 2, "gallery": gallery}
    world.documents.create(models_key("captioner-sample"), value)
    page = page.run()
    assert not page.exception
    said = " ".join(one.value for one in page.markdown)
    assert "disagree on 2 of 9 test images" in said
    assert "a small dog" in said
    shown = side_by_side(arms)
    assert shown["champion (version 1)"]["BLEU-4"] == "24.1"
    assert shown["champion (version 1)"]["distinct captions"] == "80%"
    assert shown["challenger (version 2)"]["CIDEr"] == "–"


def test_the_caption_page_opens_with_all_its_ways_in(api: str) -> None:
    page = opened(caption_page, api)
    assert not page.exception
    assert [one.label for one in page.tabs] == ["From a file", "An example", "From a URL", "From the camera"]


def test_a_url_that_is_refused_is_said_on_the_page(api: str) -> None:
    page = opened(caption_page, api)
    page.text_input[0].input("http://169.254.169.254/latest")
    page.button[0].click().run()
    assert not page.exception
    assert "not a public address" in page.error[0].value
