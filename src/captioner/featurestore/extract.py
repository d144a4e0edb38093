"""Images in, features out: decoding in parallel with encoding, in batches of one fixed size.

Pure: the rows depend on the images and the encoder alone, not on the batch around them (short batches are padded), on
the order or on what was encoded before. So any process, on any machine of one kind, may extract any part of a manifest.
Knows nothing of stores or stages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from captioner.errors import BadImage
from captioner.featurestore.shards import Features
from captioner.model.preprocess import PLAIN, decode_and_resize
from captioner.records import ImageRecord

if TYPE_CHECKING:
    import tensorflow as tf

    from captioner.model.encoder import Encoder


class Extractor:
    """An encoder, compiled once for one batch size, and the view of the pictures that it sees."""

    def __init__(self, encoder: Encoder, batch: int, view: str = PLAIN) -> None:
        import tensorflow as tf

        self.encoder, self.batch, self.view = encoder, batch, view
        size = encoder.image_size

        def encode(images: tf.Tensor) -> tf.Tensor:
            return tf.cast(encoder.encode(images), tf.float16)

        self._encode = tf.function(encode, input_signature=[tf.TensorSpec([batch, size, size, 3], tf.float32)])

    def extract(
        self, records: Sequence[ImageRecord], read: Callable[[ImageRecord], bytes]
    ) -> Iterator[tuple[Sequence[ImageRecord], Features]]:
        """(records, their features float16 [n, cells, channels]), at most `batch` at a time, in order, none left out.

        `read` gives an image's bytes, through ``images.normalise``; it is called in another thread, ahead of the
        encoder. Raises what `read` raises, and BadImage for bytes that do not decode.
        """
        import tensorflow as tf

        failures: list[BaseException] = []

        def payloads() -> Iterator[bytes]:
            for record in records:
                try:
                    data = read(record)
                except BaseException as error:  # handed over: tf.data would bury it in one of its own
                    failures.append(error)
                    return
                yield data

        done = 0
        try:
            for images in self._decoded(payloads):
                count = int(images.shape[0])
                padded = tf.pad(images, [[0, self.batch - count], [0, 0], [0, 0], [0, 0]])
                yield records[done : done + count], self._encode(padded).numpy()[:count]
                done += count
        except tf.errors.InvalidArgumentError:
            self._name_the_culprit(records[done:], read)
            raise
        if failures:
            raise failures[0]
        assert done == len(records), f"{len(records)} images in, {done} out"

    def _decoded(self, payloads: Callable[[], Iterator[bytes]]) -> tf.data.Dataset:
        import tensorflow as tf

        size, view = self.encoder.image_size, self.view
        return (
            tf.data.Dataset.from_generator(payloads, output_signature=tf.TensorSpec([], tf.string))
            .map(lambda data: decode_and_resize(data, size, view), num_parallel_calls=tf.data.AUTOTUNE)
            .batch(self.batch)
            .prefetch(2)
        )

    def _name_the_culprit(self, records: Sequence[ImageRecord], read: Callable[[ImageRecord], bytes]) -> None:
        import tensorflow as tf

        for record in records:
            try:
                decode_and_resize(tf.constant(read(record)), self.encoder.image_size)
            except tf.errors.InvalidArgumentError as error:
                reason = " ".join(error.message.split())[:160]
                raise BadImage(
                    f"The image {record.id} does not decode ({reason}): take it out of the dataset."
                ) from None
