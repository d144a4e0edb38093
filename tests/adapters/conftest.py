"""Fixtures for MLflow: artifacts, a local store, and a real server over it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from captioner.adapters.mlflow_registry import MlflowRegistry
from captioner.adapters.mlflow_store import answers, database_uri, prepare
from captioner.adapters.mlflow_tracking import MlflowTracker
from captioner.digests import pack_folder
from captioner.paths import Paths
from captioner.ports import ModelVersion
from captioner.records import write_text
from captioner.settings import Settings
from captioner.stack.services import base_environment, wanted


@pytest.fixture(scope="session")
def small_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model.tar.gz that holds no model: what is registered and fetched is not looked into."""
    folder = tmp_path_factory.mktemp("artifact")
    write_text(folder / "model" / "1" / "saved_model.pb", "not a model")
    packed = folder / "model.tar.gz"
    packed.write_bytes(pack_folder(folder / "model"))
    return packed


@pytest.fixture(scope="session")
def mlflow_paths(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """A project with a local MLflow store, for the whole session: building the database takes seconds."""
    root = tmp_path_factory.mktemp("mlflow")
    paths = Paths(root, root / ".captioner")
    prepare(paths.mlflow / "mlflow.db")
    return paths


@dataclass(frozen=True)
class Server:
    url: str
    paths: Paths


@pytest.fixture(scope="session")
def mlflow_server(mlflow_paths: Paths) -> Iterator[Server]:
    """A real server over the same store, started as `captioner up` starts it."""
    port = free_port()
    log = mlflow_paths.home / "mlflow.log"
    settings = Settings.from_env(mlflow_paths.root, {})
    service = next(one for one in wanted(settings, mlflow_paths) if one.name == "mlflow")
    environment = {**base_environment(mlflow_paths), **service.env(port, {})}
    with log.open("w") as out:
        process = subprocess.Popen(
            service.command(port), stdout=out, stderr=out, env=environment, start_new_session=True
        )
    try:
        yield Server(wait_for(f"http://127.0.0.1:{port}", process, log), mlflow_paths)
    finally:
        end(process)


def store_uri(request: pytest.FixtureRequest) -> str:
    """For a fixture with params "sqlite" and "server": one store, in two ways."""
    if request.param == "server":
        return str(request.getfixturevalue("mlflow_server").url)
    return database_uri(request.getfixturevalue("mlflow_paths"))


def registered(registry: MlflowRegistry, artifact: Path, name: str, predictions: Path | None = None) -> ModelVersion:
    """A new version of `name`, of a run of its own."""
    run = MlflowTracker(registry.uri, name, registry.paths).start("train", {})
    tags = {"captioner.candidate": "merge"}
    if predictions is not None:
        run.file(predictions, "evaluation")
        tags["captioner.predictions"] = f"runs:/{run.id}/evaluation/{predictions.name}"
    return registry.create(name, artifact, run.id, tags)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 120) -> str:
    deadline = time.monotonic() + seconds
    while not answers(url, strict=False):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)  # nothing to wait on: the server does not say when it is ready
    return url


def end(process: subprocess.Popen[bytes]) -> None:
    """Stop a server with its workers: they share its session."""
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)
    except ProcessLookupError:
        return  # it ended by itself, and the test says why
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port
