"""One op from bytes to pixels: the same eagerly, in tf.data and for whatever picture comes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import tensorflow as tf
from PIL import Image

from captioner.model.preprocess import decode_and_resize

PHOTOS = Path(skimage.data.__file__).parent


def encoded(array: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


PICTURES = {
    "photo.jpg": (PHOTOS / "rocket.jpg").read_bytes(),
    "photo.png": (PHOTOS / "chelsea.png").read_bytes(),
    "grey.png": encoded(noise(40, 60)[..., 0], "PNG"),
    "grey.jpg": encoded(noise(40, 60)[..., 0], "JPEG"),
    "one-pixel.png": encoded(noise(1, 1), "PNG"),
    "wide.png": encoded(noise(3, 900), "PNG"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_eagerly_and_in_tf_data_are_the_same(name: str) -> None:
    eager = decode_and_resize(tf.constant(PICTURES[name]), 56)
    dataset = tf.data.Dataset.from_tensors(PICTURES[name]).map(lambda data: decode_and_resize(data, 56))
    (mapped,) = list(dataset)
    assert dataset.element_spec == tf.TensorSpec((56, 56, 3), tf.float32)
    assert eager.shape == (56, 56, 3)
    assert eager.dtype == tf.float32
    np.testing.assert_array_equal(eager, mapped)
    assert tf.reduce_min(eager) >= 0
    assert tf.reduce_max(eager) <= 255


def test_is_pillows_antialiased_bilinear_over_the_whole_picture() -> None:
    """Stretched, not cropped; large pictures are averaged, not sampled."""
    with Image.open(PHOTOS / "chelsea.png") as picture:
        expected = np.asarray(picture.convert("RGB").resize((64, 64), Image.Resampling.BILINEAR), np.float32)
    found = decode_and_resize(tf.io.read_file(str(PHOTOS / "chelsea.png")), 64).numpy()
    np.testing.assert_allclose(found, expected, atol=1.6)  # Pillow rounds to whole numbers, twice


def test_pixels_of_the_right_size_are_left_alone() -> None:
    array = noise(48, 48)
    np.testing.assert_array_equal(decode_and_resize(tf.constant(encoded(array, "PNG")), 48), array)


def test_jpeg_is_decoded_as_pillow_decodes_it() -> None:
    """decode_image's fast transform is up to 11 levels off on this photo."""
    with Image.open(PHOTOS / "rocket.jpg") as picture:
        square = np.asarray(picture.convert("RGB"))[:, : picture.height]
    whole = tf.io.decode_jpeg(PICTURES["photo.jpg"], dct_method="INTEGER_ACCURATE").numpy()
    np.testing.assert_array_equal(whole[:, : square.shape[1]], square)
    with Image.open(PHOTOS / "rocket.jpg") as picture:
        expected = np.asarray(picture.convert("RGB").resize((64, 64), Image.Resampling.BILINEAR), np.float32)
    np.testing.assert_allclose(decode_and_resize(tf.constant(PICTURES["photo.jpg"]), 64), expected, atol=1.6)


def test_colours_keep_their_order_and_grey_has_three_equal_channels() -> None:
    red = np.zeros((5, 5, 3), np.uint8)
    red[..., 0] = 200
    np.testing.assert_allclose(decode_and_resize(tf.constant(encoded(red, "PNG")), 4)[0, 0], [200, 0, 0], atol=1e-4)
    grey = decode_and_resize(tf.constant(PICTURES["grey.png"]), 16).numpy()
    assert (grey[..., 0] == grey[..., 2]).all()


def test_bytes_that_do_not_decode_raise() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_and_resize(tf.constant(b"hello"), 8)
