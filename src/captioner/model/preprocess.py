"""From image bytes to the pixels that an encoder sees: one op, used by the feature stage and inside the artifact.

Knows nothing of files, stores or networks. The bytes must have been through ``images.normalise``: TensorFlow itself
ignores EXIF, reads 16-bit PNG its own way and notices a decompression bomb too late.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf

# Part of every feature's key: change it whenever the pixels below would, or what images.normalise makes of a picture.
VERSION = "stretch-bilinear-antialias-2"


PLAIN = "plain"
# Part of a zoomed view's key, through its name: change the name with the number.
ZOOM = 0.85  # of each side that the zoomed views keep


def decode_and_resize(image_bytes: tf.Tensor, size: int, view: str = PLAIN) -> tf.Tensor:
    """JPEG or PNG bytes (scalar string) → float32 [size, size, 3], RGB, 0..255.

    Stretched, never cropped: what stands at the edge of a picture is often what its caption is about. The resize is
    bilinear with antialiasing, as Pillow does it. Works eagerly, in tf.data and in a SavedModel; bytes that do not
    decode raise tf.errors.InvalidArgumentError. Training may see other views of a picture too: ``flip`` (left and right
    exchanged), ``zoom`` (its middle) and ``zoom-flip``.
    """
    import tensorflow as tf

    # Despite its name this op decodes PNG too, and unlike decode_image it lets us ask for the accurate transform: the
    # default is up to 11 levels off, the accurate one gives the very pixels of Pillow and of libjpeg elsewhere.
    image = tf.io.decode_jpeg(image_bytes, channels=3, dct_method="INTEGER_ACCURATE")
    if "zoom" in view:
        image = tf.image.central_crop(image, ZOOM)
    if "flip" in view:
        image = tf.image.flip_left_right(image)
    resized = tf.image.resize(image, [size, size], method=tf.image.ResizeMethod.BILINEAR, antialias=True)
    # Interpolation may leave 0..255 by a rounding error.
    return tf.ensure_shape(tf.clip_by_value(resized, 0.0, 255.0), [size, size, 3])


def version_of(view: str) -> str:
    """The preprocessing version of `view`: what tells its features from the plain ones."""
    return VERSION if view == PLAIN else f"{VERSION}+{view}"
