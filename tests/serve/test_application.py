"""The served model's HTTP answers, with a model that only looks at what reaches it."""

import base64
import io
import json
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captioner.errors import BadInput
from captioner.records import Caption
from captioner.serve.application import MAX_BODY, QUEUE, Application


class Model:
    """Captions an image with its number in the batch."""

    def __init__(self) -> None:
        self.seen: list[tuple[list[bytes], int | None, int | None]] = []
        self.fault: Exception | None = None

    def caption(self, images: Sequence[bytes], beam: int | None = None, top: int | None = None) -> list[Any]:
        self.seen.append((list(images), beam, top))
        if self.fault:
            raise self.fault
        return [(Caption(f"picture {n}", -1.5), Caption("a picture", -2.5)) for n in range(len(images))]


def picture(kind: str = "PNG", mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (8, 8)).save(buffer, kind)
    return buffer.getvalue()


def call(
    application: Application,
    body: bytes = b"",
    kind: str = "",
    path: str = "/invocations",
    method: str = "POST",
    length: int | None = None,
    accept: str = "",
) -> tuple[int, Any, dict[str, str]]:
    """(status, parsed JSON, headers) of one request."""
    begun: list[Any] = []
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "CONTENT_TYPE": kind,
        "CONTENT_LENGTH": str(len(body) if length is None else length),
        "wsgi.input": io.BytesIO(body),
        "HTTP_ACCEPT": accept,
    }
    answer = b"".join(application(environ, lambda status, headers: begun.extend((status, dict(headers)))))
    return int(begun[0].split()[0]), json.loads(answer) if answer else None, begun[1]


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def application(model: Model) -> Application:
    return Application(model, version="7", digest="ab" * 32)


def test_ping_is_empty_and_200(application: Application) -> None:
    assert call(application, path="/ping", method="GET")[:2] == (200, None)


@pytest.mark.parametrize("kind", ["image/jpeg", "image/png", "application/x-image", "IMAGE/PNG; charset=binary"])
def test_an_image_is_captioned_with_the_models_identity(application: Application, model: Model, kind: str) -> None:
    status, answer, headers = call(application, picture(), kind)
    assert status == 200
    assert headers["Content-Type"] == "application/json"
    assert answer == {
        "caption": "picture 0",
        "log_probability": -1.5,
        "alternatives": [{"caption": "a picture", "log_probability": -2.5}],
        "model": {"version": "7", "digest": "ab" * 32},
    }
    assert model.seen == [([picture()], None, None)]


def test_json_carries_one_image_and_options(application: Application, model: Model) -> None:
    body = json.dumps({"image": base64.b64encode(picture()).decode(), "beam": 5, "top": 2}).encode()
    assert call(application, body, "application/json")[0] == 200
    assert model.seen == [([picture()], 5, 2)]


def test_json_carries_a_batch_in_order(application: Application) -> None:
    body = json.dumps({"images": [base64.b64encode(picture()).decode()] * 3}).encode()
    status, answer, _ = call(application, body, "application/json; charset=utf-8")
    assert status == 200
    assert [one["caption"] for one in answer["results"]] == ["picture 0", "picture 1", "picture 2"]


@pytest.mark.parametrize("times", [1, 2], ids=["json", "json of json"])
@pytest.mark.parametrize("number", [int, float])
def test_the_first_apis_users_get_the_colours_that_they_sent(
    application: Application, model: Model, times: int, number: type
) -> None:
    """Rows of pixels of R, G, B, which their client encodes twice; their old server inverted the colours."""
    pixels = np.random.default_rng(1).integers(0, 256, (224, 224, 3))
    pixels[0, :4] = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 128, 255)
    body: Any = pixels.astype(number).tolist()
    for _ in range(times):
        body = json.dumps(body)
    status, answer, _ = call(application, body.encode(), "application/json")
    assert (status, answer["caption"]) == (200, "picture 0")
    with Image.open(io.BytesIO(model.seen[0][0][0])) as seen:
        assert (seen.format, seen.mode) == ("PNG", "RGB")
        assert np.array_equal(np.asarray(seen), pixels)


def test_odd_pictures_are_made_plain_before_the_model_sees_them(application: Application, model: Model) -> None:
    assert call(application, picture("TIFF", "CMYK"), "application/x-image")[0] == 200
    with Image.open(io.BytesIO(model.seen[0][0][0])) as seen:
        assert (seen.format, seen.mode) == ("PNG", "RGB")


@pytest.mark.parametrize(
    ("body", "kind", "status", "said"),
    [
        (b"", "image/jpeg", 400, "empty"),
        (b"this is text", "image/jpeg", 400, "image"),
        (picture("JPEG")[:-20], "image/jpeg", 400, "image"),
        (b"{", "application/json", 400, "not JSON"),
        (b"[1]", "application/json", 400, "each pixel the three numbers red, green, blue"),
        (b"[[[1, 2]]]", "application/json", 400, "each pixel the three numbers"),
        (b"[[[1, 2, 3]], []]", "application/json", 400, "each pixel the three numbers"),
        (b'[[["1", "2", "3"]]]', "application/json", 400, "each pixel the three numbers"),
        (b"[]", "application/json", 400, "each pixel the three numbers"),
        (b"[[[0, 0, 256]]]", "application/json", 400, "whole numbers from 0 to 255"),
        (b"[[[0, 0, -1]]]", "application/json", 400, "whole numbers from 0 to 255"),
        (b"[[[0.1, 0.5, 0.9]]]", "application/json", 400, "not scaled or normalised"),
        (b"[[[NaN, 0, 0]]]", "application/json", 400, "whole numbers from 0 to 255"),
        (b"[" * 100_000, "application/json", 400, "not JSON"),
        (b'"not JSON inside"', "application/json", 400, "not JSON"),
        (b'"3"', "application/json", 400, '"image"'),
        (b"{}", "application/json", 400, '"image"'),
        (b'{"image": "x", "images": []}', "application/json", 400, '"images"'),
        (b'{"image": 3}', "application/json", 400, "base64 text"),
        (b'{"image": "%%%"}', "application/json", 400, "not base64"),
        (b'{"image": "", "width": 3}', "application/json", 400, "the keys are: image, images, beam, top"),
        (b'{"image": "", "beam": "3"}', "application/json", 400, '"beam" must be a whole number'),
        (b'{"images": []}', "application/json", 400, "list of 1 to 16"),
        (b"\xff\xfe", "application/json", 400, "not JSON"),
        (b"x", "text/plain", 415, "text/plain is not one of: image/jpeg"),
        (b"x", "", 415, "(none)"),
    ],
)
def test_bad_input_is_a_sentence(application: Application, body: bytes, kind: str, status: int, said: str) -> None:
    found, answer, _ = call(application, body, kind)
    assert found == status
    assert list(answer) == ["error"]
    assert said in answer["error"]


def test_the_bad_one_of_a_batch_is_named(application: Application) -> None:
    images = [base64.b64encode(data).decode() for data in (picture(), b"text")]
    status, answer, _ = call(application, json.dumps({"images": images}).encode(), "application/json")
    assert status == 400
    assert "image 2" in answer["error"]


def test_too_large_is_refused_unread(application: Application) -> None:
    status, answer, _ = call(application, b"", "image/jpeg", length=MAX_BODY + 1)
    assert status == 413
    assert "6291456" in answer["error"]


@pytest.mark.parametrize(
    ("accept", "status"), [("", 200), ("*/*", 200), ("text/html, application/json;q=0.9", 200), ("text/html", 406)]
)
def test_the_answer_is_json_or_nothing(application: Application, accept: str, status: int) -> None:
    assert call(application, picture(), "image/png", accept=accept)[0] == status


@pytest.mark.parametrize(
    ("path", "method", "status"), [("/", "GET", 404), ("/ping", "POST", 405), ("/invocations", "GET", 405)]
)
def test_other_paths_and_methods(application: Application, path: str, method: str, status: int) -> None:
    found, answer, _ = call(application, path=path, method=method)
    assert found == status
    assert "error" in answer


def test_a_beam_that_the_model_refuses_is_400(application: Application, model: Model) -> None:
    model.fault = BadInput("A beam of 99 is not possible; give one from 1 to 20.")
    assert call(application, picture(), "image/png")[:2] == (400, {"error": str(model.fault)})


def test_a_bug_is_500_in_json_without_its_text(application: Application, model: Model, capsys) -> None:
    model.fault = ZeroDivisionError("secret")
    status, answer, _ = call(application, picture(), "image/png")
    assert status == 500
    assert "secret" not in json.dumps(answer)
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_full_queue_says_come_back_and_ping_still_answers() -> None:
    entered, release = threading.Semaphore(0), threading.Event()

    class Slow(Model):
        def caption(self, images: Sequence[bytes], beam: int | None = None, top: int | None = None) -> list[Any]:
            entered.release()
            release.wait(30)
            return super().caption(images, beam, top)

    application = Application(Slow(), "1", "")
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(call(application, picture(), "image/png")[0]))
        for _ in range(QUEUE + 3)
    ]
    for thread in threads:
        thread.start()
    entered.acquire(timeout=30)
    while len(statuses) < 2:  # one is captioned, QUEUE wait: of QUEUE + 3 two are refused
        threads[0].join(0.01)
    assert statuses == [503, 503]
    status, answer, headers = call(application, picture(), "image/png")
    assert (status, headers["Retry-After"]) == (503, "1")
    assert "try again" in answer["error"]
    assert call(application, path="/ping", method="GET")[0] == 200
    release.set()
    for thread in threads:
        thread.join(30)
    assert sorted(statuses) == [200] * (QUEUE + 1) + [503, 503]
