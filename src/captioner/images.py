"""Pictures from anywhere, made into what TensorFlow decodes right; or refused with one sentence.

TensorFlow ignores EXIF orientation, reads 16-bit PNG, palettes and CMYK its own way, and meets a decompression bomb
too late. Here the header is looked at before any pixel; a plain 8-bit RGB or grey JPEG or PNG passes through untouched
(after a cheap check that it is whole), everything else becomes an RGB PNG. Every way into the model starts here:
features, the command line and the server. Knows nothing of TensorFlow, and of no size but the limit on pixels.
"""

from __future__ import annotations

import io
import re
import threading
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from captioner.errors import BadImage

MAX_PIXELS = 50_000_000
"""Larger pictures are refused by their header, before memory is spent on them."""

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
"""What is accepted, by content. Formats that run a program (EPS) or need a system library are left out on purpose."""

_READABLE = "JPEG, PNG, GIF, BMP, TIFF, WebP, AVIF or JPEG 2000"
_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
_ARITHMETIC_SOF = frozenset((0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF))
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_WARNINGS = threading.Lock()  # the filters of `warnings` belong to the whole process


@dataclass(frozen=True)
class ImageInfo:
    """What a picture's header says. `orientation` is the EXIF value, 1 (as stored) to 8; `mode` is Pillow's name."""

    format: str
    mode: str
    width: int
    height: int
    frames: int
    orientation: int


def inspect(data: bytes, source: str = "image") -> ImageInfo:
    """What a picture is, by its header. Raises BadImage when it is none, or over the pixel limit.

    Pixels are decoded for PNG only, whose EXIF block may lie behind them.
    """
    with _open(data, source) as picture:
        try:
            frames = int(getattr(picture, "n_frames", 1))
            kind = picture.format or ""
            return ImageInfo(kind, picture.mode, picture.width, picture.height, frames, _orientation(picture))
        except Exception as error:
            raise _unreadable(source, error) from None


def normalise(data: bytes, source: str = "image", whole: bool = False) -> bytes:
    """JPEG or PNG bytes of the same picture that TensorFlow decodes right, as 8-bit RGB or grey, upright, one frame.

    `source` names the picture in errors. `whole`: these very bytes were found whole before, and are not decoded once
    more to find out. Raises BadImage when it is empty, not a picture, cut short, damaged or over the pixel limit.
    Damage inside a JPEG that every decoder conceals (wrong blocks, nothing missing) is not found.
    """
    with _open(data, source) as picture:
        try:
            if picture.format == "PNG" and not whole:
                _check_chunks(data)
            if _is_plain(picture, data):
                if not whole:
                    _check_pixels(picture)
                return data
            return _as_png(picture)
        except Exception as error:
            raise _unreadable(source, error) from None


def _open(data: bytes, source: str) -> Image.Image:
    """The picture with its header read and its size checked; its pixels are not touched."""
    if not data:
        raise BadImage(f"{source} is empty (0 bytes).")
    Image.init()  # `formats` only knows the plugins that are loaded; after the first time this does nothing
    try:
        with _WARNINGS, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        count = re.search(r"\d+", str(error))
        raise BadImage(_too_large(source, f"{int(count[0]):,} pixels" if count else "far too many pixels")) from None
    except UnidentifiedImageError:
        raise BadImage(f"{source} is not a picture that can be read: give a {_READABLE} file.") from None
    except Exception as error:  # Pillow's parsers raise nearly anything when they meet foreign bytes
        raise _unreadable(source, error) from None
    if picture.width * picture.height > MAX_PIXELS:
        raise BadImage(_too_large(source, f"{picture.width}x{picture.height} pixels"))
    return picture


def _is_plain(picture: Image.Image, data: bytes) -> bool:
    """Whether TensorFlow makes of these bytes exactly the upright 8-bit picture that Pillow does."""
    if picture.mode not in ("RGB", "L") or "transparency" in picture.info or _orientation(picture) != 1:
        return False
    if picture.format in ("JPEG", "MPO"):
        return not _is_arithmetic(data)
    if picture.format == "PNG":  # byte 24 is the bit depth: 16-bit RGB has mode RGB too
        return data[24] == 8 and not getattr(picture, "is_animated", False)
    return False


def _is_arithmetic(data: bytes) -> bool:
    """Whether a JPEG is arithmetic-coded, which Pillow decodes and TensorFlow may not."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return marker in _ARITHMETIC_SOF
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def _check_chunks(data: bytes) -> None:
    """Raise when a PNG's checksums are wrong or its end is missing: decoding alone would overlook both."""
    with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
        picture.verify()
    if _PNG_END not in data:
        raise OSError("the last chunk is missing")


def _check_pixels(picture: Image.Image) -> None:
    """Raise when pixels are missing. A JPEG is decoded at an eighth of its size: all is read, at little cost."""
    picture.draft(picture.mode, (1, 1))
    picture.load()


def _as_png(picture: Image.Image) -> bytes:
    picture.load()
    upright = ImageOps.exif_transpose(_eight_bit(picture))
    out = io.BytesIO()
    _on_white(upright).save(out, "PNG", compress_level=1)
    return out.getvalue()


def _eight_bit(picture: Image.Image) -> Image.Image:
    """Modes of more than 8 bits (16-bit grey, integers, floats) scaled to 8; Pillow's own conversion would clip."""
    if not (picture.mode.startswith("I") or picture.mode == "F"):
        return picture
    values = np.nan_to_num(np.asarray(picture, dtype=np.float64))
    top = 65535.0 if picture.mode.startswith("I;16") else _white(float(values.max(initial=0.0)))
    pixels = np.rint(np.clip(values / top, 0.0, 1.0) * 255.0).astype(np.uint8)
    if isinstance(picture.info.get("transparency"), int):
        pixels[values == picture.info["transparency"]] = 255
    scaled = Image.fromarray(pixels)
    scaled.getexif()[ExifTags.Base.Orientation] = _orientation(picture)
    return scaled


def _white(largest: float) -> float:
    """White, where the mode does not say: the end of the first usual range that holds `largest`."""
    return next((top for top in (1.0, 255.0, 65535.0, 4294967295.0) if largest <= top), largest)


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode in _ALPHA or "transparency" in picture.info:
        pixels = picture.convert("RGBA")
        white = Image.new("RGBA", pixels.size, "white")
        return Image.alpha_composite(white, pixels).convert("RGB")
    return picture.convert("RGB")


def _orientation(picture: Image.Image) -> int:
    value = picture.getexif().get(ExifTags.Base.Orientation, 1)
    return value if value in range(1, 9) else 1


def _too_large(source: str, size: str) -> str:
    return f"{source} has {size}; at most {MAX_PIXELS // 1_000_000} million are accepted: scale it down."


def _unreadable(source: str, error: Exception) -> BadImage:
    return BadImage(f"{source} is damaged or cut short ({_first_line(error)}): give a whole file.")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0] or type(error).__name__
