"""Where a network looked, drawn: the picture, then one panel for each word of its caption, as one PNG.

A panel shows the picture pale and grey but for the parts that the word was chosen by. Where the network could look away
(it has a sentinel), a bar below says how much of the choice was looking at all, the rest being what it remembered.
Pillow alone draws: the same input gives the same bytes. Knows nothing of models.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from captioner.errors import BadData

Array = npt.NDArray[np.float64]

MARK = "captioner: where the network looked"
"""In the PNG's own text, so that a picture that somebody took is never taken for one that was drawn here."""

AREA = 190 * 190  # pixels of a panel's picture, whatever its shape
LONGEST, NARROWEST = 330, 96  # pixels: the longest side of a panel's picture, and the width of its column
GAP, MARGIN = 18, 28
WIDTH = 1240  # pixels that the panels of one row share

PAPER, INK, SOFT, TRACK = (255, 255, 255), (31, 35, 40), (98, 106, 115), (226, 223, 216)
BAR = (194, 101, 42)
WARM, HOT = np.array([255.0, 214.0, 130.0]), np.array([255.0, 112.0, 40.0])
SHADE = 0.32  # how bright a black part of the picture is in colour
PALE = 0.45  # how far the picture fades to white where the network did not look
FAINT = 0.35  # how much of a map is left where the network did not look at the picture at all
ALWAYS = 0.999  # a share that rounding alone keeps from 1
LEGEND = "Orange: where the network looked when it chose the word."
BAR_LEGEND = (
    "The bar: how much of the choice was looking; the rest was memory, of the words before and of the whole picture."
)


@dataclass(frozen=True)
class Looks:
    """A caption and where each of its T words came from: `attention` [T, cells] and `sentinel` [T], together 1."""

    caption: str
    words: Sequence[str]
    attention: npt.ArrayLike
    sentinel: npt.ArrayLike


def draw(picture: bytes, looks: Looks, title: str = "") -> bytes:
    """The PNG. `picture` went through images.normalise. Raises BadData when the cells are no square grid."""
    with Image.open(io.BytesIO(picture)) as opened:
        whole = opened.convert("RGB")
    weights = np.asarray(looks.attention, np.float64).reshape(len(looks.words), -1)
    shares = 1.0 - np.clip(np.asarray(looks.sentinel, np.float64), 0.0, 1.0)
    side = math.isqrt(weights.shape[1])
    if side * side != weights.shape[1]:
        raise BadData(f"A grid of {weights.shape[1]} cells is not square: it cannot be laid over a picture.")
    size = panel_size(*whole.size)
    small = whole.resize(size, Image.Resampling.LANCZOS)
    looks_away = bool((shares < ALWAYS).any())
    panels = []
    for word, grid, share in zip(looks.words, weights, shares, strict=True):
        panel = _column(lit(small, grid.reshape(side, side), share), word)
        panels.append(_with_bar(panel, share) if looks_away else panel)
    legend = f"{LEGEND} {BAR_LEGEND}" if looks_away else LEGEND
    sheet = _sheet([_column(small, None), *panels], looks.caption, title, legend)
    out = io.BytesIO()
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", MARK)
    text.add_text("Description", looks.caption)
    sheet.save(out, "PNG", pnginfo=text, optimize=True)
    return out.getvalue()


def is_drawn_here(data: bytes) -> bool:
    """Is `data` a PNG that `draw` gave?"""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as opened:
            return opened.info.get("Title") == MARK
    except (OSError, ValueError):
        return False


def panel_size(width: int, height: int) -> tuple[int, int]:
    """A panel's pixels for a picture of this shape: the same area for all, as long as no side gets too long."""
    scale = min(math.sqrt(AREA / (width * height)), LONGEST / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def lit(picture: Image.Image, grid: Array, share: float) -> Image.Image:
    """`picture` pale and grey, coloured where `grid` [side, side] has weight: the more, the warmer.

    The brightest cell is as warm for a `share` of 1 as it gets; where the network hardly looked, its map is faint.
    """
    light = spread(grid, picture.size)[..., None] * (FAINT + (1 - FAINT) * math.sqrt(share))
    grey = np.asarray(picture.convert("L"), np.float64)[..., None]
    pale = grey + PALE * (255.0 - grey)
    # The colour carries the picture's light and not its colours: blue water below orange glass would look grey.
    heat = WARM + light * (HOT - WARM)
    coloured = heat * (SHADE + (1 - SHADE) * grey / 255.0)
    strength = np.minimum(1.0, 1.15 * light)
    return Image.fromarray(np.rint(pale + strength * (coloured - pale)).clip(0, 255).astype(np.uint8))


def spread(grid: Array, size: tuple[int, int]) -> Array:
    """The grid's weights as light, 0 to 1, for each pixel: [height, width], smooth, the brightest cell at 1.

    A cell stands for a square of the picture as it was stretched, so the grid covers the whole of it.
    """
    top = float(grid.max())
    relative = (grid / top if top > 0 else grid).astype(np.float32)
    smooth = Image.fromarray(relative).resize(size, Image.Resampling.BICUBIC)
    return np.clip(np.asarray(smooth, np.float64), 0.0, 1.0)


def _with_bar(panel: Image.Image, share: float) -> Image.Image:
    pen = ImageDraw.Draw(panel)
    left, right = (panel.width - _bar(panel)) // 2, (panel.width + _bar(panel)) // 2
    top = panel.height - 26
    pen.rounded_rectangle((left, top, right, top + 5), 2, fill=TRACK)
    filled = round((right - left) * share)
    if filled >= 2:
        pen.rounded_rectangle((left, top, left + filled, top + 5), 2, fill=BAR)
    pen.text((panel.width / 2, top + 9), f"{share:.0%} looking", font=_font(11), fill=SOFT, anchor="ma")
    return panel


def _bar(panel: Image.Image) -> int:
    return min(panel.width, NARROWEST)


def _column(picture: Image.Image, word: str | None) -> Image.Image:
    """A picture with room for a word above and a bar below."""
    font = _font(17)
    wide = math.ceil(font.getlength(word)) if word else 0
    column = Image.new("RGB", (max(picture.width, NARROWEST, wide), picture.height + 62), PAPER)
    column.paste(picture, ((column.width - picture.width) // 2, 28))
    if word:
        ImageDraw.Draw(column).text((column.width / 2, 22), word, font=font, fill=INK, anchor="ms")
    return column


def _sheet(panels: Sequence[Image.Image], caption: str, title: str, legend: str) -> Image.Image:
    rows = _rows(panels)
    inner = max(sum(p.width for p in row) + GAP * (len(row) - 1) for row in rows)
    width = max(inner, 560) + 2 * MARGIN
    heading = _wrapped(caption, _font(24), width - 2 * MARGIN)
    explained = _wrapped(legend, _font(13), width - 2 * MARGIN)
    top = MARGIN + 32 * len(heading) + (22 if title else 0) + 8
    height = top + sum(max(p.height for p in row) + GAP for row in rows) + 18 * len(explained) + MARGIN
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    y = MARGIN
    for line in heading:
        pen.text((MARGIN, y), line, font=_font(24), fill=INK)
        y += 32
    if title:
        pen.text((MARGIN, y), title, font=_font(13), fill=SOFT)
    y = top
    for row in rows:
        x = MARGIN
        for panel in row:
            sheet.paste(panel, (x, y))
            x += panel.width + GAP
        y += max(p.height for p in row) + GAP
    for line in explained:
        pen.text((MARGIN, y), line, font=_font(13), fill=SOFT)
        y += 18
    return sheet


def _rows(panels: Sequence[Image.Image]) -> list[list[Image.Image]]:
    """The panels in rows of about WIDTH pixels, the last one not much shorter than the others."""
    total = sum(p.width + GAP for p in panels) - GAP
    count = math.ceil(total / WIDTH)
    each = math.ceil(len(panels) / count)
    return [list(panels[start : start + each]) for start in range(0, len(panels), each)]


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font: there on every machine."""
    return ImageFont.load_default(size)
