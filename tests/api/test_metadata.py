"""What a picture tells of people goes; its pixels and which way is up stay."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from captioner.api.metadata import without_metadata
from captioner.images import inspect, normalise

PIXELS = np.arange(24 * 16 * 3, dtype=np.uint8).reshape(16, 24, 3)
SECRET = b"a secret place"


def telling(kind: str, orientation: int) -> bytes:
    """A picture with a place, a comment and an orientation."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.ImageDescription] = SECRET.decode()
    more: dict[str, object] = {"exif": exif.tobytes()}
    if kind == "JPEG":
        more |= {"comment": SECRET, "quality": 95}
    if kind == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_text("Comment", SECRET.decode())
        more["pnginfo"] = text
    if kind == "WEBP":
        more |= {"xmp": SECRET, "lossless": True}
    out = io.BytesIO()
    Image.fromarray(PIXELS).save(out, kind, **more)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_only_the_orientation_stays(kind: str, orientation: int) -> None:
    before = telling(kind, orientation)
    assert SECRET in before
    after = without_metadata(before, orientation)
    assert SECRET not in after
    assert inspect(after).orientation == orientation
    with Image.open(io.BytesIO(after)) as picture:
        assert set(picture.getexif()) <= {ExifTags.Base.Orientation}
    was, now = (np.asarray(Image.open(io.BytesIO(normalise(data)))) for data in (before, after))
    assert np.array_equal(was, now)


def test_other_formats_and_broken_ones_pass_as_they_are() -> None:
    for data in (
        b"",
        b"GIF89a",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xe1\xff",
        b"\x89PNG\r\n\x1a\n\0\0",
        b"RIFF\0\0\0\0WEBPx",
    ):
        assert len(without_metadata(data)) <= len(data) + 4


def test_a_colour_profile_stays() -> None:
    out = io.BytesIO()
    Image.fromarray(PIXELS).save(out, "JPEG", icc_profile=b"profile of colours")
    assert b"profile of colours" in without_metadata(out.getvalue())
