"""Small changes of a picture that no person would mind, and how many captions they change all the same.

Two questions (Ribeiro et al. 2020, "Beyond Accuracy", arXiv:2005.04118). Invariance: is the caption still the same?
Direction: does a caption that spoke of a dog still speak of one? Pure: bytes and captions in, bytes and numbers out;
knows nothing of models.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from captioner.errors import BadImage
from captioner.lexicon import is_a, things
from captioner.text import tokenize

Pixels = npt.NDArray[np.uint8]

SUBJECTS = ("person", "dog", "water", "snow", "grass", "beach", "bicycle", "ball")
"""Concepts of the lexicon of which it is asked whether they stay: frequent ones, and seen rather than concluded."""

CONTROL = "same pixels as PNG"
"""What must change nothing at all: if it does, decoding is at fault and not the model."""


@dataclass(frozen=True)
class Change:
    """What one perturbation did to the captions of some images."""

    perturbation: str
    images: int
    changed: float  # share of images with another caption
    words_kept: float  # mean share of a caption's words that are in the new one too, whatever their order


@dataclass(frozen=True)
class Direction:
    """Whether captions went on naming a subject. `images`: those that named it before, rightly as far as is known."""

    perturbation: str
    subject: str
    images: int
    kept: float


def perturb(data: bytes, name: str) -> bytes:
    """The picture (JPEG or PNG that went through images.normalise) under the perturbation `name` of PERTURBATIONS.

    Raises BadImage when it cannot be read.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, ValueError) as error:
        raise BadImage(f"A picture cannot be changed for the invariance check: {error}.") from None
    return PERTURBATIONS[name](pixels)


def change(perturbation: str, before: Sequence[str], after: Sequence[str]) -> Change:
    """Captions of the same images before and after, at least one."""
    kept = [_words_kept(one, other) for one, other in zip(before, after, strict=True)]
    changed = sum(one != other for one, other in zip(before, after, strict=True))
    return Change(perturbation, len(before), changed / len(before), sum(kept) / len(kept))


def directions(
    perturbation: str, before: Sequence[str], after: Sequence[str], references: Sequence[Sequence[str]] | None = None
) -> list[Direction]:
    """One for each of SUBJECTS that a caption named before; with `references`, where at least half of them do too."""
    found = []
    for subject in SUBJECTS:
        chosen = [
            place
            for place, caption in enumerate(before)
            if names(caption, subject) and (references is None or half_name(references[place], subject))
        ]
        if chosen:
            kept = sum(names(after[place], subject) for place in chosen) / len(chosen)
            found.append(Direction(perturbation, subject, len(chosen), kept))
    return found


def names(caption: str, subject: str) -> bool:
    """Whether a caption names `subject` or a kind of it: "a poodle" names a dog, "an animal" does not."""
    return any(is_a(thing.concepts, subject) for thing in things(tokenize(caption)))


def half_name(references: Sequence[str], subject: str) -> bool:
    """Whether at least half of an image's references name `subject`."""
    return 2 * sum(names(caption, subject) for caption in references) >= len(references)


def _words_kept(before: str, after: str) -> float:
    said, now = tokenize(before), set(tokenize(after))
    return sum(word in now for word in said) / len(said) if said else 1.0


def _encoded(pixels: Pixels, kind: str = "PNG", **options: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def _brighter(factor: float) -> Callable[[Pixels], bytes]:
    return lambda pixels: _encoded(np.clip(np.rint(pixels * factor), 0, 255).astype(np.uint8))


def _shifted(pixels: Pixels) -> bytes:
    """Two pixels to the right and down; the edge is repeated."""
    height, width = pixels.shape[:2]
    rows, columns = np.maximum(np.arange(height) - 2, 0), np.maximum(np.arange(width) - 2, 0)
    return _encoded(pixels[rows][:, columns])


PERTURBATIONS: dict[str, Callable[[Pixels], bytes]] = {
    CONTROL: _encoded,
    "JPEG, quality 75": lambda pixels: _encoded(pixels, "JPEG", quality=75),
    "5 % brighter": _brighter(1.05),
    "5 % darker": _brighter(0.95),
    "shifted by 2 pixels": _shifted,
}
