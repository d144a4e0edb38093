"""The picture in a request, however it came: raw, multipart, base64, a URL, or the first API's list of pixels.

Judged by what it is, never by what it is called. What goes on to the endpoint holds no metadata but the orientation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from captioner.api.metadata import stripped
from captioner.api.refusals import Refusal
from captioner.images import inspect
from captioner.serve.pixels import png_of
from captioner.serve.requests import decode_image, read_json

MAX_BODY = 6_000_000  # of a request: a base64 picture of MAX_IMAGE, or a list of 224x224 pixels
MAX_IMAGE = 4_000_000  # of a picture: base64 adds a third, and Lambda and SageMaker take 6 MB
FORMATS = ("JPEG", "PNG", "WEBP")
_KEYS = ("image", "image_url", "data")


@dataclass(frozen=True)
class Picture:
    """Encoded bytes, what their header says, and whether it came as the first API's users send it."""

    data: bytes
    format: str
    width: int
    height: int
    first_api: bool = False


def from_json(body: bytes, fetch: Callable[[str, int], bytes], keep_metadata: bool = False) -> Picture:
    """``{"image"}`` (base64), ``{"image_url"}`` or the first API's ``{"data"}``, JSON of JSON as well."""
    value = read_json(body)
    given = [key for key in _KEYS if isinstance(value, dict) and key in value]
    if len(given) != 1:
        raise Refusal(400, "bad_request", 'The body must be an object with "image" (base64), "image_url" or "data".')
    content = value[given[0]]
    if given[0] == "data":
        pixels = png_of(read_json(content) if isinstance(content, str) else content)
        return from_bytes(pixels, keep_metadata, first_api=True)
    if given[0] == "image":
        return from_bytes(decode_image(content, "image"), keep_metadata)
    if not isinstance(content, str):
        raise Refusal(400, "bad_request", '"image_url" must be text.')
    return from_bytes(fetch(content, MAX_IMAGE), keep_metadata)


def from_bytes(data: bytes, keep_metadata: bool = False, first_api: bool = False) -> Picture:
    """The picture that these bytes are, freed of metadata.

    Raises BadImage for what is no picture or has too many pixels, Refusal for a large one or another format.
    """
    if len(data) > MAX_IMAGE:
        raise Refusal(413, "too_large", f"The picture has {len(data)} bytes; {MAX_IMAGE} at most are taken.")
    info = inspect(data, "The picture")
    kind = "JPEG" if info.format == "MPO" else info.format  # what some phones call a JPEG with a second picture in it
    if kind not in FORMATS:
        raise Refusal(415, "bad_format", f"The picture is a {kind}; JPEG, PNG and WebP are taken.")
    turned = info.orientation >= 5
    width, height = (info.height, info.width) if turned else (info.width, info.height)
    sent = data if keep_metadata else stripped(data, info.orientation)
    return Picture(sent, kind, width, height, first_api)
