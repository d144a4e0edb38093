"""Images in, features out: decoding in parallel with encoding, in batches of one fixed size.

Each thread encodes a batch of its own. All threads on one batch wait for the slowest at every layer: that took 1.3
times as long on a quiet machine and twice as long on a busy one, for the same bits.

Pure: the rows depend on the images and the encoder alone, not on the batch around them (short batches are padded), on
the order or on what was encoded before. So any process, on any machine of one kind, may extract any part of a manifest.
Knows nothing of stores or stages.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from captioner.errors import BadImage
from captioner.featurestore.shards import Features
from captioner.model import openvino
from captioner.model.preprocess import PLAIN, decode_and_resize
from captioner.records import ImageRecord

if TYPE_CHECKING:
    import tensorflow as tf

    from captioner.model.encoder import Encoder


class Extractor:
    """An encoder, compiled once for one batch size, on TensorFlow or on another engine, and the view that it sees."""

    def __init__(self, encoder: Encoder, batch: int, view: str = PLAIN, engine: str = "tensorflow") -> None:
        """Raises BadEnvironment when the engine is not installed."""
        import tensorflow as tf

        self.encoder, self.batch, self.view = encoder, batch, view
        self._threads = tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count() or 1
        self._network = openvino.OpenVinoNetwork(encoder, self._threads) if engine == openvino.NAME else None
        size = encoder.image_size

        def encode(images: tf.Tensor) -> tf.Tensor:
            count = tf.shape(images)[0]
            padded = tf.pad(images, [[0, batch - count], [0, 0], [0, 0], [0, 0]])
            return tf.cast(encoder.encode(tf.ensure_shape(padded, [batch, size, size, 3])), tf.float16)[:count]

        # Traced once: the pipelines of later calls only point to them.
        pixels = tf.TensorSpec([None, size, size, 3], tf.float32)
        self._encode = tf.function(encode, input_signature=[pixels], autograph=False)
        self._decode = tf.function(
            lambda data: decode_and_resize(data, size, view),
            input_signature=[tf.TensorSpec([], tf.string)],
            autograph=False,
        )

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
            for rows in self._encoded(self._decoded(payloads)):
                yield records[done : done + len(rows)], rows
                done += len(rows)
        except tf.errors.InvalidArgumentError:
            self._name_the_culprit(records[done:], read)
            raise
        if failures:
            raise failures[0]
        assert done == len(records), f"{len(records)} images in, {done} out"

    def _encoded(self, batches: tf.data.Dataset) -> Iterator[Features]:
        import tensorflow as tf

        if self._network is not None:
            yield from (self._network.encode(images.numpy()) for images in batches.prefetch(2))
            return

        options = tf.data.Options()
        options.threading.max_intra_op_parallelism = 1
        encoded = batches.map(self._encode, num_parallel_calls=self._threads).prefetch(2)
        yield from (rows.numpy() for rows in encoded.with_options(options))

    def _decoded(self, payloads: Callable[[], Iterator[bytes]]) -> tf.data.Dataset:
        import tensorflow as tf

        return (
            tf.data.Dataset.from_generator(payloads, output_signature=tf.TensorSpec([], tf.string))
            .map(self._decode, num_parallel_calls=tf.data.AUTOTUNE)
            .batch(self.batch)
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
