"""What a request for captions holds: a picture in one of six forms, and how it is to be captioned.

The form is found by content, so that a wrong Content-Type costs nobody a caption; only a multipart form is believed to
be what it says, for its boundary is nowhere else. Knows nothing of endpoints.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from captioner.api.faults import ApiError
from captioner.api.pictures import MAX_BYTES
from captioner.serve.pixels import png_of

MAX_BODY = MAX_BYTES + (64 << 10)  # a form has a frame around the picture
PATIENT = 8  # times too long
BODY, FORM, URL, BASE64, PIXELS = "body", "form", "url", "base64", "pixels"
_MEMBERS = ("image", "image_url", "data")


@dataclass(frozen=True)
class Sent:
    """The bytes of a picture or its address, and in which form it came. `seed`: as the first API's users send it."""

    source: str
    data: bytes = b""
    url: str = ""
    seed: bool = False


@dataclass(frozen=True)
class Wanted:
    """How a picture is to be captioned; None is the model's own."""

    beam: int | None = None
    top: int | None = None
    explain: bool = False

    @property
    def plain(self) -> bool:
        return self == Wanted()


async def read_body(stream: AsyncIterator[bytes], headers: Mapping[str, str], most: int = MAX_BODY) -> bytes:
    """The body of a request, as long as it is not longer than `most` bytes. Raises ApiError.

    What is not much too long is read to its end all the same: else its sender, still sending, would see a broken
    connection and not our sentence.
    """
    announced = headers.get("content-length", "")
    if announced.isdigit() and int(announced) > PATIENT * most:
        raise _too_large(most)
    found, size = bytearray(), 0
    async for piece in stream:
        size += len(piece)
        if size > PATIENT * most:
            break
        if size <= most:
            found += piece
    if size > most:
        raise _too_large(most)
    return bytes(found)


async def parse(body: bytes, content_type: str) -> Sent:
    """What `body` holds. Raises ApiError, BadInput."""
    if content_type.split(";")[0].strip().lower() == "multipart/form-data":
        return Sent(FORM, await _from_form(body, content_type))
    if not body:
        raise ApiError(400, "no_picture", "The body is empty: send a picture.")
    if body.lstrip(b" \t\r\n\xef\xbb\xbf")[:1] in (b"{", b"[", b'"'):
        return await asyncio.to_thread(_from_json, body)
    return Sent(BODY, body)


def _from_json(body: bytes) -> Sent:
    value = _json(body)
    if not isinstance(value, dict) or len(names := [name for name in _MEMBERS if name in value]) != 1:
        members = '"image" (base64 text), "image_url" or "data" (rows of pixels)'
        raise ApiError(400, "bad_request", f"The body must be an object with one of {members}.")
    if unknown := sorted(set(value) - set(_MEMBERS)):
        where = "beam, top and explain go into the address: ?top=3&explain=true"
        raise ApiError(400, "bad_request", f'"{unknown[0]}" is not understood in the body; {where}.')
    if names == ["data"]:
        rows = value["data"]
        # The rows may have been encoded by themselves.
        return Sent(PIXELS, png_of(_json(rows.encode()) if isinstance(rows, str) else rows), seed=True)
    text = value[names[0]]
    if not isinstance(text, str):
        raise ApiError(400, "bad_request", f'"{names[0]}" must be a text.')
    return Sent(URL, url=text) if names == ["image_url"] else Sent(BASE64, _decoded(text))


def _json(body: bytes) -> Any:
    """The value of `body`; a text is read once more, for the first API's users send JSON of JSON."""
    try:
        value = json.loads(body)
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        raise ApiError(400, "bad_request", "The body looks like JSON and is none.") from None


def _decoded(text: str) -> bytes:
    if text.startswith("data:"):  # as browsers write it
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(400, "bad_request", '"image" is not base64.') from None


async def _from_form(body: bytes, content_type: str) -> bytes:
    """The file of the field `image`. Raises ApiError."""

    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    # Nothing is spooled to a disk: the body is in memory already.
    parser = MultiPartParser(Headers({"content-type": content_type}), whole(), max_part_size=MAX_BODY)
    parser.spool_max_size = MAX_BODY
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise ApiError(400, "bad_request", f"The form cannot be read ({error}).") from None
    try:
        found = form.get("image")
        if isinstance(found, UploadFile):
            return await found.read()
    finally:
        await form.close()
    raise ApiError(400, "no_picture", 'The form has no file in the field "image".')


def _too_large(most: int) -> ApiError:
    limit = f"{most >> 20} MB: scale the picture down" if most == MAX_BODY else f"{most >> 10} KB"
    return ApiError(413, "too_large", f"The body is larger than {limit}.")
