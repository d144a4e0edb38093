"""Nothing but the picture leaves: pixels and how they look are the same, what was written beside them is gone."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from captioner.api.metadata import sniff, stripped
from captioner.images import inspect, normalise

SECRET = "52.5200 N, somebody's kitchen"
ORIENTATION, GPS = 0x0112, 0x8825


def scene(mode: str = "RGB", size: tuple[int, int] = (33, 21)) -> Image.Image:
    rng = np.random.default_rng(5)
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 65535, size[::-1], dtype=np.uint16))
    return Image.fromarray(rng.integers(0, 255, (*size[::-1], 3), dtype=np.uint8)).convert(mode)


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[ORIENTATION], found[0x010E] = orientation, SECRET
    found.get_ifd(GPS)[2] = (52.0, 31.0, 12.0)
    return found


def saved(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    out = io.BytesIO()
    scene(mode).save(out, kind, **options)
    return out.getvalue()


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = f'<x:xmpmeta xmlns:x="adobe:ns:meta/">{SECRET}</x:xmpmeta>'.encode()


def text() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", SECRET)
    info.add_itxt("Place", SECRET)
    info.add_text("Zipped", SECRET, zip=True)
    return info


def forms(orientation: int) -> dict[str, bytes]:
    """The scene with secrets in all the places that each format has."""
    jpeg: dict[str, Any] = {"exif": exif(orientation), "xmp": XMP, "comment": SECRET, "icc_profile": PROFILE}
    webp: dict[str, Any] = {"exif": exif(orientation), "xmp": XMP, "icc_profile": PROFILE}
    png: dict[str, Any] = {"exif": exif(orientation), "pnginfo": text(), "icc_profile": PROFILE}
    return {
        "jpeg": saved("JPEG", **jpeg),
        "progressive": saved("JPEG", progressive=True, **jpeg),
        "restarts": saved("JPEG", restart_marker_blocks=1, **jpeg),
        "cmyk": saved("JPEG", "CMYK", **{**jpeg, "icc_profile": None}),
        "grey": saved("JPEG", "L", **{**jpeg, "icc_profile": None}),
        "png": saved("PNG", **png),
        "palette": saved("PNG", "P", **{**png, "transparency": 3}),
        "16 bit": saved("PNG", "I;16", **{**png, "icc_profile": None}),
        "lossy webp": saved("WEBP", **webp),
        "lossless webp": saved("WEBP", lossless=True, **webp),
        "transparent webp": saved("WEBP", "RGBA", **webp),
    }


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("form", forms(1))
def test_the_picture_is_the_same_and_nothing_else_is_left(form: str, orientation: int) -> None:
    data = forms(orientation)[form]
    assert inspect(data).orientation == orientation
    found = stripped(data, orientation)
    assert SECRET.encode() not in found
    assert len(found) < len(data)
    with Image.open(io.BytesIO(data)) as before, Image.open(io.BytesIO(found)) as after:
        assert (before.format, before.mode, before.size) == (after.format, after.mode, after.size)
        assert np.array_equal(np.asarray(before), np.asarray(after))
        assert before.info.get("icc_profile") == after.info.get("icc_profile")
        assert dict(after.getexif()) == ({} if orientation == 1 else {ORIENTATION: orientation})
        assert not {"xmp", "comment", "Comment", "Place", "Zipped"} & set(after.info)
    assert inspect(found).orientation == orientation
    # What the endpoint makes of either is the same picture.
    pair = [Image.open(io.BytesIO(normalise(one))) for one in (data, found)]
    assert np.array_equal(*(np.asarray(one) for one in pair))
    assert stripped(found, orientation) == found


def test_the_second_picture_of_a_phones_file_goes_with_its_place() -> None:
    """MPO: a depth map or a wider view behind the picture, with an EXIF block of its own."""
    out = io.BytesIO()
    scene().save(out, "MPO", save_all=True, append_images=[scene().rotate(180)], exif=exif(1))
    data = out.getvalue()
    assert inspect(data).format == "MPO"
    found = stripped(data)
    assert inspect(found).format == "JPEG"
    assert found.count(b"\xff\xd8\xff") == 1
    assert SECRET.encode() not in found
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), np.asarray(Image.open(io.BytesIO(found))))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_what_hangs_behind_a_picture_goes(kind: str) -> None:
    data = saved(kind)
    found = stripped(data + SECRET.encode())
    assert SECRET.encode() not in found
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), np.asarray(Image.open(io.BytesIO(found))))


def test_an_animation_keeps_its_frames() -> None:
    for kind in ("PNG", "WEBP"):
        out = io.BytesIO()
        scene().save(out, kind, save_all=True, append_images=[scene().rotate(180)], exif=exif(1))
        with Image.open(io.BytesIO(stripped(out.getvalue()))) as after:
            assert after.n_frames == 2
            assert not dict(after.getexif())


def test_orientation_that_only_a_png_text_knows_is_kept() -> None:
    xmp = '<x:xmpmeta xmlns:x="adobe:ns:meta/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp)
    data = saved("PNG", pnginfo=info)
    orientation = inspect(data).orientation
    assert inspect(stripped(data, orientation)).orientation == orientation == 6


@pytest.mark.parametrize("form", forms(6))
def test_a_file_that_breaks_off_anywhere_is_no_error_here(form: str) -> None:
    data = forms(6)[form]
    for end in range(2, len(data), max(1, len(data) // 97)):
        assert SECRET.encode() not in stripped(data[:end], 6) or sniff(data[:end]) is None


def test_damage_stays_damage() -> None:
    """A chunk whose checksum is wrong is passed on as it is: whoever decodes it finds it."""
    data = bytearray(saved("PNG"))
    at = data.index(b"IDAT") + 10
    data[at] ^= 0xFF
    assert bytes(data[at - 10 : at + 1]) in stripped(bytes(data))
