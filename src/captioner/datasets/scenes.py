"""Scenes of coloured shapes: what is in them, and how they are drawn.

A scene is one group of equal shapes somewhere in the picture, or two groups beside or above each other, on a muted,
plain or textured background. Drawing uses integers, a fixed random stream and JPEG's integer transform, no fonts: the
same scene gives the same bytes on any machine with the same Pillow. Knows nothing of captions, splits or files.
"""

from __future__ import annotations

import io
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from PIL import Image, ImageDraw

KINDS = ("circle", "square", "triangle", "star", "cross", "heart")
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 30, 36),
    "green": (24, 150, 52),
    "blue": (30, 70, 214),
    "yellow": (246, 220, 24),
    "brown": (110, 60, 20),
    "black": (16, 16, 18),
}
SIZES = ("small", "large")
COUNTS = (1, 2, 3)
PLACES = ("left", "right", "top", "bottom", "middle")
RELATIONS = ("left of", "right of", "above", "below")
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}

_SUPERSAMPLE = 4
_UNITS = 128  # coordinates are those of a 128 pixel picture, whatever the size drawn
_RADIUS = {"small": 9.5, "": 15.0, "large": 16.5}
_WANDER = 0.25  # share of its free space that a group may leave the middle by: more, and left and top could be mistaken
_STEP = 42.0  # between the centres of a group: shapes lie apart, so that they can be counted
_BACKGROUNDS = ((150, 140, 128), (132, 146, 156), (168, 158, 150), (128, 136, 124), (160, 150, 166), (142, 142, 142))
_TEXTURES = ("plain", "stripes", "columns", "checks", "dots", "fade")

T = TypeVar("T")


@dataclass(frozen=True)
class Group:
    """Equal shapes, one to three of them. Size is one of SIZES, or "" for shapes of a size that is not worth a word."""

    count: int
    size: str
    colour: str
    kind: str


@dataclass(frozen=True)
class Scene:
    """One group at a place, or (with `second`) a group in relation to another: `first` is `where` `second`."""

    first: Group
    where: str
    second: Group | None = None

    def canonical(self) -> Scene:
        """The same picture told in the order in which scenes are compared: left before right, above before below."""
        if self.second is not None and self.where in ("right of", "below"):
            return Scene(self.second, OPPOSITE[self.where], self.first)
        return self

    def combinations(self) -> frozenset[tuple[str, str, str]]:
        """(kind, colour, relation or place) of each group."""
        found = {(self.first.kind, self.first.colour, self.where)}
        if self.second is not None:
            found.add((self.second.kind, self.second.colour, OPPOSITE[self.where]))
        return frozenset(found)


class Dice:
    """Choices from a stream that Python promises to keep: only ``random()`` of a seeded generator is used."""

    def __init__(self, seed: str) -> None:
        self._next = random.Random(seed).random

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self._next() * len(options))]

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self._next()

    def order(self, options: Sequence[T]) -> list[T]:
        """All of `options` in a random order (Fisher and Yates)."""
        items = list(options)
        for last in range(len(items) - 1, 0, -1):
            other = int(self._next() * (last + 1))
            items[last], items[other] = items[other], items[last]
        return items


def draw(scene: Scene, size: int, dice: Dice) -> bytes:
    """`scene` as a JPEG of `size` x `size` pixels; `dice` decides what the captions do not say."""
    picture = _background(size * _SUPERSAMPLE, dice)
    canvas = ImageDraw.Draw(picture)
    scale = size * _SUPERSAMPLE / _UNITS
    for group, centres in _layout(scene, dice):
        colour = _shade(COLOURS[group.colour], dice, 8)
        for x, y in centres:
            radius = _RADIUS[group.size] * dice.between(0.92, 1.04)
            points = _outline(group.kind, radius, dice.between(-8, 8))
            canvas.polygon([(round((x + dx) * scale), round((y + dy) * scale)) for dx, dy in points], fill=colour)
    out = io.BytesIO()
    picture.reduce(_SUPERSAMPLE).save(out, "JPEG", quality=92, subsampling=0)
    return out.getvalue()


def _layout(scene: Scene, dice: Dice) -> list[tuple[Group, list[tuple[float, float]]]]:
    """Where the shapes of each group have their centres. Boxes are (left, top, right, bottom)."""
    half = _UNITS / 2
    boxes = {
        "left": (0.0, 0.0, half, _UNITS),
        "right": (half, 0.0, _UNITS, _UNITS),
        "top": (0.0, 0.0, _UNITS, half),
        "bottom": (0.0, half, _UNITS, _UNITS),
        "middle": (20.0, 20.0, _UNITS - 20.0, _UNITS - 20.0),
    }
    if scene.second is None:
        return [(scene.first, _place(scene.first, boxes[scene.where], dice))]
    sides = {"left of": ("left", "right"), "above": ("top", "bottom")}
    told = scene.canonical()
    assert told.second is not None
    one, other = sides[told.where]
    return [(told.first, _place(told.first, boxes[one], dice)), (told.second, _place(told.second, boxes[other], dice))]


def _place(group: Group, box: tuple[float, float, float, float], dice: Dice) -> list[tuple[float, float]]:
    """Centres for a group in its box: in a row along the box's long side, in a square block where the box is square."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    radius = _RADIUS[group.size]
    if width == height:
        columns = 1 if group.count == 1 else 2
        rows = -(-group.count // columns)
    else:
        columns, rows = (1, group.count) if height > width else (group.count, 1)
    step = min(_STEP, max(width, height) / max(columns, rows))
    spare_x = max(0.0, (width - (columns - 1) * step) / 2 - radius - 1) * _WANDER
    spare_y = max(0.0, (height - (rows - 1) * step) / 2 - radius - 1) * _WANDER
    middle_x = (left + right) / 2 + dice.between(-spare_x, spare_x)
    middle_y = (top + bottom) / 2 + dice.between(-spare_y, spare_y)
    centres = []
    for index in range(group.count):
        column, row = index % columns, index // columns
        in_row = min(columns, group.count - row * columns)
        x = middle_x + (column - (in_row - 1) / 2) * step
        y = middle_y + (row - (rows - 1) / 2) * step
        centres.append((x + dice.between(-1, 1), y + dice.between(-1, 1)))
    return centres


def _outline(kind: str, radius: float, degrees: float) -> list[tuple[float, float]]:
    """The corners of a shape about the origin, turned by `degrees`."""
    if kind == "circle":
        corners = [_polar(radius, 10 * k) for k in range(36)]
    elif kind == "square":
        corners = [_polar(radius * 1.22, 45 + 90 * k) for k in range(4)]
    elif kind == "triangle":
        corners = [_polar(radius * 1.24, -90 + 120 * k) for k in range(3)]
    elif kind == "star":
        corners = [_polar(radius * (1.18 if k % 2 == 0 else 0.48), -90 + 36 * k) for k in range(10)]
    elif kind == "cross":
        arm, half = radius * 1.05, radius * 0.36
        corners = [(half, -arm), (half, -half), (arm, -half), (arm, half), (half, half), (half, arm)]
        corners += [(-x, -y) for x, y in corners]
    else:
        corners = [_heart(radius, 10 * k) for k in range(36)]
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    return [(x * cosine - y * sine, x * sine + y * cosine) for x, y in corners]


def _polar(radius: float, degrees: float) -> tuple[float, float]:
    return radius * math.cos(math.radians(degrees)), radius * math.sin(math.radians(degrees))


def _heart(radius: float, degrees: float) -> tuple[float, float]:
    """The curve x = 16 sin³t, y = 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t, scaled (https://mathworld.wolfram.com/HeartCurve.html)."""
    t = math.radians(degrees)
    x = 16 * math.sin(t) ** 3
    y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
    return x * radius / 15.5, -y * radius / 15.5


def _shade(colour: tuple[int, int, int], dice: Dice, spread: int) -> tuple[int, int, int]:
    """`colour` a little lighter or darker."""
    shift = round(dice.between(-spread, spread))
    red, green, blue = (min(255, max(0, part + shift)) for part in colour)
    return red, green, blue


def _background(size: int, dice: Dice) -> Image.Image:
    """A muted square of one of the textures; its two tones are close, so that it never hides a shape."""
    base = _shade(dice.pick(_BACKGROUNDS), dice, 12)
    other = _shade(base, Dice(f"{dice.between(0, 1):.6f}"), 20)
    texture = dice.pick(_TEXTURES)
    step = round(size * dice.between(0.06, 0.16))
    picture = Image.new("RGB", (size, size), base)
    canvas = ImageDraw.Draw(picture)
    for index, at in enumerate(range(0, size, step)):
        if texture == "stripes" and index % 2:
            canvas.rectangle((0, at, size, at + step - 1), fill=other)
        elif texture == "columns" and index % 2:
            canvas.rectangle((at, 0, at + step - 1, size), fill=other)
        elif texture == "checks":
            for x in range(at % (2 * step), size, 2 * step):
                canvas.rectangle((x, at, x + step - 1, at + step - 1), fill=other)
        elif texture == "dots":
            for x in range(0, size, step):
                canvas.ellipse((x, at, x + step // 3, at + step // 3), fill=other)
        elif texture == "fade":
            share = at / size
            mixed = tuple(round(a + (b - a) * share) for a, b in zip(base, other, strict=True))
            canvas.rectangle((0, at, size, at + step), fill=(mixed[0], mixed[1], mixed[2]))
    return picture
