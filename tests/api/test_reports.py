"""Health, what is published of the experiment, the ledger, the documentation, and what every answer has."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from captioner import __version__
from captioner.ledger import Entry, Snapshot
from captioner.ledger import Model as LedgerModel
from tests.api.conftest import NAME, World, fault, picture


@pytest.mark.parametrize(
    ("state", "status", "said"),
    [
        ("InService", 200, "InService"),
        ("Updating", 200, "Updating"),
        ("Failed", 503, "Failed"),
        ("Creating", 503, "Creating"),
        (None, 503, None),
        ("unknown", 503, None),
    ],
)
def test_health_is_the_endpoints(world: World, state: str | None, status: int, said: str | None) -> None:
    world.inference.state = state
    answer = world.ask("/v1/health", "GET")
    assert answer.status_code == status
    well = "ok" if status == 200 else "down"
    assert answer.json() == {"status": well, "endpoint": {"name": NAME, "status": said}, "version": __version__}
    assert world.ask("/v1/health/live", "GET").status_code == 200  # the process itself is well


def test_the_experiment_is_what_was_published(world: World) -> None:
    found = world.ask("/v1/experiment", "GET").json()
    assert (found["experiment"], found["analysis"], found["links"]) == (None, None, {"mlflow": ""})
    assert found["as_of"].endswith("Z")


def test_before_anything_is_published_the_experiment_is_shown_by_itself(world: World) -> None:
    world.run_experiment(share=0.25)
    found = world.ask("/v1/experiment", "GET").json()
    assert (found["experiment"]["id"], found["experiment"]["shares"]["challenger"]) == ("e1", 0.25)
    assert found["analysis"]["verdict"] == "continue"
    assert found["analysis"]["arms"]["champion"]["users"] == 0


def test_published_documents_are_passed_on(world: World) -> None:
    status = {
        "experiment": {"id": "e1"},
        "analysis": {"verdict": "continue"},
        "links": {"mlflow": "http://m"},
        "as_of": "2026",
    }
    models = {"as_of": "2026-11-26T00:00:00Z", "models": {"champion": {"version": "1"}}, "gallery": []}
    world.documents.create(f"experiments/{NAME}/status.json", status)
    world.documents.create(f"experiments/{NAME}/models.json", models)
    assert world.ask("/v1/experiment", "GET").json() == status
    assert world.ask("/v1/models", "GET").json() == models


def test_no_models_are_no_error(world: World) -> None:
    assert world.ask("/v1/models", "GET").json()["models"] == {}


def test_the_ledger_is_newest_first(world: World) -> None:
    for number in range(1, 31):
        before = Snapshot({"champion": LedgerModel(str(number), "a")})
        after = Snapshot({"champion": LedgerModel(str(number + 1), "b")})
        entry = Entry(f"id{number}", "2026-11-26T00:00:00Z", "ada@host", "promote", "better", before, after, number)
        world.documents.create(f"ledger/{NAME}/{number:08d}.json", entry.to_json())
    world.documents.create(f"ledger/{NAME}-other/00000001.json", {})
    entries = world.ask("/v1/ledger", "GET").json()["entries"]
    assert [one["number"] for one in entries] == list(range(30, 10, -1))
    assert entries[0]["changes"] == ["champion 30 → 31"]
    assert (entries[0]["who"], entries[0]["action"], entries[0]["why"]) == ("ada@host", "promote", "better")
    assert len(world.ask("/v1/ledger?n=3", "GET").json()["entries"]) == 3
    assert fault(world.ask("/v1/ledger?n=0", "GET")) == (422, "bad_request")


def test_what_is_not_there_and_what_does_not_go(world: World) -> None:
    assert fault(world.ask("/v2", "GET")) == (404, "not_found")
    answer = world.ask("/v1/captions", "GET")
    assert fault(answer) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


def test_the_document_describes_every_route_with_examples(world: World) -> None:
    document = world.ask("/openapi.json", "GET").json()
    assert set(document["paths"]) == {
        "/v1/captions",
        "/v1/captions/{inference_id}/feedback",
        "/v1/health",
        "/v1/health/live",
        "/v1/experiment",
        "/v1/models",
        "/v1/ledger",
    }
    caption = document["paths"]["/v1/captions"]["post"]
    assert set(caption["requestBody"]["content"]) == {
        "image/jpeg",
        "image/png",
        "image/webp",
        "multipart/form-data",
        "application/json",
    }
    assert document["openapi"].startswith("3.0.")  # what the page can read
    assert '"null"' not in json.dumps(document)
    log_probability = document["components"]["schemas"]["CaptionModel"]["properties"]["log_probability"]
    assert (log_probability["type"], log_probability["nullable"]) == ("number", True)
    assert {"400", "401", "403", "413", "415", "422", "429", "503", "504"} <= set(caption["responses"])
    example = document["components"]["schemas"]["CaptionedModel"]["example"]
    assert set(example) == set(world.ask(content=picture()).json())
    names = {one["name"] for one in caption["parameters"]}
    headers = {"x-variant", "x-api-key", "x-user-id", "x-user-token"}
    assert names == {"top", "beam", "explain", "metadata", *headers}


def test_the_docs_page_needs_nothing_from_elsewhere(world: World) -> None:
    page = world.ask("/docs", "GET")
    assert page.headers["content-type"].startswith("text/html")
    needed = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(needed) == 3
    for one in needed:
        assert "//" not in one
        assert not one.startswith("/")  # below a stage's name it works as well
        assert world.ask(f"/{one}", "GET").status_code == 200
    assert "url: 'openapi.json'" in page.text
    assert world.ask("/docs/swagger-ui.js.map", "GET").status_code == 404
    assert world.ask("/docs/../secret", "GET").status_code == 404


def test_other_origins_are_let_in_by_a_setting_only(tmp_path: Path, world: World) -> None:
    asked = {"origin": "https://app.example.org", "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in world.ask("/v1/captions", "OPTIONS", headers=asked).headers
    assert "access-control-allow-origin" not in world.ask(content=picture(), headers=asked).headers
    opened = World(tmp_path / "cors", {"CAPTIONER_API_CORS": "https://app.example.org"})
    allowed = opened.ask("/v1/captions", "OPTIONS", headers=asked)
    assert allowed.headers["access-control-allow-origin"] == "https://app.example.org"
    other = opened.ask("/v1/captions", "OPTIONS", headers={**asked, "origin": "https://elsewhere.org"})
    assert "access-control-allow-origin" not in other.headers


def test_no_answer_is_kept_by_anybody_between(world: World) -> None:
    for answer in (world.ask(content=picture()), world.ask("/nowhere", "GET"), world.ask("/v1/health", "GET")):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_secret_of_this_machine_is_made_once_and_private(tmp_path: Path) -> None:
    first = World(tmp_path, {"CAPTIONER_API_SECRET": ""})
    id = first.ask(content=picture()).json()["inference_id"]
    file = tmp_path / ".captioner" / "api" / "secret"
    assert file.stat().st_mode & 0o777 == 0o600
    again = World(tmp_path, {"CAPTIONER_API_SECRET": ""})
    assert again.ask(f"/v1/captions/{id}/feedback", json={"rating": 3}).status_code == 200
    other = World(tmp_path, {"CAPTIONER_API_SECRET": "another"})
    assert fault(other.ask(f"/v1/captions/{id}/feedback", json={"rating": 3})) == (404, "unknown_id")
