"""A registered version as MLflow itself loads and serves it, with a real model."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from captioner.adapters.mlflow_registry import MlflowRegistry, requirements
from captioner.adapters.mlflow_store import QUIET, database_uri
from captioner.images import normalise
from captioner.model.captioner import Captioner
from captioner.paths import Paths
from captioner.records import Caption
from tests.adapters.conftest import end, free_port, registered, wait_for


def picture(seed: int, mode: str = "RGB", kind: str = "JPEG") -> bytes:
    """A colourful picture; every seed another one."""
    blocks = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(blocks).resize((80, 60)).convert(mode).save(out, kind)
    return out.getvalue()


# A plain one, one that TensorFlow alone would read wrongly, and one that it cannot read.
PICTURES = [picture(2), picture(3, "CMYK"), picture(5, "RGB", "WEBP")]


@pytest.fixture(scope="module")
def champion(mlflow_paths: Paths, tiny_merge: Path) -> str:
    """The URI of a registered champion: a real model."""
    registry = MlflowRegistry(database_uri(mlflow_paths), mlflow_paths)
    model = registered(registry, tiny_merge, "served")
    registry.set_alias("served", "champion", model.version)
    return "models:/served@champion"


def test_a_version_holds_code_an_artifact_and_no_pickle(champion: str, mlflow_paths: Paths) -> None:
    (model,) = (mlflow_paths.mlflow / "artifacts" / "served" / "models").iterdir()
    files = [path.relative_to(model / "artifacts").as_posix() for path in model.rglob("*") if path.is_file()]
    assert "artifacts/model.tar.gz" in files
    assert "pyfunc_model.py" in files
    assert "code/captioner/model/captioner.py" in files
    assert not [file for file in files if file.endswith((".pkl", ".pickle", ".pyc"))]
    flavor = yaml.safe_load((model / "artifacts" / "MLmodel").read_text())["flavors"]["python_function"]
    assert Path(flavor["model_code_path"]).name == "pyfunc_model.py"
    assert "python_model" not in flavor  # where a pickled one would be


def test_the_requirements_are_pinned_and_small() -> None:
    names = [line.split("==")[0] for line in requirements()]
    assert {"mlflow", "numpy", "pillow"} <= set(names)
    assert any(name.startswith("tensorflow") for name in names)
    assert not {"prefect", "dvc", "great-expectations", "moto", "pytest"} & set(names)
    assert all("==" in line for line in requirements())


@pytest.fixture(scope="module")
def expected(tiny_merge: Path) -> list[tuple[Caption, ...]]:
    """What the artifact itself says of `PICTURES`."""
    return Captioner.load(tiny_merge).caption([normalise(data) for data in PICTURES])


def test_pyfunc_says_what_the_artifact_says(
    champion: str, expected: list[tuple[Caption, ...]], mlflow_paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    import pandas as pd

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(database_uri(mlflow_paths))
    try:
        model = mlflow.pyfunc.load_model(champion)
    finally:
        mlflow.set_tracking_uri(before)
        monkeypatch.setattr(sys, "path", [entry for entry in sys.path if str(mlflow_paths.home) not in entry])
    answer = model.predict(pd.DataFrame({"image": PICTURES}))
    assert list(answer["caption"]) == [captions[0].caption for captions in expected]
    for row, captions in zip(answer.itertuples(), expected, strict=True):
        assert row.log_probability == pytest.approx(captions[0].log_probability, abs=1e-4)
        assert [one["caption"] for one in row.alternatives] == [one.caption for one in captions[1:]]
    assert len(model.predict(model.input_example)) == 1
    with pytest.raises(mlflow.MlflowException, match="image 2"):
        model.predict(pd.DataFrame({"image": [PICTURES[0], b"no picture"]}))


def test_mlflow_models_serve_says_what_the_artifact_says(
    champion: str, expected: list[tuple[Caption, ...]], mlflow_paths: Paths, tmp_path: Path
) -> None:
    port = free_port()
    log = tmp_path / "serve.log"
    arguments = (
        "models",
        "serve",
        "-m",
        champion,
        "--env-manager",
        "local",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    )
    # MLflow starts uvicorn by its name, as it is found in an activated environment.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, **QUIET, "PATH": path, "MLFLOW_TRACKING_URI": database_uri(mlflow_paths)}
    command = [sys.executable, "-m", "mlflow", *arguments]
    with log.open("w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env=environment, cwd=tmp_path, start_new_session=True
        )
    try:
        url = wait_for(f"http://127.0.0.1:{port}", process, log)
        rows = [{"image": base64.b64encode(data).decode()} for data in PICTURES]
        answer = _post(f"{url}/invocations", {"dataframe_records": rows})["predictions"]
        assert [row["caption"] for row in answer] == [captions[0].caption for captions in expected]
        assert [set(row) for row in answer] == [{"caption", "log_probability", "alternatives"}] * len(PICTURES)
        with pytest.raises(urllib.error.HTTPError) as failure:
            _post(f"{url}/invocations", {"dataframe_records": [{"image": base64.b64encode(b"text").decode()}]})
        assert failure.value.code == 400
        assert "image 1" in failure.value.read().decode()
    finally:
        end(process)


def _post(url: str, body: object) -> dict[str, list[dict[str, object]]]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: dict[str, list[dict[str, object]]] = json.loads(answer.read())
    return found
