"""The encoder on OpenVINO: a second engine of feature extraction, often faster, of the same weights.

Extraction only: the artifact's encoder stays TensorFlow's. Knows nothing of stores or image files. The package comes
with the extra `openvino`; TensorFlow's network is frozen and handed over as a graph, so that every encoder works.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from captioner.errors import BadEnvironment

if TYPE_CHECKING:
    from captioner.model.encoder import Encoder

NAME = "openvino"


class OpenVinoNetwork:
    """A compiled encoder. Every image is a request of its own, so that no batch can change its row."""

    def __init__(self, encoder: Encoder, threads: int | None = None) -> None:
        """Compiles for `threads` threads (default: one for each core). Raises BadEnvironment without the extra."""
        library = _library()
        core, count = library.Core(), threads or os.cpu_count() or 1
        size = encoder.image_size
        with tempfile.TemporaryDirectory(prefix="captioner-") as folder:
            # Read from a file by OpenVINO itself: its Python converter asks, on a terminal, to send telemetry.
            network = core.read_model(str(_frozen(encoder, Path(folder) / "encoder.pb")))
        network.reshape([1, size, size, 3])
        settings = {
            # As many images at once as there are threads: one image then stays in one core's cache.
            "NUM_STREAMS": str(count),
            "INFERENCE_NUM_THREADS": count,
            # Without it a processor with bf16 rounds to it, and its features would differ from another's.
            "INFERENCE_PRECISION_HINT": "f32",
            "EXECUTION_MODE_HINT": "ACCURACY",
        }
        # Twice as many requests as streams: a stream need not wait for Python to fetch what it has done.
        self._queue = library.AsyncInferQueue(core.compile_model(network, "CPU", settings), 2 * count)
        self._queue.set_callback(self._keep)
        self._shape = (encoder.cells, encoder.channels)

    def encode(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
        """float32 [n, size, size, 3], 0..255 → float16 [n, cells, channels]."""
        rows = np.empty((len(images), *self._shape), np.float16)
        for number in range(len(images)):
            self._queue.start_async(images[number : number + 1], (rows, number))
        self._queue.wait_all()
        return rows

    @staticmethod
    def _keep(request: Any, place: tuple[npt.NDArray[np.float16], int]) -> None:
        rows, number = place
        rows[number] = request.get_output_tensor(0).data[0]


def _library() -> Any:
    try:
        import openvino
    except ImportError:
        raise BadEnvironment(
            "features.engine is openvino, which is not installed: pip install 'captioner[openvino]', "
            "or set features.engine to tensorflow."
        ) from None
    return openvino


def _frozen(encoder: Encoder, file: Path) -> Path:
    """The encoder as one TensorFlow graph whose weights are constants."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    images = tf.TensorSpec([1, encoder.image_size, encoder.image_size, 3], tf.float32, "images")
    function = tf.function(encoder.encode, input_signature=[images], autograph=False).get_concrete_function()
    graph = convert_variables_to_constants_v2(function).graph.as_graph_def()
    file.write_bytes(graph.SerializeToString())
    return file
