"""The flow `reconcile` on a whole stack: an alias that moves in MLflow moves the endpoint, and the ledger says so."""

from __future__ import annotations

import json
import shutil
import tarfile
import urllib.request
from pathlib import Path

import pytest

from captioner.adapters.mlflow_registry import MlflowRegistry
from captioner.adapters.s3_documents import S3Documents
from captioner.adapters.sagemaker import SageMakerEndpoint
from captioner.book import Book
from captioner.digests import pack_folder
from captioner.params import load_params
from captioner.ports import EndpointState
from captioner.stages import removal
from tests.adapters.conftest import registered
from tests.flows.conftest import Standing
from tests.flows.projects import Api
from tests.flows.test_serve_deployments import reconciled

NAME = "captioner-sample"


def another(artifact: Path, folder: Path) -> Path:
    """The same model under another digest: one more file that TensorFlow does not read."""
    with tarfile.open(artifact) as archive:
        archive.extractall(folder, filter="data")
    extra = folder / "1" / "assets.extra" / "note.txt"
    extra.parent.mkdir(exist_ok=True)
    extra.write_text("another version", encoding="utf-8")
    packed = folder.with_name("model.tar.gz")
    packed.write_bytes(pack_folder(folder))
    shutil.rmtree(folder)
    return packed


def move_alias(mlflow: str, alias: str, version: str) -> None:
    """As MLflow's own UI does it: one call of its REST API."""
    body = json.dumps({"name": NAME, "alias": alias, "version": version}).encode()
    request = urllib.request.Request(
        f"{mlflow}/api/2.0/mlflow/registered-models/alias", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


@pytest.mark.timeout(900)
def test_an_alias_that_moves_in_mlflow_is_a_promotion(
    standing: Standing, api: Api, tiny_artifact: Path, tmp_path: Path
) -> None:
    services = json.loads(standing.paths.services.read_text(encoding="utf-8"))
    mlflow = services["mlflow"]["url"]
    registry = MlflowRegistry(mlflow, standing.paths)
    one = registered(registry, tiny_artifact, NAME)
    two = registered(registry, another(tiny_artifact, tmp_path / "unpacked"), NAME)
    endpoint = SageMakerEndpoint(standing.settings, standing.paths)
    book = Book(S3Documents(standing.settings, standing.paths), registry, standing.paths, NAME)

    def serves() -> list[tuple[str, str, str]]:
        state = endpoint.state(NAME)
        assert isinstance(state, EndpointState)
        return [(state.status, one.name, one.digest) for one in state.variants]

    try:
        move_alias(mlflow, "champion", one.version)
        assert reconciled(api)["state_name"] == "Completed"
        assert serves() == [("InService", "champion", one.digest)]

        move_alias(mlflow, "champion", two.version)
        ended = reconciled(api)
        assert ended["state_name"] == "Completed", ended["state"]
        assert serves() == [("InService", "champion", two.digest)]
        noticed, made = book.entries()[-2:]
        assert (noticed.action, noticed.before.version("champion"), noticed.after.version("champion")) == (
            "alias",
            one.version,
            two.version,
        )
        assert noticed.who.startswith("unknown, noticed by Prefect, reconcile ")
        assert (made.action, made.verified["champion"].digest) == ("reconcile", two.digest)
        assert made.who.startswith("Prefect, reconcile '")
        (artifact, *_) = api.artifacts("reconcile")
        assert "brought in line with the registry" in artifact["data"]

        # Nothing moved: nothing is written.
        assert reconciled(api)["state_name"] == "Completed"
        assert book.entries()[-1] == made
    finally:
        # The other tests of this stack are about one that has released nothing.
        registry.drop_alias(NAME, "champion")
        params = load_params(standing.paths.params).deploy
        removal.run(params, standing.paths, endpoint, NAME, captured=True)
