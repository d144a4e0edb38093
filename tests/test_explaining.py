"""The drawing: colour where the weight is, pictures of any shape, the same bytes for the same input."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from captioner.errors import BadData
from captioner.explaining import BAR, LONGEST, Looks, draw, is_drawn_here, lit, panel_size, spread


def picture(width: int = 120, height: int = 80, colour: str = "steelblue") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(out, "PNG")
    return out.getvalue()


def looks(words: int = 3, side: int = 7, sentinel: float = 0.25) -> Looks:
    weights = np.random.default_rng(0).dirichlet(np.ones(side * side), words) * (1 - sentinel)
    return Looks(
        " ".join(f"word{n}" for n in range(words)), [f"word{n}" for n in range(words)], weights, [sentinel] * words
    )


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    assert image.format == "PNG"
    return image


@pytest.mark.parametrize("side", [2, 7, 9])
def test_a_drawing_is_a_png_with_the_caption_in_it(side: int) -> None:
    image = opened(draw(picture(), looks(side=side), "photo.jpg"))
    assert image.info["Description"] == "word0 word1 word2"
    assert image.width > image.height > 100


def test_the_same_input_gives_the_same_bytes() -> None:
    assert draw(picture(), looks()) == draw(picture(), looks())


@pytest.mark.parametrize(("width", "height"), [(40, 800), (800, 40), (1, 1), (4000, 3000), (3, 3000)])
@pytest.mark.parametrize("words", [1, 25])
def test_pictures_of_any_shape_and_captions_of_any_length_fit_a_screen(width: int, height: int, words: int) -> None:
    image = opened(draw(picture(width, height), looks(words)))
    assert image.width <= 1600
    assert max(panel_size(width, height)) <= LONGEST


def test_there_is_colour_where_the_weight_is_and_none_elsewhere() -> None:
    grid = np.zeros((7, 7))
    grid[1, 5] = 1.0
    photo = Image.new("RGB", (140, 70), (60, 120, 200))
    pixels = np.asarray(lit(photo, grid, share=1.0), float)
    colourful = pixels.max(axis=2) - pixels.min(axis=2)
    assert colourful[15, 110] > 40  # the middle of that cell, on the picture as it was stretched
    assert colourful[60, 20] == 0
    faint = np.asarray(lit(photo, grid, share=0.0), float)
    assert 0 < (faint.max(axis=2) - faint.min(axis=2))[15, 110] < colourful[15, 110]


def test_the_bar_is_there_only_for_a_network_that_can_look_away() -> None:
    def orange(sentinel: float) -> int:
        # The bar's own colour; a grey picture has no other.
        pixels = np.asarray(opened(draw(picture(colour="black"), looks(sentinel=sentinel))).convert("RGB"))
        return int((pixels == BAR).all(axis=2).sum())

    assert orange(0.25) > orange(0.75) > 0
    assert orange(0.0) == 0


def test_the_grid_covers_the_picture_row_by_row() -> None:
    grid = np.arange(4.0).reshape(2, 2)
    light = spread(grid, (40, 20))
    assert light.shape == (20, 40)
    assert light[0, 0] < light[0, -1] < light[-1, 0] < light[-1, -1]
    assert light.max() == 1.0
    assert not spread(np.zeros((2, 2)), (4, 4)).any()


def test_a_grid_that_is_no_square_is_refused() -> None:
    with pytest.raises(BadData, match="grid of 6 cells is not square"):
        draw(picture(), Looks("a", ["a"], np.ones((1, 6)), [0.0]))


def test_a_drawing_is_known_again_and_a_photo_is_not() -> None:
    assert is_drawn_here(draw(picture(), looks()))
    assert not is_drawn_here(picture())
    assert not is_drawn_here(b"no picture")
