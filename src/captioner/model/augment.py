"""A picture as it might as well have been taken: what training with pixels sees instead of the picture itself.

What a caption is about has to survive: crops keep four fifths of each side, and colours change by what another camera
would. Knows nothing of batches or networks.
"""

from __future__ import annotations

import tensorflow as tf

CROP = 0.2  # of each side, at most
QUALITY = (50.0, 95.0)  # of the JPEG that every other picture is made into once more
CONTRAST, BRIGHTNESS, SATURATION = 0.15, 15.0, 0.2  # at most, to either side; of 255 for the brightness


def drawn(image_bytes: tf.Tensor, size: int, seed: tf.Tensor, strength: float) -> tf.Tensor:
    """JPEG or PNG bytes (scalar string) → float32 [size, size, 3], RGB, 0..255; the same for the same `seed` [2] int32.

    Cropped and stretched, mirrored half of the time, re-encoded half of the time, its colours changed. `strength`, from
    0 to 1, is by how much; 0 leaves the mirror and the JPEG. Bytes that do not decode raise InvalidArgumentError.
    """
    image = tf.io.decode_jpeg(image_bytes, channels=3, dct_method="INTEGER_ACCURATE")
    u = tf.random.stateless_uniform([10], seed)
    if strength:
        quality = tf.cast(QUALITY[0] + u[0] * (QUALITY[1] - QUALITY[0]), tf.int32)
        image = tf.cond(u[1] < 0.5, lambda: tf.image.adjust_jpeg_quality(image, quality), lambda: image)
    image = _crop(image, u[2:6], CROP * strength)
    image = tf.cond(u[6] < 0.5, lambda: tf.image.flip_left_right(image), lambda: image)
    pixels = tf.image.resize(image, [size, size], method=tf.image.ResizeMethod.BILINEAR, antialias=True)
    pixels *= 1.0 + strength * CONTRAST * (2.0 * u[7] - 1.0)
    pixels += strength * BRIGHTNESS * (2.0 * u[8] - 1.0)
    grey = tf.reduce_mean(pixels, axis=2, keepdims=True)
    pixels = grey + (pixels - grey) * (1.0 + strength * SATURATION * (2.0 * u[9] - 1.0))
    return tf.ensure_shape(tf.clip_by_value(pixels, 0.0, 255.0), [size, size, 3])


def _crop(image: tf.Tensor, u: tf.Tensor, most: float) -> tf.Tensor:
    """`image` without up to `most` of its height and of its width, where `u` [4] says."""
    sides = tf.cast(tf.shape(image)[:2], tf.float32)
    kept = tf.cast(sides * (1.0 - most * u[:2]), tf.int32)
    start = tf.cast(u[2:] * (sides - tf.cast(kept, tf.float32)), tf.int32)
    return image[start[0] : start[0] + kept[0], start[1] : start[1] + kept[1]]
