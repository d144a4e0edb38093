"""Pictures without what they tell of people: EXIF (place, camera, time), XMP, IPTC and comments go, pixels stay.

The orientation stays, because it is part of the picture. Works on the containers of JPEG, PNG and WebP, byte by byte,
so it costs next to nothing and loses nothing; other formats pass as they are. Whatever cannot be followed is left to
whoever decodes it next.
"""

from __future__ import annotations

import struct
import zlib

_EXIF = b"Exif\0\0"
_JPEG_GONE = frozenset((0xE1, 0xED, 0xFE))  # APP1: EXIF and XMP; APP13: IPTC; comments
_PNG_GONE = frozenset((b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"tIME"))
_PNG = b"\x89PNG\r\n\x1a\n"


def without_metadata(data: bytes, orientation: int = 1) -> bytes:
    """The same picture; `orientation` (1 to 8, as `images.inspect` found it) is all that is told beside the pixels."""
    try:
        if data[:2] == b"\xff\xd8":
            return _jpeg(data, orientation)
        if data[:8] == _PNG:
            return _png(data, orientation)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data, orientation)
    except (struct.error, IndexError):
        return data
    return data


def _tiff(orientation: int) -> bytes:
    """The smallest EXIF block: one entry, tag 0x0112, a short."""
    return b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)


def _jpeg(data: bytes, orientation: int) -> bytes:
    kept = [data[:2]]
    if orientation != 1:
        block = _EXIF + _tiff(orientation)
        kept.append(b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block)
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == 0xDA or 0xD0 <= marker <= 0xD9 or marker == 0x01:
            break
        end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
        if marker not in _JPEG_GONE:
            kept.append(data[at:end])
        at = end
    return b"".join([*kept, data[at:]])


def _png(data: bytes, orientation: int) -> bytes:
    kept, at = [data[:8]], 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if kind not in _PNG_GONE:
            kept.append(data[at:end])
        if kind == b"IHDR" and orientation != 1:
            block = b"eXIf" + _tiff(orientation)
            kept.append(struct.pack(">I", len(block) - 4) + block + struct.pack(">I", zlib.crc32(block)))
        at = end
    return b"".join(kept)


def _webp(data: bytes, orientation: int) -> bytes:
    chunks, at = [], 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        end = at + 8 + length + length % 2
        if kind == b"VP8X":
            flags = data[at + 8] & ~0x0C | (0x08 if orientation != 1 else 0)  # EXIF and XMP are (not) there
            chunks.append(data[at : at + 8] + bytes([flags]) + data[at + 9 : end])
        elif kind not in (b"EXIF", b"XMP "):
            chunks.append(data[at:end])
        at = end
    if orientation != 1:
        block = _tiff(orientation)
        chunks.append(b"EXIF" + struct.pack("<I", len(block)) + block + b"\0" * (len(block) % 2))
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body
