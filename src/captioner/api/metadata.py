"""A picture's bytes without what was written beside the picture: place, time, camera, owner, thumbnails, comments.

Lossless: compressed pixels are copied, not decoded. What decides how pixels look stays (colour profile, Adobe's marker,
transparency), and so does the orientation, alone in a new EXIF block. JPEG, PNG and WebP only: other formats are
re-encoded by ``images.normalise``, which keeps nothing. A file whose structure breaks off is cut there: whoever decodes
it says what is wrong with it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

JPEG, PNG, WEBP = "JPEG", "PNG", "WEBP"

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Chunks that pixels need, and those that say how they look; everything else in a PNG is text or somebody's own.
_PNG_KEPT = frozenset(b"IHDR PLTE IDAT IEND tRNS gAMA cHRM sRGB iCCP sBIT bKGD pHYs cICP acTL fcTL fdAT".split())
_WEBP_KEPT = frozenset((b"VP8 ", b"VP8L", b"ALPH", b"ICCP", b"ANIM", b"ANMF"))
_WEBP_EXIF, _WEBP_XMP = 0x08, 0x04


def sniff(data: bytes) -> str | None:
    """JPEG, PNG or WEBP by the first bytes, None for anything else."""
    if data.startswith(b"\xff\xd8\xff"):
        return JPEG
    if data.startswith(_PNG_SIGNATURE):
        return PNG
    return WEBP if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def stripped(data: bytes, orientation: int = 1) -> bytes:
    """`data` (JPEG, PNG or WebP) with nothing but the picture; `orientation` is its EXIF value, 1 to 8."""
    kind = sniff(data)
    if kind == JPEG:
        return _jpeg(data, orientation)
    return _png(data, orientation) if kind == PNG else _webp(data, orientation)


def _exif(orientation: int) -> bytes:
    """A TIFF block that holds the orientation and nothing else."""
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"MM\0*" + struct.pack(">IH", 8, 1) + entry + b"\0\0\0\0"


# JPEG (ITU-T T.81, annex B): segments of FF, marker, length; then scans; then EOI.
def _jpeg(data: bytes, orientation: int) -> bytes:
    segments = list(_segments(data))
    parts = [b"\xff\xd8"]
    # EXIF comes first or right after JFIF's own segment.
    parts += [part for marker, part in segments[:1] if marker == 0xE0]
    if orientation != 1:
        block = b"Exif\0\0" + _exif(orientation)
        parts.append(b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block)
    for at, (marker, part) in enumerate(segments):
        if at == 0 and marker == 0xE0:
            continue
        if _is_kept(marker, part):
            parts.append(part)
    return b"".join(parts)


def _is_kept(marker: int, part: bytes) -> bool:
    if marker == 0xE2:
        return part[4:].startswith(b"ICC_PROFILE\0")
    if marker == 0xEE:
        return part[4:].startswith(b"Adobe")
    return not (0xE0 <= marker <= 0xEF or marker == 0xFE)


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, bytes) up to EOI; a scan's bytes go with its marker. What follows EOI is another picture."""
    at = 2
    while at + 2 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill
            at += 1
            continue
        if marker == 0xD9:
            yield marker, data[at : at + 2]
            return
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:
            yield marker, data[at : at + 2]
            at += 2
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end < at + 4:
            return
        if marker == 0xDA:
            end = _end_of_scan(data, end)
        yield marker, data[at:end]
        at = end


def _end_of_scan(data: bytes, at: int) -> int:
    """Where the entropy-coded bytes from `at` end: at the next marker that is no restart and no stuffed zero."""
    while (at := data.find(b"\xff", at)) >= 0:
        following = data[at + 1 : at + 2]
        if following and following[0] != 0 and not 0xD0 <= following[0] <= 0xD7 and following[0] != 0xFF:
            return at
        at += 1 if following == b"\xff" else 2
    return len(data)


# PNG (ISO/IEC 15948): length, type, data, CRC.
def _png(data: bytes, orientation: int) -> bytes:
    parts, at = [_PNG_SIGNATURE], len(_PNG_SIGNATURE)
    while at + 8 <= len(data):
        kind, end = data[at + 4 : at + 8], at + 12 + int.from_bytes(data[at : at + 4], "big")
        if kind in _PNG_KEPT:
            parts.append(data[at:end])
        if kind == b"IHDR" and orientation != 1:
            parts.append(_png_chunk(b"eXIf", _exif(orientation)))
        if kind == b"IEND":
            break
        at = end
    return b"".join(parts)


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


# WebP (RFC 9649): RIFF chunks, a flag in VP8X for each kind that is there.
def _webp(data: bytes, orientation: int) -> bytes:
    parts, at = [], 12
    while at + 8 <= len(data):
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + size + size % 2
        if kind == b"VP8X" and size >= 1:
            flags = data[at + 8] & ~(_WEBP_EXIF | _WEBP_XMP) | (_WEBP_EXIF if orientation != 1 else 0)
            parts.append(data[at : at + 8] + bytes([flags]) + data[at + 9 : end])
        elif kind in _WEBP_KEPT:
            parts.append(data[at:end])
        at = end
    if orientation != 1:  # there was a VP8X, or nothing could have said so
        parts.append(_riff_chunk(b"EXIF", _exif(orientation)))
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _riff_chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
