"""The CNN that turns pixels into features: a grid of cells, or their mean.

Knows nothing of image files, feature stores or captions. What an encoder is (its names, shapes, digest) can be had from
``identity.describe`` without TensorFlow.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from captioner.errors import BadData
from captioner.model import lite, preprocess, zoo
from captioner.model.arrays import unpack_arrays
from captioner.model.identity import check_names, tuned_digest, weights_digest
from captioner.model.several import members_of, side_by_side
from captioner.records import FeaturesMeta


class Encoder(tf.Module):
    """A frozen network and what its features mean. A tf.Module, so that an artifact can hold it."""

    def __init__(self, network: Any, name: str, layout: str, digest: str) -> None:
        """`network`: a keras.Model, float32 [B, size, size, 3], 0..255 → [B, h, w, channels]."""
        super().__init__(name="encoder")
        _, height, width, channels = network.output_shape
        self.network = network
        self.meta = FeaturesMeta(
            encoder=name,
            layout=layout,
            image_size=network.input_shape[1],
            cells=height * width if layout == "grid" else 1,
            channels=channels,
            weights_digest=digest,
            preprocessing=preprocess.VERSION,
        )

    @property
    def name(self) -> str:
        """The name in params.yaml (a tf.Module's own name is of no use to anybody)."""
        return self.meta.encoder

    @property
    def layout(self) -> str:
        return self.meta.layout

    @property
    def image_size(self) -> int:
        """Pixels, square."""
        return self.meta.image_size

    @property
    def cells(self) -> int:
        """Cells of the grid, row by row; 1 when pooled."""
        return self.meta.cells

    @property
    def channels(self) -> int:
        return self.meta.channels

    @property
    def weights_digest(self) -> str:
        """SHA-256, hex: of the checkpoint (the Lites) or of the weights (keras.applications)."""
        return self.meta.weights_digest

    @property
    def preprocessing(self) -> str:
        return self.meta.preprocessing

    def encode(self, images: tf.Tensor, flip: bool = False) -> tf.Tensor:
        """float32 [B, image_size, image_size, 3], 0..255 → float32 [B, cells, channels]. The network normalises.

        With `flip` the mean, cell by cell, of what is seen of the images and, turned back, of their mirror images.
        """
        if not flip:
            return self.arranged(self.network(images, training=False))
        plain, mirrored = tf.split(self.network(tf.concat([images, tf.reverse(images, [2])], 0), training=False), 2)
        return self.arranged((plain + tf.reverse(mirrored, [2])) / 2)

    def arranged(self, grid: tf.Tensor) -> tf.Tensor:
        """What the network gives, [B, h, w, channels], as the layout wants it: [B, cells, channels]."""
        _, height, width, channels = grid.shape
        cells = tf.reshape(grid, [-1, height * width, channels])
        return cells if self.layout == "grid" else tf.reduce_mean(cells, axis=1, keepdims=True)


def load_encoder(
    name: str,
    layout: str = "grid",
    weights: Path | None = None,
    cache: Path | None = None,
    tuned: Path | None = None,
) -> Encoder:
    """The encoder `name`: one of ``lite.LITES`` or of keras.applications (``identity.NAMES``).

    `weights`: a folder with weights of keras.applications (else they are downloaded on first use); `cache`: a folder
    for what is converted or computed once; `tuned`: a file of weights that take the place of the published ones (what
    ``model.tuning`` made), perhaps of several encoders, whose features then lie side by side. Raises BadParams for an
    unknown name or layout, BadEnvironment when weights cannot be had, BadData when they are not what they should be.
    """
    check_names(name, layout)
    if name in lite.LITES:
        kind = lite.LITES[name]
        network, digest = lite.build(kind, lite.load_weights(kind, cache)), kind.sha256
    else:
        network = zoo.build(name, zoo.weights_file(name, weights))
        digest = weights_digest(network)
    if tuned is not None:
        network = _tuned(network, tuned)
        digest = tuned_digest(digest, tuned)
    return Encoder(network, name, layout, digest)


def _tuned(network: Any, file: Path) -> Any:
    members = members_of(unpack_arrays(file))
    if len(members) > 1:
        return side_by_side(network, members, lambda end, own: assign(end, own, str(file)))
    assign(network, members[0], str(file))
    return network


def assign(network: Any, arrays: Mapping[str, np.ndarray], source: str) -> None:
    """Put `arrays`, by ``LAYER/kernel`` and ``LAYER/bias``, into a keras.Model. Raises BadData if they do not fit."""
    for name, variable in named(network, {name.rsplit("/", 1)[0] for name in arrays}).items():
        array = arrays.get(name)
        if array is None or array.shape != tuple(variable.shape):
            found = "missing" if array is None else array.shape
            raise BadData(f"{source} belongs to another encoder: {name} is {found}, not {tuple(variable.shape)}.")
        variable.assign(array.astype(np.float32))


def named(network: Any, layers: Collection[str]) -> dict[str, Any]:
    """The variables of `layers` of a keras.Model, by ``LAYER/kernel`` and ``LAYER/bias``. Raises BadData."""
    known = {layer.name: layer for layer in network.layers}
    unknown = sorted(set(layers) - known.keys())
    if unknown:
        raise BadData(f"The encoder {network.name} has no layer {unknown[0]}.")
    return {f"{name}/{v.name}": v for name in sorted(layers) for v in known[name].weights}
