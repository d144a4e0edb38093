"""A picture as it was sent, checked by its header and made ready for the endpoint: what leaves here may be stored.

Content decides, never a name or a header of HTTP. Knows nothing of HTTP, and nothing of models.
"""

from __future__ import annotations

from dataclasses import dataclass

from captioner import images
from captioner.api.faults import ApiError
from captioner.api.metadata import JPEG, PNG, sniff, stripped

MAX_BYTES = 4 << 20
"""API Gateway and Lambda take 6 MB, of which base64 makes 4.5."""

SAYS = {JPEG: "image/jpeg", PNG: "image/png"}
ANY = "application/x-image"  # what the container takes for a picture of any kind


@dataclass(frozen=True)
class Picture:
    """What goes to the endpoint, and what it is: `width` and `height` upright, `type` in lower case."""

    data: bytes
    content_type: str
    type: str
    width: int
    height: int


def picture(data: bytes, keep_metadata: bool = False) -> Picture:
    """`data`, upright or saying how it is turned, without metadata unless it is to be kept.

    Raises ApiError (too large, not a picture), BadImage (damaged, too many pixels).
    """
    check_size(len(data))
    kind = sniff(data)
    if kind is None and not images_could_read(data):
        formats = "a JPEG, PNG or WebP"
        raise ApiError(415, "not_a_picture", f"This is no picture that can be read: send {formats}.")
    info = images.inspect(data, "The picture")
    turned = info.orientation >= 5
    width, height = (info.height, info.width) if turned else (info.width, info.height)
    if kind is None:
        data, sent = images.normalise(data, "The picture"), PNG
        check_size(len(data))
    else:
        sent = kind
        data = data if keep_metadata else stripped(data, info.orientation)
    said = "jpeg" if info.format == "MPO" else info.format.lower()
    return Picture(data, SAYS.get(sent, ANY), said, width, height)


def check_size(size: int) -> None:
    """Raises ApiError for a picture of too many bytes."""
    if size > MAX_BYTES:
        most = f"at most {MAX_BYTES >> 20} MB are taken"
        raise ApiError(413, "too_large", f"The picture has {size / 2**20:.1f} MB; {most}: scale it down.")


def images_could_read(data: bytes) -> bool:
    """Does some other format of images.py begin like this?"""
    starts = (
        b"GIF8",
        b"BM",
        b"II*\0",
        b"MM\0*",
        b"P1",
        b"P2",
        b"P3",
        b"P4",
        b"P5",
        b"P6",
        b"\0\0\0\x0cjP",
        b"\xff\x4f\xff\x51",
    )
    return data.startswith(starts) or data[4:12] in (b"ftypavif", b"ftypavis")
