"""Extraction with a tiny network: every image once, in order, and nothing but the image in its row."""

from __future__ import annotations

import io
from collections.abc import Sequence

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from captioner.errors import BadData, BadImage
from captioner.featurestore.extract import Extractor
from captioner.featurestore.shards import Features
from captioner.model.encoder import Encoder
from captioner.model.preprocess import decode_and_resize
from captioner.records import ImageRecord


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    """8x8 pixels to a 2x2 grid of 5 channels."""
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Rescaling(1 / 128), keras.layers.Conv2D(5, 4, 4)])
    return Encoder(network, "tiny", "grid", "0" * 64)


def picture(number: int) -> bytes:
    file = io.BytesIO()
    size = (6 + number % 5, 9)
    array = np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(array).save(file, "JPEG" if number % 2 else "PNG")
    return file.getvalue()


def record(number: int) -> ImageRecord:
    return ImageRecord(f"{number}.jpg", "images-000.zip", f"{number}.jpg", f"{number:032x}", "train", ("a",))


def read(record: ImageRecord) -> bytes:
    return picture(int(record.id.removesuffix(".jpg")))


def extract(extractor: Extractor, numbers: Sequence[int]) -> Features:
    records = [record(number) for number in numbers]
    blocks = list(extractor.extract(records, read))
    assert [r for part, _ in blocks for r in part] == records
    assert [len(part) for part, _ in blocks] == [len(rows) for _, rows in blocks]
    return np.concatenate([rows for _, rows in blocks])


def test_rows_are_the_encoders(encoder: Encoder) -> None:
    found = extract(Extractor(encoder, 4), range(10))
    images = tf.stack([decode_and_resize(tf.constant(picture(number)), 8) for number in range(10)])
    assert found.shape == (10, 4, 5)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, encoder.encode(images), atol=1e-3)


def test_rows_do_not_depend_on_order_neighbours_or_padding(encoder: Encoder) -> None:
    extractor = Extractor(encoder, 4)
    whole = extract(extractor, range(10))
    np.testing.assert_array_equal(extract(extractor, range(9, -1, -1)), whole[::-1])
    for number in (0, 3, 9):
        np.testing.assert_array_equal(extract(extractor, [number])[0], whole[number])


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8])
def test_count_in_is_count_out(encoder: Encoder, count: int) -> None:
    assert len(extract(Extractor(encoder, 4), range(count))) == count


def test_an_image_that_does_not_decode_is_named_and_the_ones_before_come_out(encoder: Encoder) -> None:
    def broken(record: ImageRecord) -> bytes:
        return b"\xff\xd8\xff not really" if record.id == "6.jpg" else read(record)

    done: list[str] = []
    with pytest.raises(BadImage, match=r"^The image 6.jpg does not decode \(.*\): take it out of the dataset"):
        done.extend(
            r.id for part, _ in Extractor(encoder, 2).extract([record(i) for i in range(9)], broken) for r in part
        )
    assert set(done) <= {f"{i}.jpg" for i in range(6)}


def test_an_error_of_the_reader_comes_through_as_it_is(encoder: Encoder) -> None:
    def broken(record: ImageRecord) -> bytes:
        if record.id == "5.jpg":
            raise BadData("the pack is damaged")
        return read(record)

    done: list[str] = []

    def run() -> None:
        for part, _ in Extractor(encoder, 2).extract([record(i) for i in range(9)], broken):
            done.extend(r.id for r in part)

    with pytest.raises(BadData, match=r"^the pack is damaged$"):
        run()
    assert done == [f"{i}.jpg" for i in range(5)]
