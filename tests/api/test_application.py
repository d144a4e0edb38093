"""The REST API over HTTP: captions, feedback, and every refusal in one sentence."""

from __future__ import annotations

import base64
import io
import itertools
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from captioner.api.users import caller
from captioner.errors import BadImage, ServiceUnavailable
from captioner.experiment.assignment import assigned
from captioner.ledger import CHALLENGER, CHAMPION
from tests.api.conftest import SECRET, World, picture

JPEG = picture()


def ask(client: TestClient, body: bytes = JPEG, kind: str = "image/jpeg", query: str = "", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(f"/v1/captions{query}", content=body, headers={"content-type": kind, **named})


def error(answer: Any) -> tuple[int, str]:
    """Status and code; every error has one sentence."""
    found = answer.json()["error"]
    assert found["message"].endswith(".")
    assert "Traceback" not in answer.text
    return answer.status_code, found["code"]


def test_a_picture_is_captioned_and_logged_once(client: TestClient, world: World) -> None:
    answer = ask(client, x_user_id="anna", x_source="web")
    assert answer.status_code == 200
    found = answer.json()
    assert (found["caption"], found["variant"], found["model"]["version"]) == ("a dog of the champion", CHAMPION, "1")
    assert found["captions"] == [
        {"caption": "a dog of the champion", "log_probability": -1.5, "probability": pytest.approx(0.2231, abs=1e-4)}
    ]
    assert found["image"] == {"type": "jpeg", "width": 48, "height": 32}
    assert (found["experiment"], found["assigned"], found["fallback"], found["override"]) == (None, None, False, False)
    (line,) = world.exposures()
    assert (line["inference_id"], line["variant"], line["status"]) == (found["inference_id"], CHAMPION, 200)
    assert (line["caption"], line["facts"]) == (found["caption"], {"type": "jpeg", "source": "web"})
    assert "anna" not in json.dumps(line)
    assert world.runtime.asked[0][0] == found["inference_id"]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("name", ["image/jpeg", "image/webp", "application/octet-stream", ""])
def test_a_picture_is_what_it_is_and_not_what_it_is_called(client: TestClient, kind: str, name: str) -> None:
    answer = client.post("/v1/captions", content=picture(kind), headers={"content-type": name} if name else {})
    assert answer.json()["image"]["type"] == kind.lower()


def test_a_form_and_base64_are_taken(client: TestClient, world: World) -> None:
    form = client.post("/v1/captions", files={"image": ("photo.txt", JPEG, "text/plain")})
    coded = client.post("/v1/captions", json={"image": base64.b64encode(JPEG).decode()})
    assert (form.status_code, coded.status_code) == (200, 200)
    assert [body for _, _, _, body in world.runtime.asked] == [JPEG, JPEG]


@pytest.mark.parametrize("twice", [False, True])
def test_the_first_apis_users_get_their_text_and_the_right_colours(
    client: TestClient, world: World, twice: bool
) -> None:
    pixels = [[[250, 10, 20], [0, 200, 30]], [[5, 6, 240], [255, 255, 255]]]
    body = json.dumps({"data": pixels})
    answer = ask(client, (json.dumps(body) if twice else body).encode(), "application/json")
    assert answer.json() == "a dog of the champion"
    sent = Image.open(io.BytesIO(world.runtime.asked[0][3]))
    assert np.asarray(sent).tolist() == pixels


def test_options_reach_the_model(client: TestClient, world: World) -> None:
    attention = {"words": ["a"], "rows": 1, "columns": 1, "weights": [[1.0]], "looked_away": [0.0]}
    world.runtime.more = {"attention": attention}
    answer = ask(client, query="?beam=4&top=2&explain=true")
    assert answer.json()["attention"] == attention
    _, _, kind, body = world.runtime.asked[0]
    assert kind == "application/json"
    asked = json.loads(body)
    assert (asked["beam"], asked["top"], asked["explain"]) == (4, 2, True)
    assert base64.b64decode(asked["image"]) == JPEG


def test_users_stay_on_their_variant_and_a_ramp_moves_them_one_way(client: TestClient, world: World) -> None:
    users = [f"user-{number}" for number in range(60)]
    met: list[list[str]] = []
    for share in (0.05, 0.1, 0.25, 0.5):
        experiment = world.start(share) if not met else world.experiments.current()
        assert experiment
        if met:
            key = "experiments/captioner-sample/running.json"
            found = world.documents.read(key)
            assert found
            shares = {"champion": 1 - share, "challenger": share}
            assert world.documents.replace(key, {**found.value, "shares": shares}, found.tag)
            world.now += 10  # the router looks every few seconds
        met.append([ask(client, x_user_id=user).json()["variant"] for user in users])
        assert met[-1] == [ask(client, x_user_id=user).json()["variant"] for user in users]
    moves = {pair for before, after in itertools.pairwise(met) for pair in zip(before, after, strict=True)}
    assert (CHAMPION, CHALLENGER) in moves
    assert (CHALLENGER, CHAMPION) not in moves
    lines = world.exposures()
    assert len(lines) == 8 * len(users)
    assert {line["share"] for line in lines} == {0.05, 0.1, 0.25, 0.5}


def test_an_anonymous_user_is_known_by_a_cookie_or_a_header(client: TestClient, world: World) -> None:
    world.start()
    first = ask(client)
    token = first.headers["x-user-token"]
    cookie = first.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    again = ask(client)  # with the cookie
    client.cookies.clear()
    by_header, forged, stranger = ask(client, x_user_token=token), ask(client, x_user_token=token[:-2] + "xx"), None
    client.cookies.clear()
    stranger = ask(client)
    assert len({one.json()["inference_id"] for one in (first, again, by_header, forged, stranger)}) == 5
    users = [line["user"] for line in world.exposures()]
    assert users[0] == users[1] == users[2]
    assert len(set(users[2:])) == 3


def test_a_tester_may_choose_and_does_not_count(client: TestClient, world: World) -> None:
    world.start(share=0.0001)
    answer = ask(client, x_user_id="tester", x_variant=CHALLENGER).json()
    assert (answer["variant"], answer["assigned"], answer["override"]) == (CHALLENGER, CHAMPION, True)
    assert world.exposures()[0]["override"] is True
    assert error(ask(client, x_variant="third")) == (400, "bad_variant")


def test_while_the_assigned_variant_is_down_the_champion_answers(client: TestClient, world: World) -> None:
    experiment = world.start()
    user = next(
        f"user-{n}"
        for n in range(99)
        if assigned(experiment, caller(SECRET, f"user-{n}", None).pseudonym) == CHALLENGER
    )
    world.runtime.down[CHALLENGER] = ServiceUnavailable("It is not there.")
    answer = ask(client, x_user_id=user).json()
    assert (answer["variant"], answer["assigned"], answer["fallback"]) == (CHAMPION, CHALLENGER, True)
    assert [variant for _, variant, _, _ in world.runtime.asked] == [CHALLENGER] * 3 + [CHAMPION]
    assert len({inference_id for inference_id, _, _, _ in world.runtime.asked}) == 1
    (line,) = world.exposures()
    assert (line["fallback"], line["variant"], line["assigned"]) == (True, CHAMPION, CHALLENGER)
    world.runtime.down[CHAMPION] = ServiceUnavailable("Neither is it.")
    gone = ask(client, x_user_id=user)
    assert error(gone) == (503, "unavailable")
    assert gone.headers["retry-after"] == "1"
    assert world.exposures()[1]["status"] == 503


def test_a_picture_that_the_model_refuses_is_not_tried_again(client: TestClient, world: World) -> None:
    world.runtime.refuses = BadImage("The image is damaged.")
    assert error(ask(client)) == (400, "bad_request")
    assert len(world.runtime.asked) == 1
    assert world.exposures()[0]["status"] == 400


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (b"", "image/jpeg", (400, "bad_request")),
        (b"no picture", "image/png", (400, "bad_request")),
        (JPEG[:200], "image/jpeg", (400, "bad_request")),
        (picture("GIF"), "image/jpeg", (415, "bad_format")),
        (b"x", "text/html", (415, "bad_type")),
        (b"{", "application/json", (400, "bad_request")),
        (b"[]", "application/json", (400, "bad_request")),
        (b"{}", "application/json", (400, "bad_request")),
        (b'{"image": "a", "image_url": "b"}', "application/json", (400, "bad_request")),
        (b'{"image": "%%%"}', "application/json", (400, "bad_request")),
        (b'{"image": 5}', "application/json", (400, "bad_request")),
        (b'{"image_url": "file:///etc/passwd"}', "application/json", (400, "bad_url")),
        (b'{"image_url": "http://127.0.0.1/"}', "application/json", (400, "url_refused")),
        (b'{"data": [[1, 2], [3]]}', "application/json", (400, "bad_request")),
        (b'{"data": "[[["}', "application/json", (400, "bad_request")),
        (b"[" * 100_000, "application/json", (400, "bad_request")),
        (b"\xff" * 4_000_001, "image/jpeg", (413, "too_large")),
        (b"\xff" * 6_000_001, "image/jpeg", (413, "too_large")),
        (b"--x", "multipart/form-data; boundary=y", (400, "bad_request")),
        (b"--x", "multipart/form-data", (400, "bad_request")),
    ],
)
def test_what_is_wrong_is_said_and_never_reaches_the_endpoint(
    client: TestClient, world: World, body: bytes, kind: str, expected: tuple[int, str]
) -> None:
    assert error(ask(client, body, kind)) == expected
    assert world.runtime.asked == []
    assert world.exposures() == []


def test_a_decompression_bomb_is_seen_by_its_header(client: TestClient) -> None:
    answer = ask(client, picture("PNG", (10_000, 6_000)), "image/png")
    assert error(answer) == (400, "bad_request")
    assert "10000x6000 pixels" in answer.json()["error"]["message"]


def test_paths_methods_and_parameters(client: TestClient) -> None:
    assert error(client.get("/nothing")) == (404, "not_found")
    assert error(client.get("/v1/captions"))[0] == 405
    assert error(ask(client, query="?beam=99")) == (422, "bad_request")


def test_keys_and_rates(world: World) -> None:
    world.keys, world.rate = {"anna": "right", "ben": "also"}, 2.0
    with TestClient(world.app()) as client:
        assert error(ask(client)) == (401, "bad_key")
        assert error(ask(client, x_api_key="wrong")) == (401, "bad_key")
        assert error(client.get("/v1/experiment")) == (401, "bad_key")
        assert [ask(client, x_api_key="right").status_code for _ in range(2)] == [200, 200]
        third = ask(client, x_api_key="right")
        assert error(third) == (429, "rate_limited")
        assert int(third.headers["retry-after"]) >= 1
        assert ask(client, x_api_key="also").status_code == 200
        assert client.get("/v1/health").status_code == 200


def test_feedback_is_durable_when_it_is_answered(client: TestClient, world: World) -> None:
    inference_id = ask(client, x_user_id="anna").json()["inference_id"]
    path = f"/v1/captions/{inference_id}/feedback"
    answers = [client.post(path, json={"rating": 4}, headers={"x-user-id": "anna"}) for _ in range(2)]
    assert [one.json() for one in answers] == [{"inference_id": inference_id, "rating": 4, "correction": None}] * 2
    better = client.post(path, json={"correction": "  a   cat\n"}, headers={"x-user-id": "anna"}).json()
    assert better["correction"] == "a cat"
    assert [line["rating"] for line in world.feedback()] == [4, 4, None]
    assert {line["user"] for line in world.feedback()} == {world.exposures()[0]["user"]}


@pytest.mark.parametrize(
    "value",
    [None, [], {}, {"rating": 0}, {"rating": 6}, {"rating": 3.5}, {"rating": True}, {"rating": None},
     {"correction": " "}, {"correction": "x" * 301}, {"correction": 5}, {"stars": 5}],
)  # fmt: skip
def test_feedback_that_says_nothing_is_refused(client: TestClient, world: World, value: Any) -> None:
    inference_id = ask(client).json()["inference_id"]
    assert error(client.post(f"/v1/captions/{inference_id}/feedback", json=value)) == (422, "bad_feedback")
    assert world.feedback() == []


def test_feedback_on_what_was_never_given_out_or_is_old(client: TestClient, world: World) -> None:
    inference_id = ask(client).json()["inference_id"]
    forged = inference_id[:-1] + ("0" if inference_id[-1] != "0" else "1")
    for unknown in (forged, "x", "0" * 49):
        assert error(client.post(f"/v1/captions/{unknown}/feedback", json={"rating": 1})) == (404, "unknown_id")
    world.now += 31 * 86_400
    assert error(client.post(f"/v1/captions/{inference_id}/feedback", json={"rating": 1})) == (410, "expired_id")


def test_the_experiment_is_shown_as_it_is(client: TestClient, world: World) -> None:
    assert client.get("/v1/experiment").json() == {"experiment": None, "analysis": None, "links": {}}
    experiment = world.start()
    for number in range(40):
        found = ask(client, x_user_id=f"user-{number}").json()
        client.post(f"/v1/captions/{found['inference_id']}/feedback", json={"rating": 4})
    world.exposures()
    world.now += 3600
    shown = client.get("/v1/experiment").json()
    assert shown["experiment"]["id"] == experiment.id
    assert "salt" not in shown["experiment"]
    assert sum(arm["users"] for arm in shown["analysis"]["arms"].values()) == 40
    assert sum(arm["ratings"] for arm in shown["analysis"]["arms"].values()) == 40
    assert shown["analysis"]["verdict"] == "continue"


def test_models_and_ledger_are_what_was_published(client: TestClient, world: World) -> None:
    assert client.get("/v1/models").json()["models"] == {}
    world.documents.create("experiments/captioner-sample/models.json", {"models": {"champion": {"version": "1"}}})
    assert client.get("/v1/models").json()["models"]["champion"]["version"] == "1"
    for number in range(1, 4):
        world.documents.create(f"ledger/captioner-sample/{number:08d}.json", {"number": number})
    assert [one["number"] for one in client.get("/v1/ledger?n=2").json()["entries"]] == [2, 3]


def test_health_says_whether_captions_can_be_had(client: TestClient, world: World) -> None:
    assert client.get("/v1/health").json()["endpoint"] == {"name": "captioner-sample", "status": "InService"}
    world.runtime.kept_status = None
    gone = client.get("/v1/health")
    assert (gone.status_code, gone.json()["status"]) == (503, "no endpoint")


def test_the_document_and_the_docs_page_need_nothing_from_elsewhere(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) == {
        "/v1/captions",
        "/v1/captions/{inference_id}/feedback",
        "/v1/health",
        "/v1/experiment",
        "/v1/models",
        "/v1/ledger",
    }
    page = client.get("/docs").text
    assert "http://" not in page
    assert "https://" not in page
    assert client.get("/docs/swagger-ui-bundle.js").status_code == 200


def test_other_pages_may_call_only_where_they_were_named(client: TestClient) -> None:
    for origin, allowed in (("https://page.example", "https://page.example"), ("https://evil.example", None)):
        answer = client.get("/v1/health", headers={"origin": origin})
        assert answer.headers.get("access-control-allow-origin") == allowed


def test_a_bug_is_one_sentence(client: TestClient, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.runtime.refuses = RuntimeError("secret detail")
    answer = ask(client)
    assert error(answer) == (500, "failed")
    assert "secret detail" not in answer.text
    assert "secret detail" in capsys.readouterr().err
    assert world.exposures()[0]["status"] == 500
