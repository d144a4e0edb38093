"""What a request asks for: the images in a body and how to caption them. Knows nothing of HTTP servers or models."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from captioner.errors import BadInput
from captioner.serve.pixels import png_of

IMAGE_TYPES = ("image/jpeg", "image/png", "application/x-image")
JSON_TYPE = "application/json"
MAX_IMAGES = 16
_KEYS = ("image", "images", "beam", "top", "explain")


@dataclass(frozen=True)
class CaptionRequest:
    """Encoded images, as they came. `batch`: the answer is a list. `explain`: tell where the model looked."""

    images: tuple[bytes, ...]
    batch: bool = False
    beam: int | None = None
    top: int | None = None
    explain: bool = False


def parse(content_type: str, body: bytes) -> CaptionRequest:
    """Read a body of one of IMAGE_TYPES or JSON_TYPE. Raises BadInput with one sentence."""
    if content_type in IMAGE_TYPES:
        return CaptionRequest((body,))
    value = read_json(body)
    if isinstance(value, list):
        return CaptionRequest((png_of(value),))
    if not isinstance(value, dict) or ("image" in value) == ("images" in value):
        raise BadInput(
            'The body must be an object with "image" (base64 text) or "images" (a list of such texts), '
            "or a picture as a list of pixel rows."
        )
    unknown = sorted(set(value) - set(_KEYS))
    if unknown:
        raise BadInput(f'"{unknown[0]}" is not understood; the keys are: {", ".join(_KEYS)}.')
    beam, top = _count(value, "beam"), _count(value, "top")
    explain = value.get("explain", False)
    if not isinstance(explain, bool):
        raise BadInput('"explain" must be true or false.')
    if "image" in value:
        return CaptionRequest((decode_image(value["image"], "image"),), beam=beam, top=top, explain=explain)
    if explain:
        raise BadInput('"explain" goes with one "image".')
    images = value["images"]
    if not isinstance(images, list) or not 1 <= len(images) <= MAX_IMAGES:
        raise BadInput(f'"images" must be a list of 1 to {MAX_IMAGES} texts.')
    decoded = tuple(decode_image(image, f"images[{index}]") for index, image in enumerate(images))
    return CaptionRequest(decoded, batch=True, beam=beam, top=top)


def read_json(body: bytes | str) -> Any:
    """The value of `body`. The first API's users send JSON of JSON: a text is read once more. Raises BadInput."""
    try:
        value = json.loads(body)
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        raise BadInput("The body is not JSON.") from None


def decode_image(value: Any, name: str) -> bytes:
    """The bytes of the base64 text `value`, which is called `name`. Raises BadInput."""
    if not isinstance(value, str):
        raise BadInput(f'"{name}" must be base64 text.')
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise BadInput(f'"{name}" is not base64.') from None


def _count(value: dict[str, Any], name: str) -> int | None:
    count = value.get(name)
    if count is not None and (not isinstance(count, int) or isinstance(count, bool)):
        raise BadInput(f'"{name}" must be a whole number.')
    return count
