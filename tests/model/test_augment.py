"""Pictures drawn anew: by the seed alone, within bounds, and still the same picture."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from captioner.golden import golden_images
from captioner.images import normalise
from captioner.model.augment import drawn
from captioner.model.preprocess import decode_and_resize

SIZE = 96


def photo() -> tf.Tensor:
    return tf.constant(normalise(golden_images()["chelsea.png"], "chelsea.png"))


def pixels(seed: int, strength: float = 1.0) -> np.ndarray:
    return drawn(photo(), SIZE, tf.constant([seed, 1]), strength).numpy()


def test_the_seed_alone_decides() -> None:
    compiled = tf.function(lambda data, seed: drawn(data, SIZE, seed, 1.0))
    again = compiled(photo(), tf.constant([3, 1])).numpy()
    assert np.array_equal(compiled(photo(), tf.constant([3, 1])).numpy(), again)
    assert np.allclose(pixels(3), again, atol=0.01)
    assert not np.allclose(pixels(4), again, atol=5)


def test_a_drawn_picture_is_a_picture_of_the_same_thing() -> None:
    plain = decode_and_resize(photo(), SIZE).numpy()
    for seed in range(12):
        found = pixels(seed)
        assert found.shape == (SIZE, SIZE, 3)
        assert found.min() >= 0.0
        assert found.max() <= 255.0
        alike = max(np.corrcoef(one.ravel(), found.ravel())[0, 1] for one in (plain, plain[:, ::-1]))
        assert alike > 0.5, seed
        assert abs(found.mean() - plain.mean()) < 40


def test_without_strength_only_the_mirror_is_left() -> None:
    plain = decode_and_resize(photo(), SIZE).numpy()
    sides = [np.allclose(pixels(seed, 0.0), plain[:, ::-1], atol=1.0) for seed in range(12)]
    assert 0 < sum(sides) < 12
    assert all(mirrored or np.allclose(pixels(s, 0.0), plain, atol=0.01) for s, mirrored in enumerate(sides))
