"""The same model.tar.gz in the AWS TensorFlow Serving image: its layout, and its signature as its REST API sees it.

TensorFlow Serving itself is in no package index, so it is not run here: what it reads (folder, tag, signature, graph
version) is looked at, and its rule for JSON (`{"b64": …}` is a string of bytes, one row for each instance) is applied.
"""

from __future__ import annotations

import base64
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captioner.images import normalise
from captioner.model.captioner import Captioner


@pytest.fixture(scope="module")
def model(tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("opt-ml-model")
    with tarfile.open(tiny_artifact) as archive:
        archive.extractall(folder, filter="data")
    return folder


def photo(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def test_the_archive_is_one_version_and_no_code(model: Path) -> None:
    assert [one.name for one in model.iterdir()] == ["1"]  # a number: what TensorFlow Serving looks for
    assert (model / "1" / "saved_model.pb").is_file()
    assert (model / "1" / "variables" / "variables.index").is_file()
    # code/requirements.txt would be installed at every start, and fail without a network.
    assert not list(model.rglob("code"))


def test_the_signature_is_one_that_predict_finds(model: Path) -> None:
    from tensorflow.core.framework.types_pb2 import DT_FLOAT, DT_STRING
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    (graph,) = SavedModel.FromString((model / "1" / "saved_model.pb").read_bytes()).meta_graphs
    assert list(graph.meta_info_def.tags) == ["serve"]
    signature = graph.signature_def["serving_default"]
    assert signature.method_name == "tensorflow/serving/predict"
    (given,) = signature.inputs.items()
    assert given[0] == "image_bytes"
    assert given[1].dtype == DT_STRING
    assert {name: one.dtype for name, one in signature.outputs.items()} == {
        "captions": DT_STRING,
        "log_probabilities": DT_FLOAT,
    }
    # One row for each instance: every first dimension is the batch.
    for one in (given[1], *signature.outputs.values()):
        assert one.tensor_shape.dim[0].size == -1
    # An output named …_bytes would come back as base64.
    assert not [name for name in signature.outputs if name.endswith("_bytes")]
    # What an older TensorFlow checks before it reads a graph that a newer one wrote.
    assert graph.graph_def.versions.min_consumer <= 12


def predict(model: Path, request: str) -> dict[str, Any]:
    """What TensorFlow Serving answers to POST …:predict, by its documented rules for the row format."""
    import tensorflow as tf

    rows = json.loads(request)["instances"]
    signature = tf.saved_model.load(str(model / "1")).signatures["serving_default"]
    (name,) = signature.structured_input_signature[1]
    columns = [base64.b64decode(row.get(name, row)["b64"]) for row in rows]
    answer = signature(**{name: tf.constant(columns)})
    values = {key: [_plain(one) for one in value.numpy()] for key, value in answer.items()}
    return {"predictions": [{key: value[row] for key, value in values.items()} for row in range(len(rows))]}


def _plain(row: np.ndarray) -> list[Any]:
    return [one.decode() if isinstance(one, bytes) else float(one) for one in row]


@pytest.mark.parametrize("named", [True, False])
def test_a_request_of_json_gets_the_captions_of_our_own_server(model: Path, named: bool) -> None:
    photos = [photo(seed) for seed in range(3)]
    texts = [{"b64": base64.b64encode(one).decode()} for one in photos]
    answer = predict(model, json.dumps({"instances": [{"image_bytes": one} if named else one for one in texts]}))
    ours = Captioner.load(model).caption([normalise(one) for one in photos])
    for row, captions in zip(answer["predictions"], ours, strict=True):
        assert row["captions"] == [one.caption for one in captions]
        assert row["log_probabilities"] == pytest.approx([one.log_probability for one in captions], abs=1e-4)
