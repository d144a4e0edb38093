"""OpenVINO against TensorFlow: the same features, the same captions, and one sentence where it is not installed."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from captioner.errors import BadData, BadEnvironment
from captioner.featurestore.extract import Extractor
from captioner.golden import golden_images
from captioner.images import normalise
from captioner.model.artifact import check_encoder
from captioner.model.captioner import Captioner
from captioner.model.encoder import Encoder, load_encoder
from captioner.packs import digest
from captioner.records import ImageRecord
from tests.tiny import META

PHOTOS = {name: normalise(data, name) for name, data in golden_images().items()}
RECORDS = [ImageRecord(name, "", name, digest(data), "none", ()) for name, data in PHOTOS.items()]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encoders")


def features(encoder: Encoder, engine: str, records: list[ImageRecord] = RECORDS) -> np.ndarray:
    extractor = Extractor(encoder, 4, engine=engine)
    return np.concatenate([rows for _, rows in extractor.extract(records, lambda record: PHOTOS[record.id])])


@pytest.mark.parametrize("layout", ["grid", "pooled"])
def test_features_are_tensorflows_and_do_not_depend_on_neighbours(cache: Path, layout: str) -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    encoder = load_encoder("efficientnet-lite0", layout, None, cache)
    wanted, found = features(encoder, "tensorflow"), features(encoder, "openvino")
    assert found.dtype == np.float16
    assert found.shape == wanted.shape == (len(PHOTOS), encoder.cells, encoder.channels)
    for one, other in zip(wanted.astype(np.float64), found.astype(np.float64), strict=True):
        assert (one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other) >= 0.9999
    np.testing.assert_array_equal(features(encoder, "openvino", RECORDS[::-1]), found[::-1])


def test_captions_of_photos_are_equal(cache: Path, tiny_artifact: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    encoder = load_encoder("efficientnet-lite0", "grid", None, cache)
    captioner = Captioner.load(tiny_artifact, tmp_path)
    wanted = captioner.caption_features(features(encoder, "tensorflow"))
    found = captioner.caption_features(features(encoder, "openvino"))
    assert [row[0].caption for row in found] == [row[0].caption for row in wanted]


def test_without_the_extra_the_stage_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)  # what an import finds where the package is not
    network = tf.keras.Sequential([tf.keras.Input((8, 8, 3)), tf.keras.layers.Conv2D(5, 4, 4)])
    encoder = Encoder(network, "tiny", "grid", "0" * 64)
    with pytest.raises(BadEnvironment, match=r"pip install 'captioner\[openvino\]'"):
        Extractor(encoder, 2, engine="openvino")


def test_a_decoder_of_openvinos_features_is_exported_with_tensorflows_encoder() -> None:
    encoder = SimpleNamespace(meta=META)
    check_encoder(encoder, replace(META, engine="openvino"))
    with pytest.raises(BadData, match="train it again"):
        check_encoder(encoder, replace(META, engine="openvino", weights_digest="1" * 64))
