"""Extraction as tutorials write it: the network as published, with batch normalisation, and ``model.predict`` on one
image.

The same checkpoint as ours; ours folds the normalisation into the convolutions when it reads it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from captioner.model.lite import CHANNELS, LITES, _weights_file
from captioner.model.torch_weights import read_checkpoint


def published_network(name: str = "efficientnet-lite0") -> Any:
    """keras.Model, float32 [B, size, size, 3], 0..255 → [B, h, w, CHANNELS], with the checkpoint's own weights."""
    import keras

    lite = LITES[name]
    tensors = read_checkpoint(_weights_file(lite), lite.sha256)
    images = keras.Input((lite.image_size, lite.image_size, 3))
    x = keras.layers.Rescaling(1 / 128, offset=-127 / 128)(images)
    x = _unit(tensors, x, "_conv_stem", "_bn0", stride=2)
    number = 0
    for stage in lite.stages:
        for repeat in range(stage.repeats):
            block, inputs, stride = f"_blocks.{number}", x, stage.stride if repeat == 0 else 1
            if stage.expand != 1:
                x = _unit(tensors, x, f"{block}._expand_conv", f"{block}._bn0")
            x = _unit(tensors, x, f"{block}._depthwise_conv", f"{block}._bn1", stride, depthwise=True)
            x = _unit(tensors, x, f"{block}._project_conv", f"{block}._bn2", relu=False)
            if stride == 1 and inputs.shape[-1] == stage.filters:
                x = keras.layers.add([x, inputs])
            number += 1
    x = _unit(tensors, x, "_conv_head", "_bn1")
    assert x.shape[-1] == CHANNELS
    return keras.Model(images, x)


def extract_one_by_one(network: Any, images: list[bytes], size: int) -> np.ndarray:
    """float16 [n, cells, channels]: decode, resize, ``predict``, one image after the other."""
    import tensorflow as tf

    from captioner.model.preprocess import decode_and_resize

    rows = []
    for data in images:
        pixels = decode_and_resize(tf.constant(data), size)
        rows.append(network.predict(pixels[None], verbose=0)[0])
    grid = np.stack(rows)
    return grid.reshape(len(images), -1, grid.shape[-1]).astype(np.float16)


def _unit(
    tensors: dict[str, np.ndarray],
    x: Any,
    conv: str,
    norm: str,
    stride: int = 1,
    depthwise: bool = False,
    relu: bool = True,
) -> Any:
    """Convolution, batch normalisation, ReLU6."""
    import keras

    kernel = tensors[f"{conv}.weight"]  # [out, in, h, w]; depthwise [channels, 1, h, w]
    if depthwise:
        layer = keras.layers.DepthwiseConv2D(kernel.shape[2], strides=stride, padding="same", use_bias=False)
        arranged = kernel.transpose(2, 3, 0, 1)
    else:
        layer = keras.layers.Conv2D(kernel.shape[0], kernel.shape[2], strides=stride, padding="same", use_bias=False)
        arranged = kernel.transpose(2, 3, 1, 0)
    x = layer(x)
    layer.set_weights([arranged])
    normalisation = keras.layers.BatchNormalization(epsilon=1e-3)
    x = normalisation(x)
    normalisation.set_weights([tensors[f"{norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")])
    return keras.layers.ReLU(6.0)(x) if relu else x
