"""Where --explain's pictures go, and that nobody's photo is ever written over."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioner.drawings import Drawings
from captioner.errors import BadInput
from captioner.explaining import Looks, draw


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def drawing() -> bytes:
    picture = io.BytesIO()
    Image.new("RGB", (20, 20), "red").save(picture, "PNG")
    return draw(picture.getvalue(), Looks("a ball", ("a", "ball"), np.full((2, 4), 0.2), np.full(2, 0.2)))


@pytest.mark.parametrize(
    ("out", "sources", "place"),
    [
        ("", ["in/photo.jpg"], "photo-explained.png"),
        ("", ["https://host/a%20cat.png?size=2"], "a cat-explained.png"),
        ("here/why.png", ["photo.jpg"], "here/why.png"),
        ("why", ["photo.jpg"], "why/photo.png"),
        ("", ["photo.jpg", "other.jpg"], "explained/photo.png"),
        ("why/", ["photo.jpg", "other.jpg"], "why/photo.png"),
    ],
)
def test_one_file_for_one_image_and_a_folder_for_several(
    out: str, sources: list[str], place: str, drawing: bytes
) -> None:
    assert Drawings(out, sources).write(sources[0], drawing) == Path(place)
    assert Path(place).read_bytes() == drawing


def test_images_of_one_name_do_not_share_a_file(drawing: bytes) -> None:
    drawings = Drawings("", ["a/x.jpg", "b/x.png"])
    assert drawings.write("a/x.jpg", drawing) == Path("explained/x.png")
    assert drawings.write("b/x.png", drawing) == Path("explained/x-2.png")


def test_a_folder_is_several_images(here: Path) -> None:
    (here / "holiday").mkdir()
    with pytest.raises(BadInput, match="cannot be explained in one file: name a folder, why/ say"):
        Drawings("why.png", ["holiday"])


def test_a_name_that_is_no_png_is_refused() -> None:
    with pytest.raises(BadInput, match=r"photo.jpg is not named like one"):
        Drawings("photo.jpg", ["other.jpg"])


def test_a_photo_is_never_written_over_and_a_drawing_is(here: Path, drawing: bytes) -> None:
    drawings = Drawings("out.png", ["photo.jpg"])
    drawings.write("photo.jpg", drawing)
    drawings.write("photo.jpg", drawing)
    Image.new("RGB", (8, 8)).save(here / "out.png")
    photo = (here / "out.png").read_bytes()
    with pytest.raises(BadInput, match=r"out\.png is a picture that was not drawn here"):
        drawings.write("photo.jpg", drawing)
    assert (here / "out.png").read_bytes() == photo
