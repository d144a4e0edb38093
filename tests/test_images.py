"""Odd pictures come out right, bad ones are refused, and TensorFlow and Pillow see the same in what passes."""

from __future__ import annotations

import io
import random
import struct
import time
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captioner import images
from captioner.errors import BadImage
from captioner.images import inspect, normalise

SIZE = (40, 24)


def photo(mode: str = "RGB", size: tuple[int, int] = SIZE) -> Image.Image:
    """A smooth, asymmetric picture: red grows to the right, green downwards, blue in one corner."""
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    blue = np.where((x < 64) & (y < 64), 200, 30)
    return Image.fromarray(np.stack([x, y, blue], -1).astype(np.uint8)).convert(mode)


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *before: bytes) -> bytes:
    """A PNG made by hand, for what Pillow does not write. `rows` hold their filter bytes."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(before) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


PLAIN = {
    "jpeg": lambda: encoded(photo(), "JPEG", quality=90),
    "grey jpeg": lambda: encoded(photo("L"), "JPEG"),
    "progressive jpeg": lambda: encoded(photo(), "JPEG", progressive=True),
    "jpeg without subsampling": lambda: encoded(photo(), "JPEG", subsampling=0),
    "rgb jpeg": lambda: encoded(photo(), "JPEG", keep_rgb=True),
    "multi-picture jpeg": lambda: encoded(photo(), "MPO", save_all=True, append_images=[photo().rotate(180)]),
    "png": lambda: encoded(photo(), "PNG"),
    "grey png": lambda: encoded(photo("L"), "PNG"),
    "1x1 jpeg": lambda: encoded(photo(size=(1, 1)), "JPEG"),
    "1x1 png": lambda: encoded(photo(size=(1, 1)), "PNG"),
    "png with gamma": lambda: png(
        2, 1, 8, 2, bytes([0, 10, 20, 30, 90, 80, 70]), chunk(b"gAMA", struct.pack(">I", 45455))
    ),
}

ODD = {
    "rgba png": lambda: encoded(photo("RGBA"), "PNG"),
    "palette png": lambda: encoded(photo("P"), "PNG"),
    "black and white png": lambda: encoded(photo("1"), "PNG"),
    "gif": lambda: encoded(photo("P"), "GIF"),
    "bmp": lambda: encoded(photo(), "BMP"),
    "tiff": lambda: encoded(photo(), "TIFF"),
    "webp": lambda: encoded(photo(), "WEBP", lossless=True),
    "ppm": lambda: encoded(photo(), "PPM"),
    "jpeg 2000": lambda: encoded(photo(), "JPEG2000"),
    "cmyk jpeg": lambda: encoded(photo("CMYK"), "JPEG"),
    "1x1 palette": lambda: encoded(photo("P", (1, 1)), "PNG"),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_pictures_pass_through_untouched(kind: str) -> None:
    data = PLAIN[kind]()
    assert normalise(data) is data


@pytest.mark.parametrize("kind", ODD)
def test_odd_pictures_become_rgb_png_with_the_same_pixels(kind: str) -> None:
    data = ODD[kind]()
    result = normalise(data)
    info = inspect(result)
    assert (info.format, info.mode, info.orientation, info.frames) == ("PNG", "RGB", 1, 1)
    assert np.array_equal(pixels(result), pixels(data))


@pytest.mark.parametrize("kind", [*PLAIN, *ODD])
def test_tensorflow_sees_what_pillow_sees(kind: str) -> None:
    tf = pytest.importorskip("tensorflow")
    data = (PLAIN | ODD)[kind]()
    seen = tf.io.decode_image(normalise(data), channels=3, expand_animations=False).numpy().astype(int)
    expected = pixels(data)
    assert seen.shape == expected.shape
    assert np.abs(seen - expected).max() <= 12  # decode_image rounds JPEG's transform in its own way
    assert np.abs(seen - expected).mean() < 1.5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    data = encoded(photo(), kind, exif=exif, **options)
    # Pillow turns a TIFF by itself when it reads one; a JPEG's pixels are only known once it is made.
    stored = pixels(data) if kind == "JPEG" else np.asarray(photo()).astype(int)
    upright = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(stored, 1),
    }[orientation]
    assert inspect(data).orientation == orientation
    result = normalise(data)
    assert np.array_equal(pixels(result), upright)
    assert inspect(result).orientation == 1


def test_an_impossible_orientation_is_none() -> None:
    exif = Image.Exif()
    exif[0x0112] = 77
    data = encoded(photo(), "JPEG", exif=exif)
    assert normalise(data) is data


def test_cmyk_has_its_colours() -> None:
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert np.abs(pixels(normalise(encoded(red, "JPEG", quality=100))) - [255, 0, 0]).max() <= 4


def test_transparency_is_laid_over_white() -> None:
    picture = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    picture.putpixel((1, 0), (200, 0, 0, 128))
    left, right = pixels(normalise(encoded(picture, "PNG")))[0]
    assert list(left) == [255, 255, 255]
    assert np.abs(right - [227, 127, 127]).max() <= 1


def test_a_transparent_palette_colour_is_white() -> None:
    picture = Image.new("P", (2, 1), 0)
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.putpixel((1, 0), 1)
    assert pixels(normalise(encoded(picture, "GIF", transparency=0)))[0].tolist() == [[255, 255, 255], [40, 50, 60]]


def test_a_transparent_colour_of_an_rgb_png_is_white() -> None:
    data = png(2, 1, 8, 2, bytes([0, 9, 9, 9, 40, 50, 60]), chunk(b"tRNS", bytes([0, 9, 0, 9, 0, 9])))
    assert pixels(normalise(data))[0].tolist() == [[255, 255, 255], [40, 50, 60]]


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    values = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    for kind in ("PNG", "TIFF"):
        result = pixels(normalise(encoded(Image.fromarray(values), kind)))
        assert result[0, :, 0].tolist() == [0, 1, 128, 255]


def test_sixteen_bit_grey_with_a_transparent_value() -> None:
    row = b"\0" + struct.pack(">3H", 0, 1000, 65535)
    assert pixels(normalise(png(3, 1, 16, 0, row, chunk(b"tRNS", struct.pack(">H", 1000)))))[0, :, 0].tolist() == [
        0,
        255,
        255,
    ]


@pytest.mark.parametrize(
    ("colour", "values", "expected"), [(2, (0, 32768, 65535), [0, 128, 255]), (4, (65535, 0), [255] * 3)]
)
def test_sixteen_bit_colour_and_alpha(colour: int, values: tuple[int, ...], expected: list[int]) -> None:
    data = png(1, 1, 16, colour, b"\0" + struct.pack(f">{len(values)}H", *values))
    result = normalise(data)
    assert result != data
    assert pixels(result)[0, 0].tolist() == expected


def test_float_pictures_are_scaled_by_their_range() -> None:
    for values, expected in (([0.0, 0.5, 1.0], [0, 128, 255]), ([0.0, 127.0, 255.0], [0, 127, 255])):
        data = encoded(Image.fromarray(np.array([values], dtype=np.float32)), "TIFF")
        assert pixels(normalise(data))[0, :, 0].tolist() == expected


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_an_animation_gives_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", SIZE, colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert inspect(data).frames == 3
    result = normalise(data)
    assert inspect(result).frames == 1
    assert (pixels(result) == [255, 0, 0]).all()


def test_inspect_tells_the_header() -> None:
    info = inspect(encoded(photo("CMYK"), "JPEG"))
    assert info == images.ImageInfo("JPEG", "CMYK", *SIZE, frames=1, orientation=1)


@pytest.mark.parametrize("call", [normalise, inspect])
@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b"this is no picture, whatever its name says\n" * 50, "not a picture"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "damaged or cut short|not a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not a picture"),
        (random.Random(0).randbytes(5000), "not a picture"),
    ],
)
def test_what_is_no_picture_is_refused(call: Any, data: bytes, says: str) -> None:
    with pytest.raises(BadImage, match=says) as error:
        call(data, "cat.jpg")
    assert str(error.value).startswith("cat.jpg ")
    assert "\n" not in str(error.value)


# What is lost at the end of the others need not be the first picture's.
@pytest.mark.parametrize("kind", sorted({*PLAIN, *ODD} - {"multi-picture jpeg", "webp", "gif"}))
def test_a_picture_that_is_cut_short_is_refused(kind: str) -> None:
    data = (PLAIN | ODD)[kind]()
    for share in (0.3, 0.6, 0.9):
        with pytest.raises(BadImage):
            normalise(data[: int(len(data) * share)])


@pytest.mark.parametrize("kind", ["jpeg", "progressive jpeg", "png"])
def test_a_picture_without_its_last_bytes_is_refused(kind: str) -> None:
    data = PLAIN[kind]()
    for missing in range(1, 20):
        with pytest.raises(BadImage):
            normalise(data[:-missing])


@pytest.mark.parametrize("kind", ["jpeg", "progressive jpeg", "grey jpeg", "png"])
def test_whatever_passes_can_be_decoded_by_tensorflow(kind: str) -> None:
    tf = pytest.importorskip("tensorflow")
    whole, dice = PLAIN[kind](), random.Random(kind)
    passed = 0
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        try:
            result = normalise(bytes(data))
        except BadImage:
            continue
        assert tf.io.decode_image(result, channels=3, expand_animations=False).shape[2] == 3
        passed += 1
    assert passed > 0 or kind == "png"  # a PNG has checksums: hardly anything passes


def bomb(kind: str, width: int, height: int) -> bytes:
    if kind == "png":
        return png(width, height, 8, 2, b"\0" * 100)
    if kind == "gif":
        return (
            b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0" + b"\0" * 6 + b",\0\0\0\0\1\0\1\0\0\2\2D\1\0;"
        )
    if kind == "bmp":
        return (
            b"BM"
            + struct.pack("<IHHIIiiHHIIiiII", 1000, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
            + b"\0" * 900
        )
    data = bytearray(encoded(photo(), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize("kind", ["png", "gif", "bmp", "jpeg"])
@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (9_000, 12_000), (50_001, 1_000)])
def test_a_bomb_is_refused_by_its_header(kind: str, width: int, height: int) -> None:
    data = bomb(kind, width, height)
    assert len(data) < 2000
    started = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(BadImage, match="at most 50 million") as error:
            normalise(data, "bomb")
    assert time.monotonic() - started < 1.0
    assert f"{width}x{height}" in str(error.value) or f"{width * height:,} pixels" in str(error.value)


def test_a_picture_just_under_the_limit_is_not_refused_for_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", SIZE[0] * SIZE[1])
    assert normalise(PLAIN["png"]())
    monkeypatch.setattr(images, "MAX_PIXELS", SIZE[0] * SIZE[1] - 1)
    with pytest.raises(BadImage, match=r"40x24 pixels"):
        normalise(PLAIN["png"]())


def test_a_photo_costs_little() -> None:
    data = encoded(photo(size=(500, 375)), "JPEG", quality=90)
    normalise(data)
    started = time.perf_counter()
    for _ in range(20):
        normalise(data)
    assert (time.perf_counter() - started) / 20 < 0.02  # measured: 0.001; other work may share the machine
