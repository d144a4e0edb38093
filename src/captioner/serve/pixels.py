"""A picture as a nested list of pixels, ``[height][width][r, g, b]``: how the users of the first REST API send it.

The pixels become a PNG, so that they take the same way into the model as any file; nothing is scaled, cast or swapped
on a guess, for that is how colours get inverted. Knows nothing of HTTP.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from captioner.errors import BadInput


def png_of(rows: list[Any]) -> bytes:
    """A PNG of `rows`: whole numbers from 0 to 255, RGB. Raises BadInput."""
    try:
        pixels = np.asarray(rows)
    except ValueError:
        pixels = np.empty(0, object)  # rows of different lengths
    if pixels.dtype.kind not in "iuf" or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise BadInput("A list must be a picture: rows of pixels, each pixel the three numbers red, green, blue.")
    if not (pixels.min() >= 0 and pixels.max() <= 255 and np.all(pixels == np.rint(pixels))):
        raise BadInput("Pixels must be whole numbers from 0 to 255: send them as they are, not scaled or normalised.")
    out = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(out, "PNG", compress_level=1)
    return out.getvalue()
