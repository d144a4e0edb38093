"""Requests for captions in every form, what they get, and every way to get it wrong."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captioner.api.bodies import MAX_BODY
from captioner.api.pictures import MAX_BYTES
from captioner.errors import BadImage
from tests.api.conftest import World, fault, picture


def test_an_answer_says_all_that_the_contract_names(world: World) -> None:
    world.run_experiment(share=1.0)
    answer = world.ask(content=picture())
    assert answer.status_code == 200
    found = answer.json()
    assert found.pop("endpoint_ms") >= 0
    id = found.pop("inference_id")
    assert len(id) <= 64
    assert answer.headers["x-inference-id"] == id
    assert found == {
        "caption": "the challenger says",
        "log_probability": -1.0,
        "captions": [
            {"caption": "the challenger says", "log_probability": -1.0, "probability": 0.367879},
            {"caption": "something else", "log_probability": -2.0, "probability": 0.135335},
        ],
        "variant": "challenger",
        "assigned": "challenger",
        "fallback": False,
        "override": False,
        "experiment": "e1",
        "model": {"version": "2", "digest": "bb" * 32},
        "image": {"type": "jpeg", "width": 12, "height": 8},
        "attention": None,
    }
    (question,) = world.inference.asked
    assert (question.id, question.variant, question.content_type) == (id, "challenger", "image/jpeg")
    assert question.trace.isascii()
    assert len(question.trace) <= 1024


@pytest.mark.parametrize(
    ("kind", "sent", "type"),
    [
        ("JPEG", "image/jpeg", "jpeg"),
        ("PNG", "image/png", "png"),
        ("WEBP", "application/x-image", "webp"),  # the container's word for anything that images.py reads
        ("GIF", "image/png", "gif"),
        ("TIFF", "image/png", "tiff"),
    ],
)
@pytest.mark.parametrize("called", ["image/jpeg", "application/x-www-form-urlencoded", "text/plain", ""])
def test_a_raw_body_is_what_its_content_says(world: World, kind: str, sent: str, type: str, called: str) -> None:
    headers = {"content-type": called} if called else {}
    answer = world.ask(content=picture(kind), headers=headers)
    assert answer.status_code == 200
    assert answer.json()["image"] == {"type": type, "width": 12, "height": 8}
    assert world.inference.asked[0].content_type == sent
    assert world.exposures()[0]["facts"] == {"type": type, "source": "body", "shape": "wide", "size": "small"}


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    ("request_", "source"),
    [
        ({"files": {"image": ("holiday.txt", picture("PNG"), "text/plain")}}, "form"),
        ({"json": {"image": encoded(picture("PNG"))}}, "base64"),
        ({"json": {"image": "data:image/png;base64," + encoded(picture("PNG"))}}, "base64"),
        ({"content": json.dumps({"image": encoded(picture("PNG"))})}, "base64"),
    ],
    ids=["form", "base64", "data address", "without a content type"],
)
def test_every_other_form(world: World, request_: dict[str, Any], source: str) -> None:
    assert world.ask(**request_).status_code == 200
    assert world.inference.asked[0].body == picture("PNG")
    assert world.exposures()[0]["facts"]["source"] == source


@pytest.mark.parametrize("path", ["/v1/captions", "/"])
@pytest.mark.parametrize("times", [1, 2, 3], ids=["json", "json of json", "rows in a text"])
@pytest.mark.parametrize("number", [int, float])
def test_the_first_apis_users_get_a_text_and_the_colours_that_they_sent(
    world: World, times: int, number: type, path: str
) -> None:
    """Their old server inverted the colours."""
    pixels = np.random.default_rng(1).integers(0, 256, (224, 224, 3))
    pixels[0, :3] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    rows: Any = pixels.astype(number).tolist()
    body: Any = {"data": json.dumps(rows) if times == 3 else rows}
    answer = world.ask(path, content=json.dumps(json.dumps(body) if times == 2 else body))
    assert (answer.status_code, answer.json()) == (200, "the champion says")
    with Image.open(io.BytesIO(world.inference.asked[0].body)) as seen:
        assert (seen.format, seen.mode) == ("PNG", "RGB")
        assert np.array_equal(np.asarray(seen), pixels)
    assert world.exposures()[0]["facts"]["source"] == "pixels"


def test_a_url_is_fetched_by_what_the_application_was_given(tmp_path: Path) -> None:
    asked: list[tuple[str, float]] = []

    async def fetch(url: str, seconds: float) -> bytes:
        asked.append((url, seconds))
        return picture("PNG")

    world = World(tmp_path, fetch=fetch, deadline_s=4.0)
    assert world.ask(json={"image_url": "https://example.org/a.png"}).status_code == 200
    ((url, seconds),) = asked
    assert url == "https://example.org/a.png"
    assert 0 < seconds <= 4.0
    assert world.exposures()[0]["facts"]["source"] == "url"


def test_options_go_to_the_model_and_where_it_looked_comes_back(world: World) -> None:
    world.inference.attention = {"words": ["the"], "rows": 1, "columns": 1, "weights": [[1.0]], "looked_away": [0.0]}
    answer = world.ask("/v1/captions?top=2&beam=5&explain=true", content=picture("PNG"))
    assert answer.json()["attention"] == world.inference.attention
    (question,) = world.inference.asked
    assert question.content_type == "application/json"
    sent = json.loads(question.body)
    assert base64.b64decode(sent.pop("image")) == picture("PNG")
    assert sent == {"beam": 5, "top": 2, "explain": True}
    world.inference.attention = None  # a model that cannot tell
    assert world.ask("/v1/captions?explain=true", content=picture()).json()["attention"] is None


def test_what_is_written_beside_a_picture_stays_here_unless_it_is_to_be_kept(world: World) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "secret camera"
    sent = picture(exif=exif)
    assert world.ask(content=sent).json()["image"] == {"type": "jpeg", "width": 8, "height": 12}  # upright
    assert world.ask("/v1/captions?metadata=keep", content=sent).status_code == 200
    stripped, kept = (question.body for question in world.inference.asked)
    assert b"secret camera" not in stripped
    with Image.open(io.BytesIO(stripped)) as seen:
        assert dict(seen.getexif()) == {0x0112: 6}
    assert kept == sent


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"content": b""}, (400, "no_picture")),
        ({"content": b"this is text"}, (415, "not_a_picture")),
        ({"content": b"%PDF-1.7 \x00"}, (415, "not_a_picture")),
        ({"content": b"<svg xmlns='http://www.w3.org/2000/svg'/>"}, (415, "not_a_picture")),
        ({"content": picture()[:20]}, (400, "bad_image")),
        ({"content": b"\x89PNG\r\n\x1a\n" + b"x" * 40}, (400, "bad_image")),
        ({"content": b"{"}, (400, "bad_request")),
        ({"content": b'"not JSON inside"'}, (400, "bad_request")),
        ({"content": b"[" * 100_000}, (400, "bad_request")),
        ({"json": {}}, (400, "bad_request")),
        ({"json": {"image": "", "image_url": ""}}, (400, "bad_request")),
        ({"json": {"image": 3}}, (400, "bad_request")),
        ({"json": {"image": "%%%"}}, (400, "bad_request")),
        ({"json": {"image": "", "beam": 3}}, (400, "bad_request")),
        ({"json": {"image": ""}}, (415, "not_a_picture")),
        ({"json": {"data": [[[0, 0, 256]]]}}, (400, "bad_request")),
        ({"json": {"data": [[[0.1, 0.2, 0.3]]]}}, (400, "bad_request")),
        ({"json": {"data": "not rows"}}, (400, "bad_request")),
        ({"json": {"image_url": "file:///etc/passwd"}}, (400, "bad_url")),
        ({"json": {"image_url": "http://127.0.0.1/x"}}, (400, "url_refused")),
        ({"files": {"other": ("x.png", picture("PNG"))}}, (400, "no_picture")),
        ({"data": {"image": "text"}, "files": {"other": b""}}, (400, "no_picture")),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, (400, "bad_request")),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=y"}}, (400, "bad_request")),
        ({"content": picture(), "headers": {"x-user-id": "u" * 129}}, (400, "bad_user")),
        ({"content": picture(), "headers": {"x-variant": "somebody"}}, (422, "bad_request")),
        ({"content": picture(), "params": {"top": "many"}}, (422, "bad_request")),
        ({"content": picture(), "params": {"beam": "21"}}, (422, "bad_request")),
        ({"content": picture(), "params": {"beam": "2", "top": "3"}}, (422, "bad_request")),
    ],
)
def test_every_mistake_is_a_sentence_and_reaches_nobody(
    world: World, request_: dict[str, Any], expected: tuple[int, str]
) -> None:
    assert fault(world.ask(**request_)) == expected
    assert world.inference.asked == []
    assert world.exposures() == []


def bomb() -> bytes:
    """A PNG of 100,000 by 100,000 pixels, in a few hundred bytes."""
    header = bytearray(picture("PNG"))
    header[16:24] = struct.pack(">II", 100_000, 100_000)
    header[29:33] = struct.pack(">I", zlib.crc32(header[12:29]))
    return bytes(header)


def test_a_decompression_bomb_is_refused_by_its_header(world: World) -> None:
    assert fault(world.ask(content=bomb())) == (413, "too_many_pixels")
    wide = io.BytesIO()
    Image.new("1", (10_000, 5_001)).save(wide, "PNG")
    assert fault(world.ask(content=wide.getvalue())) == (413, "too_many_pixels")


@pytest.mark.parametrize("size", [MAX_BYTES + 1, MAX_BODY + 1, 3 * MAX_BODY, 9 * MAX_BODY])
def test_what_is_too_large_is_refused_whether_it_says_so_or_not(world: World, size: int) -> None:
    whole = picture() + b"\0" * (size - len(picture()))
    assert fault(world.ask(content=whole)) == (413, "too_large")

    async def pieces() -> Any:  # chunked: nothing is announced
        for at in range(0, len(whole), 1 << 18):
            yield whole[at : at + (1 << 18)]

    assert fault(world.ask(content=pieces())) == (413, "too_large")
    assert fault(world.ask(files={"image": whole})) == (413, "too_large")
    assert world.inference.asked == []


def test_what_the_model_finds_wrong_with_a_picture_is_the_callers_business(world: World) -> None:
    world.inference.faults[None] = [BadImage("image is damaged or cut short (it ends early): give a whole file.")]
    answer = world.ask(content=picture())
    assert fault(answer) == (400, "bad_image")
    assert "cut short" in answer.json()["error"]["message"]
    assert len(world.inference.asked) == 1  # asked once: a picture does not mend itself
    (exposure,) = world.exposures()
    assert (exposure["status"], exposure["variant"]) == (400, "")


def test_a_bug_is_a_sentence_too_and_an_exposure(world: World) -> None:
    world.inference.faults[None] = [ZeroDivisionError("secret")]
    answer = world.ask(content=picture())
    assert fault(answer) == (500, "internal")
    assert "secret" not in answer.text
    assert [one["status"] for one in world.exposures()] == [500]


def test_the_log_has_a_line_for_each_request_and_no_picture_caption_or_name(world: World) -> None:
    id = world.ask(content=picture("PNG"), headers={"x-user-id": "ada@example.org"}).json()["inference_id"]
    world.ask(f"/v1/captions/{id}/feedback", json={"correction": "private words"}, headers={"x-user-id": "ada"})
    first, second = (one for one in world.said if one["event"] == "request")
    assert (first["inference_id"], first["variant"], first["status"]) == (id, "champion", 200)
    assert first["ms"] >= first["endpoint_ms"]
    assert (second["inference_id"], second["corrected"]) == (id, True)
    said = json.dumps(world.said)
    for secret in ("ada", "the champion says", "private words", encoded(picture("PNG"))[:24]):
        assert secret not in said
    assert "ada@example.org" not in json.dumps(world.exposures())
