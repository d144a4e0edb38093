"""The encoder: what its features mean, where its weights come from, and that nothing but its images decides a row."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import skimage.data
import tensorflow as tf

from captioner.errors import BadData, BadParams
from captioner.model import lite, zoo
from captioner.model.encoder import Encoder, load_encoder
from captioner.model.identity import NAMES, describe
from captioner.model.preprocess import decode_and_resize
from captioner.model.torch_weights import read_checkpoint

LITE0 = lite.LITES["efficientnet-lite0"]
PHOTOS = Path(skimage.data.__file__).parent
CATS = {281, 282, 283, 284, 285}  # tabby, tiger cat, Persian, Siamese, Egyptian
ESPRESSO_OR_CUP = {967, 968}
TRIPOD = {872}
TWO_WHEELS = {665, 670}  # moped, motor scooter


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encoders")


@pytest.fixture(scope="module")
def encoder(cache: Path) -> Encoder:
    return load_encoder("efficientnet-lite0", cache=cache)


@pytest.fixture(scope="module")
def photos() -> tf.Tensor:
    names = ("chelsea.png", "coffee.png", "camera.png", "motorcycle_left.png", "astronaut.png", "rocket.jpg")
    return tf.stack([decode_and_resize(tf.io.read_file(str(PHOTOS / name)), 224) for name in names])


@pytest.fixture(scope="module")
def images(photos: tf.Tensor) -> tf.Tensor:
    """16 of them."""
    noise = np.random.default_rng(0).uniform(0, 255, (10, 224, 224, 3)).astype(np.float32)
    return tf.concat([photos, noise], axis=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights of one encoder of keras.applications, drawn at random."""
    folder = tmp_path_factory.mktemp("weights")
    keras.utils.set_random_seed(3)
    network = keras.applications.MobileNetV3Small(include_top=False, weights=None, input_shape=(224, 224, 3))
    network.save_weights(folder / "mobilenetv3-small_notop.weights.h5")
    return folder


class TestLite0:
    @pytest.mark.parametrize(
        ("photo", "classes"), [(0, CATS), (1, ESPRESSO_OR_CUP), (2, TRIPOD), (3, TWO_WHEELS)], ids=str
    )
    def test_names_what_a_photo_shows(
        self, encoder: Encoder, cache: Path, photos: tf.Tensor, photo: int, classes: set[int]
    ) -> None:
        grid = encoder.encode(photos[photo : photo + 1]).numpy()
        logits = lite.classify(grid.mean(axis=1), lite.load_weights(LITE0, cache))
        assert int(logits.argmax()) in classes

    @pytest.mark.parametrize(("name", "cells"), [("efficientnet-lite1", 64), ("efficientnet-lite2", 81)])
    def test_its_sisters_name_it_too_at_their_own_resolution(self, name: str, cells: int, cache: Path) -> None:
        kind = lite.LITES[name]
        sister = load_encoder(name, cache=cache)
        assert sister.meta == describe(name, "grid", None, cache)
        assert sister.cells == cells
        weights = lite.load_weights(kind, cache)
        for photo, classes in (("chelsea.png", CATS), ("coffee.png", ESPRESSO_OR_CUP), ("camera.png", TRIPOD)):
            image = decode_and_resize(tf.io.read_file(str(PHOTOS / photo)), kind.image_size)
            grid = sister.encode(image[None]).numpy()
            assert int(lite.classify(grid.mean(axis=1), weights).argmax()) in classes

    def test_a_feature_is_a_grid_of_activations_not_a_softmax(self, encoder: Encoder, photos: tf.Tensor) -> None:
        grid = encoder.encode(photos).numpy()
        assert grid.shape == (len(photos), 49, 1280) == (len(photos), encoder.cells, encoder.channels)
        assert grid.dtype == np.float32
        assert grid.min() == 0.0
        assert 3.0 < grid.max() <= 6.0  # ReLU6
        assert np.abs(grid.sum(axis=-1) - 1).min() > 1
        assert grid.std(axis=1).mean() > 0.1  # cells differ: they see different places

    def test_a_cell_sees_its_own_place(self, encoder: Encoder, photos: tf.Tensor) -> None:
        """Cells lie row by row: what changes in the upper right corner changes the cells there."""
        changed = photos[:1].numpy()
        changed[:, :48, 176:] = 255.0
        difference = np.abs(encoder.encode(changed).numpy() - encoder.encode(photos[:1]).numpy()).sum(axis=-1)
        difference = difference.reshape(7, 7)
        corners = (difference[:3, :3], difference[:3, 4:], difference[4:, :3], difference[4:, 4:])
        upper_left, upper_right, lower_left, lower_right = (float(corner.mean()) for corner in corners)
        assert upper_right > 3 * max(upper_left, lower_left, lower_right)

    def test_both_ways_is_the_mean_with_what_is_seen_in_the_mirror_turned_back(
        self, encoder: Encoder, photos: tf.Tensor
    ) -> None:
        mirrored = tf.image.flip_left_right(photos)
        there, back = (encoder.encode(one).numpy().reshape(-1, 7, 7, 1280) for one in (photos, mirrored))
        assert np.abs(there - back[:, :, ::-1]).mean() > 0.01  # the network itself does not see both alike
        wanted = ((there + back[:, :, ::-1]) / 2).reshape(-1, 49, 1280)
        np.testing.assert_allclose(encoder.encode(photos, flip=True), wanted, atol=1e-4)
        turned = encoder.encode(mirrored, flip=True).numpy().reshape(-1, 7, 7, 1280)[:, :, ::-1]
        np.testing.assert_allclose(turned.reshape(-1, 49, 1280), wanted, atol=1e-4)

    def test_pooled_is_the_mean_of_the_grid(self, encoder: Encoder, cache: Path, photos: tf.Tensor) -> None:
        pooled = load_encoder("efficientnet-lite0", "pooled", cache=cache)
        assert (pooled.cells, pooled.channels) == (1, 1280)
        mean = encoder.encode(photos).numpy().mean(axis=1, keepdims=True)
        np.testing.assert_allclose(pooled.encode(photos).numpy(), mean, atol=1e-5)

    def test_batch_normalisation_is_folded_right(self, photos: tf.Tensor, cache: Path) -> None:
        """The stem and the first block, computed once more layer by layer from the checkpoint."""
        raw = read_checkpoint(lite._weights_file(LITE0), LITE0.sha256)

        def norm(x: tf.Tensor, name: str) -> tf.Tensor:
            mean, variance = raw[f"{name}.running_mean"], raw[f"{name}.running_var"]
            return tf.nn.batch_normalization(x, mean, variance, raw[f"{name}.bias"], raw[f"{name}.weight"], 1e-3)

        x = (photos - 127.0) / 128.0
        x = tf.nn.conv2d(x, raw["_conv_stem.weight"].transpose(2, 3, 1, 0), 2, "SAME")
        x = tf.nn.relu6(norm(x, "_bn0"))
        kernel = raw["_blocks.0._depthwise_conv.weight"].transpose(2, 3, 0, 1)
        x = tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], "SAME")
        x = tf.nn.relu6(norm(x, "_blocks.0._bn1"))
        x = tf.nn.conv2d(x, raw["_blocks.0._project_conv.weight"].transpose(2, 3, 1, 0), 1, "SAME")
        expected = norm(x, "_blocks.0._bn2").numpy()

        network = lite.build(LITE0, lite.load_weights(LITE0, cache))
        found = keras.Model(network.input, network.get_layer("block0-project").output)(photos).numpy()
        np.testing.assert_allclose(found, expected, atol=2e-4)

    def test_normalisation_is_the_checkpoints(self, encoder: Encoder, photos: tf.Tensor) -> None:
        """Mean 127 and deviation 128 bring the stem to the statistics that the checkpoint itself recorded."""
        raw = read_checkpoint(lite._weights_file(LITE0), LITE0.sha256)
        kernel = raw["_conv_stem.weight"].transpose(2, 3, 1, 0)

        def distance(images: tf.Tensor) -> float:
            stem = tf.nn.conv2d(images, kernel, 2, "SAME").numpy()
            alive = raw["_bn0.running_var"] > 1e-6
            ratio = stem.var(axis=(0, 1, 2))[alive] / raw["_bn0.running_var"][alive]
            return float(np.abs(np.log(ratio)).mean())

        mean, deviation = np.float32([123.7, 116.3, 103.5]), np.float32([58.4, 57.1, 57.4])
        assert distance((photos - 127.0) / 128.0) < distance((photos - mean) / deviation) / 2


class TestRowsDependOnTheirImagesOnly:
    """What makes "add 10 images, encode 10" bit-identical to a full rebuild."""

    def test_neighbours_and_position_do_not_matter(self, encoder: Encoder, images: tf.Tensor) -> None:
        encode = tf.function(encoder.encode)
        expected = encode(images).numpy()
        order = np.random.default_rng(1).permutation(len(images))
        np.testing.assert_array_equal(encode(tf.gather(images, order)).numpy(), expected[order])
        alone = tf.concat([tf.zeros_like(images[:7]), images[3:4], tf.zeros_like(images[:8])], axis=0)
        np.testing.assert_array_equal(encode(alone).numpy()[7], expected[3])

    @pytest.mark.parametrize("batch", [1, 4, 8])
    def test_the_size_of_the_batch_does_not_matter_once_stored(
        self, encoder: Encoder, images: tf.Tensor, batch: int
    ) -> None:
        """Stored means rounded to float16; a kernel may be chosen by the batch's size, so a last bit may go astray."""
        encode = tf.function(lambda x: tf.cast(encoder.encode(x), tf.float16))
        parts = [encode(images[i : i + batch]).numpy() for i in range(0, len(images), batch)]
        difference = np.abs(np.concatenate(parts).astype(np.float32) - encode(images).numpy().astype(np.float32))
        assert difference.max() <= 2**-8
        assert (difference > 0).mean() < 1e-3


class TestWeights:
    def test_are_converted_once(self, cache: Path, encoder: Encoder) -> None:
        (kept,) = cache.glob("efficientnet-lite0-*.npz")
        before = kept.stat().st_mtime_ns
        again = load_encoder("efficientnet-lite0", cache=cache)
        assert kept.stat().st_mtime_ns == before
        for first, second in zip(encoder.network.weights, again.network.weights, strict=True):
            np.testing.assert_array_equal(first.value, second.value)

    @pytest.mark.parametrize("damage", ["cut", "flip", "text"])
    def test_a_damaged_cache_is_made_anew(self, tmp_path: Path, damage: str) -> None:
        expected = lite.load_weights(LITE0, tmp_path)
        (kept,) = tmp_path.iterdir()
        data = bytearray(kept.read_bytes())
        data[len(data) // 2] ^= 1
        kept.write_bytes({"cut": data[: len(data) // 2], "flip": data, "text": b"not an archive"}[damage])
        again = lite.load_weights(LITE0, tmp_path)
        assert again.keys() == expected.keys()
        assert all((again[name] == expected[name]).all() for name in expected)

    def test_without_a_cache_nothing_is_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert len(lite.load_weights(LITE0, None)) == 2 * 50
        assert list(tmp_path.iterdir()) == []


class TestNames:
    def test_an_unknown_encoder_is_refused_with_the_valid_names(self) -> None:
        with pytest.raises(
            BadParams, match=r"no encoder 'vgg61'; the valid names are: efficientnet-lite0, .*vgg16, vgg19"
        ):
            load_encoder("vgg61")

    def test_an_unknown_layout_is_refused_with_the_valid_names(self) -> None:
        with pytest.raises(BadParams, match="no layout 'columns'; the valid ones are: grid, pooled"):
            load_encoder("efficientnet-lite0", "columns")

    def test_every_constructor_of_keras_applications_has_a_name(self) -> None:
        constructors = {name for name in dir(keras.applications) if name[0].isupper()}
        assert {application.constructor for application in zoo.ZOO.values()} == constructors
        assert NAMES[:3] == ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")

    @pytest.mark.parametrize("name", sorted(zoo.ZOO))
    def test_a_name_is_its_constructors(self, name: str) -> None:
        application = zoo.ZOO[name]
        assert name.replace("-", "") == application.constructor.lower()
        module = getattr(keras.applications, application.module)
        assert callable(module.preprocess_input)

    @pytest.mark.parametrize("layout", ["grid", "pooled"])
    def test_what_an_encoder_is_can_be_told_without_building_it(self, cache: Path, layout: str) -> None:
        assert (
            describe("efficientnet-lite0", layout, None, cache)
            == load_encoder("efficientnet-lite0", layout, cache=cache).meta
        )

    def test_telling_does_not_import_tensorflow(self, tmp_path: Path) -> None:
        code = (
            "import sys, pathlib; from captioner.model.identity import describe;"
            f"print(describe('efficientnet-lite0', 'grid', None, pathlib.Path({str(tmp_path)!r})).cells);"
            "sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras')))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "49\n"), done.stderr


class TestApplications:
    """Encoders of keras.applications, with weights that are written here: nothing is downloaded."""

    def test_weights_come_from_the_folder(self, folder: Path, cache: Path, photos: tf.Tensor) -> None:
        encoder = load_encoder("mobilenetv3-small", weights=folder, cache=cache)
        expected = keras.applications.MobileNetV3Small(
            include_top=False, weights=str(folder / "mobilenetv3-small_notop.weights.h5"), input_shape=(224, 224, 3)
        )(keras.applications.mobilenet_v3.preprocess_input(photos[:2]), training=False)
        assert (encoder.name, encoder.image_size, encoder.cells, encoder.channels) == (
            "mobilenetv3-small",
            224,
            49,
            576,
        )
        np.testing.assert_allclose(encoder.encode(photos[:2]), np.reshape(expected, (2, 49, 576)), atol=1e-5)

    def test_is_told_apart_by_its_weights_and_remembered(self, folder: Path, tmp_path: Path) -> None:
        told = describe("mobilenetv3-small", "pooled", folder, tmp_path)
        assert told == load_encoder("mobilenetv3-small", "pooled", folder, tmp_path).meta
        assert (told.cells, told.channels) == (1, 576)
        # Once remembered, it is told without TensorFlow.
        code = (
            "import sys, pathlib; from captioner.model.identity import describe; from dataclasses import astuple;"
            f"print(*astuple(describe('mobilenetv3-small', 'pooled', pathlib.Path({str(folder)!r}),"
            f" pathlib.Path({str(tmp_path)!r})))); sys.exit('tensorflow' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert told.weights_digest in done.stdout

    def test_other_weights_give_another_digest(self, folder: Path, tmp_path: Path) -> None:
        keras.utils.set_random_seed(4)
        network = keras.applications.MobileNetV3Small(include_top=False, weights=None, input_shape=(224, 224, 3))
        network.save_weights(tmp_path / "mobilenetv3-small_notop.weights.h5")
        first, second = (
            describe("mobilenetv3-small", "grid", where, tmp_path / "cache") for where in (folder, tmp_path)
        )
        assert first.weights_digest != second.weights_digest
        assert describe("mobilenetv3-small", "grid", folder, tmp_path / "cache") == first

    def test_weights_of_another_network_are_refused(self, folder: Path, tmp_path: Path) -> None:
        stranger = tmp_path / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.weights.h5"
        stranger.write_bytes((folder / "mobilenetv3-small_notop.weights.h5").read_bytes())
        with pytest.raises(BadData, match="does not hold the weights of vgg16"):
            load_encoder("vgg16", weights=tmp_path)

    def test_a_file_that_is_no_weights_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "vgg16_notop.weights.h5").write_text("hello")
        with pytest.raises(BadData, match="does not hold the weights of vgg16"):
            load_encoder("vgg16", weights=tmp_path)

    def test_efficientnet_from_a_file_is_scaled_as_the_download_is(self, tmp_path: Path, photos: tf.Tensor) -> None:
        """Keras puts a Rescaling behind Normalization for weights="imagenet" only; a file of the same needs it too."""
        keras.utils.set_random_seed(5)
        network = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(224, 224, 3))
        network.save_weights(tmp_path / "efficientnetb0_notop.weights.h5")
        normalise, pad = (
            next(layer for layer in network.layers if layer.name.startswith(name))
            for name in ("normalization", "stem_conv_pad")
        )
        scale = np.float32([1 / np.sqrt(deviation) for deviation in (0.229, 0.224, 0.225)])
        normalised = keras.Model(network.input, normalise.output)(photos[:1])
        after = keras.Model(pad.input, network.output)
        expected = np.reshape(after(normalised * scale, training=False), (1, 49, 1280))
        found = load_encoder("efficientnet-b0", weights=tmp_path).encode(photos[:1]).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())

    @pytest.mark.parametrize(
        ("file", "owner"),
        [
            ("efficientnetv2-b0_notop.h5", "efficientnetv2-b0"),
            ("efficientnetb0_notop.h5", "efficientnet-b0"),
            ("convnext_tiny_notop.h5", "convnext-tiny"),
            ("resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5", "resnet50"),
            ("resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5", "resnet50-v2"),
            ("mobilenet_1_0_224_tf_no_top.h5", "mobilenet"),
            ("mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5", "mobilenetv2"),
            ("weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5", "mobilenetv3-small"),
            ("inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5", "inception-resnet-v2"),
            ("nasnet_mobile_no_top.h5", "nasnet-mobile"),
            ("vgg16_weights_tf_dim_ordering_tf_kernels.h5", None),  # with the classifier: another network
            ("something_else_notop.h5", None),
        ],
    )
    def test_a_published_file_name_belongs_to_one_encoder(self, tmp_path: Path, file: str, owner: str | None) -> None:
        (tmp_path / file).touch()
        assert [name for name in zoo.ZOO if zoo.weights_file(name, tmp_path)] == ([owner] if owner else [])

    def test_no_network_is_one_clear_sentence(self, tmp_path: Path) -> None:
        code = (
            "from captioner.errors import ServiceUnavailable; from captioner.model.encoder import load_encoder\n"
            "try: load_encoder('mobilenetv3-small')\n"
            "except ServiceUnavailable as error: print(error)"
        )
        # Port 9 of this machine: nothing listens there, so no proxy and no server will answer.
        nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY", "HTTP_PROXY"), "http://127.0.0.1:9")
        environment = {**os.environ, **nowhere, "KERAS_HOME": str(tmp_path), "no_proxy": "", "NO_PROXY": ""}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        sentence = done.stdout.splitlines()[-1]
        assert sentence.startswith("The ImageNet weights of mobilenetv3-small cannot be downloaded (")
        assert sentence.endswith(
            "set CAPTIONER_WEIGHTS to a folder that holds them, or take the encoder efficientnet-lite0."
        )
