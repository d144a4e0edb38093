"""The served model's HTTP answers, with a model that only looks at what reaches it."""

import base64
import io
import json
import re
import threading
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from captioner.errors import BadInput
from captioner.model.captioner import Explanation
from captioner.records import Caption
from captioner.serve.application import MAX_BODY, QUEUE, Application
from captioner.serve.journal import Journal


class Model:
    """Captions an image with its number in the batch."""

    def __init__(self) -> None:
        self.seen: list[tuple[list[bytes], int | None, int | None]] = []
        self.fault: Exception | None = None
        self.attends = True

    def caption(self, images: Sequence[bytes], beam: int | None = None, top: int | None = None) -> list[Any]:
        self.seen.append((list(images), beam, top))
        if self.fault:
            raise self.fault
        return [(Caption(f"picture {n}", -1.5), Caption("a picture", -2.5)) for n in range(len(images))]

    def explain(self, image: bytes, beam: int | None = None) -> Explanation:
        if not self.attends:
            raise BadInput("This model's network does not look at parts of the picture.")
        cells = np.array([[0.5, 0.25, 0.125, 0.0], [0.0, 0.0, 0.0, 1.0]])
        return Explanation("picture 0", ("picture", "0"), cells, 1.0 - cells.sum(axis=1))


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
    inference_id: str | None = None,
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
        **({} if inference_id is None else {"HTTP_X_AMZN_SAGEMAKER_INFERENCE_ID": inference_id}),
    }
    answer = b"".join(application(environ, lambda status, headers: begun.extend((status, dict(headers)))))
    is_json = begun[1]["Content-Type"] == "application/json"
    return int(begun[0].split()[0]), json.loads(answer) if answer and is_json else answer.decode() or None, begun[1]


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def application(model: Model, log: io.StringIO) -> Application:
    return Application(model, version="7", digest="ab" * 32, journal=Journal("7", "ab" * 32, log))


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


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


def test_json_may_ask_where_the_network_looked(application: Application, model: Model) -> None:
    body = json.dumps({"image": base64.b64encode(picture()).decode(), "explain": True}).encode()
    status, answer, _ = call(application, body, "application/json")
    assert (status, answer["caption"]) == (200, "picture 0")
    assert answer["attention"] == {
        "words": ["picture", "0"],
        "rows": 2,
        "columns": 2,
        "weights": [[0.5, 0.25, 0.125, 0.0], [0.0, 0.0, 0.0, 1.0]],
        "looked_away": [0.125, 0.0],
    }
    model.attends = False
    status, answer, _ = call(application, body, "application/json")
    assert (status, answer["caption"], answer["attention"]) == (200, "picture 0", None)
    assert "attention" not in call(application, picture(), "image/png")[1]


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
        (b'{"image": "", "width": 3}', "application/json", 400, "the keys are: image, images, beam, top, explain"),
        (b'{"image": "", "beam": "3"}', "application/json", 400, '"beam" must be a whole number'),
        (b'{"images": []}', "application/json", 400, "list of 1 to 16"),
        (b'{"images": [""], "explain": true}', "application/json", 400, 'single "image"'),
        (b'{"image": "", "explain": 1}', "application/json", 400, "true or false"),
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
    ("path", "method", "status"),
    [("/", "GET", 404), ("/ping", "POST", 405), ("/invocations", "GET", 405), ("/metrics", "POST", 405)],
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


class Held(Model):
    """Captions nothing before it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.go = threading.Semaphore(0), threading.Event()

    def caption(self, images: Sequence[bytes], beam: int | None = None, top: int | None = None) -> list[Any]:
        self.entered.release()
        assert self.go.wait(30)
        return super().caption(images, beam, top)


def test_a_full_queue_says_slow_down_and_ping_still_answers(log: io.StringIO) -> None:
    model = Held()
    application = Application(model, "1", "", journal=Journal("1", "", log), deadline_s=3600)
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(call(application, picture(), "image/png")[0]))
        for _ in range(QUEUE + 3)
    ]
    for thread in threads:
        thread.start()
    assert model.entered.acquire(timeout=30)
    while len(statuses) < 2:  # one is captioned, QUEUE wait: of QUEUE + 3 two are refused
        threads[0].join(0.01)
    assert statuses == [429, 429]
    status, answer, headers = call(application, picture(), "image/png")
    assert (status, headers["Retry-After"]) == (429, "1")
    assert "try again" in answer["error"]
    assert call(application, path="/ping", method="GET")[0] == 200
    assert f"captioner_queue_requests {QUEUE}.0" in call(application, path="/metrics", method="GET")[1]
    model.go.set()
    for thread in threads:
        thread.join(30)
    assert sorted(statuses) == [200] * (QUEUE + 1) + [429, 429]


def test_who_waited_too_long_is_sent_away_and_never_reaches_the_model(log: io.StringIO) -> None:
    model = Held()
    application = Application(model, "1", "", journal=Journal("1", "", log), deadline_s=0.2)
    first: list[int] = []
    thread = threading.Thread(target=lambda: first.append(call(application, picture(), "image/png")[0]))
    thread.start()
    assert model.entered.acquire(timeout=30)
    status, answer, headers = call(application, picture("JPEG"), "image/jpeg")  # the model is busy all the while
    assert (status, headers["Retry-After"]) == (503, "1")
    assert "waited 0.2 s and was not captioned" in answer["error"]
    model.go.set()
    thread.join(30)
    assert first == [200]  # what the model has begun is answered, late or not
    assert call(application, picture(), "image/png")[0] == 200
    assert [images for images, *_ in model.seen] == [[picture()], [picture()]]
    assert [line["status"] for line in lines(log)] == [503, 200, 200]


# What a request leaves behind


def test_each_invocation_is_one_line_of_json_without_picture_or_caption(
    application: Application, log: io.StringIO
) -> None:
    body = picture()
    call(application, body, "image/png", inference_id="abc-123")
    call(application, path="/ping", method="GET")
    (line,) = lines(log)
    latencies = {"queue_ms", "model_ms", "total_ms"}
    assert set(line) == {"time", "event", "model", "inference_id", "status", "images", "batch", "bytes"} | latencies
    assert line["model"] == {"version": "7", "digest": "ab" * 32}
    assert (line["event"], line["inference_id"], line["status"]) == ("invocation", "abc-123", 200)
    assert (line["images"], line["batch"], line["bytes"]) == (1, 1, len(body))
    assert 0 <= line["queue_ms"] <= line["total_ms"]
    assert 0 <= line["model_ms"] <= line["total_ms"]
    assert datetime.fromisoformat(line["time"]).tzinfo is not None
    assert "picture 0" not in log.getvalue()
    assert base64.b64encode(body)[:20].decode() not in log.getvalue()


def test_a_refusal_is_a_line_too_and_says_why(application: Application, log: io.StringIO) -> None:
    call(application, b"text", "image/jpeg")
    call(application, b"x", "text/plain")
    broken, unknown = lines(log)
    assert (broken["status"], broken["images"], broken["batch"], broken["model_ms"]) == (400, 1, None, None)
    assert "image" in broken["error"]
    assert (unknown["status"], unknown["images"]) == (415, None)


def test_the_inference_id_is_the_callers_or_one_of_ours(application: Application, log: io.StringIO) -> None:
    given = [call(application, picture(), "image/png", inference_id=one)[2] for one in ("mine", None, "x" * 65, "é")]
    answered = [headers["X-Amzn-SageMaker-Inference-Id"] for headers in given]
    assert answered[0] == "mine"
    assert all(re.fullmatch(r"[0-9a-f-]{36}", one) for one in answered[1:])
    assert len(set(answered)) == 4
    assert [line["inference_id"] for line in lines(log)] == answered


def test_metrics_are_what_prometheus_reads(application: Application) -> None:
    call(application, picture(), "image/png")
    images = [base64.b64encode(picture()).decode()] * 3
    call(application, json.dumps({"images": images}).encode(), "application/json")
    call(application, b"text", "image/jpeg")
    status, page, headers = call(application, path="/metrics", method="GET")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    assert found["captioner_requests_total", "200"] == 2
    assert found["captioner_requests_total", "400"] == 1
    assert found["captioner_images_total",] == 4
    assert found["captioner_batch_images_count",] == 2
    assert found["captioner_batch_images_sum",] == 4
    assert found["captioner_queue_requests",] == 0
    assert found["captioner_model_info", "7", "ab" * 32] == 1
    for phase in ("queue", "model", "total"):
        assert found["captioner_request_seconds_count", phase] == 2
    assert found["process_resident_memory_bytes",] > 0
