"""Where ``captioner caption --explain`` puts its pictures: one file for one image, a folder for several.

Never over a picture that was not drawn here. Knows nothing of models or of drawing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from captioner.errors import BadInput
from captioner.explaining import is_drawn_here
from captioner.records import write_bytes

FOLDER = "explained"


class Drawings:
    """Names and writes the drawings of one run."""

    def __init__(self, out: str, sources: Sequence[str]) -> None:
        """`out`: a PNG or a folder; "" is ``explained/`` for several images and ``STEM-explained.png`` for one.

        Raises BadInput for a name that is neither, and for one PNG that several images would go to.
        """
        several = len(sources) > 1 or Path(sources[0]).is_dir()
        self._file: Path | None = None
        self._folder = Path(out or FOLDER)
        self._names: set[str] = set()
        if not out and not several:
            self._file = Path(f"{_stem(sources[0])}-explained.png")
        elif out and not Path(out).is_dir():
            suffix = Path(out).suffix.lower()
            if suffix == ".png" and several:
                raise BadInput(f"Several images cannot be explained in one file: name a folder, {Path(out).stem}/ say.")
            if suffix == ".png":
                self._file = Path(out)
            elif suffix:
                raise BadInput(
                    f"--explain draws a PNG, and {out} is not named like one: give NAME.png or a folder, "
                    "or put --explain behind the images."
                )

    def write(self, image: str, drawing: bytes) -> Path:
        """Write the drawing of `image`; gives its place. Raises BadInput when a picture lies there that is not ours."""
        place = self._file or self._folder / self._unused(_stem(image))
        if place.is_file() and not is_drawn_here(place.read_bytes()):
            raise BadInput(f"{place} is a picture that was not drawn here: move it, or give --explain another name.")
        write_bytes(place, drawing)
        return place

    def _unused(self, stem: str) -> str:
        """`stem`.png, or with a number where an earlier image of this run has that name."""
        name, number = f"{stem}.png", 1
        while name in self._names:
            number += 1
            name = f"{stem}-{number}.png"
        self._names.add(name)
        return name


def _stem(image: str) -> str:
    path = unquote(urlsplit(image).path) if "://" in image else image
    return Path(path).stem or "image"
