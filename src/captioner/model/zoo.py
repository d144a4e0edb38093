"""The encoders of keras.applications: their names, their weights, their own preprocessing.

Names are checked without importing Keras. Knows nothing of feature stores or captions.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.errors import BadData, ServiceUnavailable

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Application:
    """A constructor of keras.applications, the module with its preprocess_input, the image size it was trained at."""

    constructor: str
    module: str
    image_size: int


ZOO: dict[str, Application] = {
    "convnext-tiny": Application("ConvNeXtTiny", "convnext", 224),
    "convnext-small": Application("ConvNeXtSmall", "convnext", 224),
    "convnext-base": Application("ConvNeXtBase", "convnext", 224),
    "convnext-large": Application("ConvNeXtLarge", "convnext", 224),
    "convnext-xlarge": Application("ConvNeXtXLarge", "convnext", 224),
    "densenet121": Application("DenseNet121", "densenet", 224),
    "densenet169": Application("DenseNet169", "densenet", 224),
    "densenet201": Application("DenseNet201", "densenet", 224),
    "efficientnet-b0": Application("EfficientNetB0", "efficientnet", 224),
    "efficientnet-b1": Application("EfficientNetB1", "efficientnet", 240),
    "efficientnet-b2": Application("EfficientNetB2", "efficientnet", 260),
    "efficientnet-b3": Application("EfficientNetB3", "efficientnet", 300),
    "efficientnet-b4": Application("EfficientNetB4", "efficientnet", 380),
    "efficientnet-b5": Application("EfficientNetB5", "efficientnet", 456),
    "efficientnet-b6": Application("EfficientNetB6", "efficientnet", 528),
    "efficientnet-b7": Application("EfficientNetB7", "efficientnet", 600),
    "efficientnetv2-b0": Application("EfficientNetV2B0", "efficientnet_v2", 224),
    "efficientnetv2-b1": Application("EfficientNetV2B1", "efficientnet_v2", 240),
    "efficientnetv2-b2": Application("EfficientNetV2B2", "efficientnet_v2", 260),
    "efficientnetv2-b3": Application("EfficientNetV2B3", "efficientnet_v2", 300),
    "efficientnetv2-s": Application("EfficientNetV2S", "efficientnet_v2", 384),
    "efficientnetv2-m": Application("EfficientNetV2M", "efficientnet_v2", 480),
    "efficientnetv2-l": Application("EfficientNetV2L", "efficientnet_v2", 480),
    "inception-resnet-v2": Application("InceptionResNetV2", "inception_resnet_v2", 299),
    "inception-v3": Application("InceptionV3", "inception_v3", 299),
    "mobilenet": Application("MobileNet", "mobilenet", 224),
    "mobilenetv2": Application("MobileNetV2", "mobilenet_v2", 224),
    "mobilenetv3-small": Application("MobileNetV3Small", "mobilenet_v3", 224),
    "mobilenetv3-large": Application("MobileNetV3Large", "mobilenet_v3", 224),
    "nasnet-mobile": Application("NASNetMobile", "nasnet", 224),
    "nasnet-large": Application("NASNetLarge", "nasnet", 331),
    "resnet50": Application("ResNet50", "resnet", 224),
    "resnet101": Application("ResNet101", "resnet", 224),
    "resnet152": Application("ResNet152", "resnet", 224),
    "resnet50-v2": Application("ResNet50V2", "resnet_v2", 224),
    "resnet101-v2": Application("ResNet101V2", "resnet_v2", 224),
    "resnet152-v2": Application("ResNet152V2", "resnet_v2", 224),
    "vgg16": Application("VGG16", "vgg16", 224),
    "vgg19": Application("VGG19", "vgg19", 224),
    "xception": Application("Xception", "xception", 299),
}


def weights_file(name: str, folder: Path | None) -> Path | None:
    """The file in `folder` that holds the encoder's weights without the classifier, or None: then Keras downloads them.

    Files carry the names that Keras publishes them under (``vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5``), or
    ``NAME_notop.weights.h5`` for weights of one's own.
    """
    if folder is None or not folder.is_dir():
        return None
    plain = {known: known.replace("-", "") for known in ZOO}
    for path in sorted(folder.glob("*.h5")):
        stem = "".join(c for c in path.name.lower() if c.isalnum()).removeprefix("weights")
        # resnet50v2… begins with resnet50 as well: the longest name that fits is the one that is meant.
        owners = [known for known in plain if stem.startswith(plain[known])]
        if "notop" in stem and name == max(owners, key=lambda known: len(plain[known]), default=None):
            return path
    return None


def build(name: str, weights: Path | None) -> keras.Model:
    """The network of ``ZOO[name]`` without its classifier: float32 [B, H, W, 3], 0..255 → [B, h, w, C].

    Its own preprocessing is inside. `weights` is a file from ``weights_file``; without one, Keras downloads the
    ImageNet weights on first use. Raises ServiceUnavailable when that fails, BadData when the file does not fit the
    network.
    """
    import keras

    application = ZOO[name]
    construct: Callable[..., keras.Model] = getattr(keras.applications, application.constructor)
    size = (application.image_size, application.image_size, 3)
    try:
        with warnings.catch_warnings():
            # Keras only warns when a file leaves a layer as it was initialised: features of noise.
            warnings.filterwarnings("error", message="Skipping")
            source = "imagenet" if weights is None else str(weights)
            network = construct(include_top=False, weights=source, input_shape=size)
    except Exception as error:  # Keras raises plain Exception for a failed download
        raise _explain(error, name, weights) from error
    images = keras.Input(size, name="images")
    grid = network(_preprocess(application, network, images, weights))
    whole = keras.Model(images, grid, name=name.replace("-", "_"))
    whole.trainable = False
    return whole


def _explain(error: Exception, name: str, weights: Path | None) -> Exception:
    reason = " ".join(str(error).split())[:200]
    if weights is not None:
        return BadData(f"{weights} does not hold the weights of {name} ({reason}).")
    if "fetch failure" in reason or isinstance(error, OSError):
        return ServiceUnavailable(
            f"The ImageNet weights of {name} cannot be downloaded ({reason}); "
            "set CAPTIONER_WEIGHTS to a folder that holds them, or take the encoder efficientnet-lite0."
        )
    return error


def _preprocess(application: Application, network: keras.Model, images: Any, weights: Path | None) -> Any:
    module = importlib.import_module(f"keras.applications.{application.module}")
    x = module.preprocess_input(images)
    if application.module == "efficientnet" and weights is not None:
        import keras

        # Keras divides by sqrt(deviation) a second time, behind its Normalization layer, but only for weights that it
        # downloaded itself (keras/src/applications/efficientnet.py); the same, expressed before that layer.
        normalise = next(layer for layer in network.layers if isinstance(layer, keras.layers.Normalization))
        mean = [255 * float(m) for m in keras.ops.convert_to_numpy(normalise.mean).reshape(-1)]
        scale = [deviation**-0.5 for deviation in (0.229, 0.224, 0.225)]
        x = keras.layers.Rescaling(scale, offset=[m * (1 - s) for m, s in zip(mean, scale, strict=True)])(x)
    return x
