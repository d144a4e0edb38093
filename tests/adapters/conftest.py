"""Fixtures for MLflow: a tiny artifact that keeps the contract, a local store, and a real server over it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from captioner.adapters.mlflow_store import answers, prepare
from captioner.digests import pack_folder
from captioner.paths import Paths
from captioner.settings import Settings
from captioner.stack.services import base_environment, wanted


@pytest.fixture(scope="session")
def small_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model.tar.gz that keeps the artifact's contract: it says how bright and how wide a picture is."""
    import tensorflow as tf

    class Bright(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([], tf.int32)])
        def with_beam(self, image_bytes, beam):
            def look(data):
                picture = tf.cast(tf.io.decode_image(data, channels=3, expand_animations=False), tf.float32)
                mean = tf.reduce_mean(picture)
                first = tf.where(mean > 127, "a bright picture", "a dark picture")
                return tf.stack([first, "a picture"]), tf.stack([-1.0 - mean / 255, -3.0])

            captions, scores = tf.map_fn(look, image_bytes, fn_output_signature=(tf.string, tf.float32))
            return {"captions": captions, "log_probabilities": scores}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def serving(self, image_bytes):
            return self.with_beam(image_bytes, 2)

        @tf.function(input_signature=[tf.TensorSpec([None, 1, 4], tf.float16)])
        def from_features(self, grid):
            count = tf.shape(grid)[0]
            return {"captions": tf.fill([count, 2], "a picture"), "log_probabilities": tf.fill([count, 2], -1.0)}

    folder = tmp_path_factory.mktemp("artifact")
    module = Bright()
    signatures = {
        "serving_default": module.serving,
        "from_features": module.from_features,
        "with_beam": module.with_beam,
    }
    tf.saved_model.save(module, str(folder / "model" / "1"), signatures)
    (folder / "model" / "1" / "fingerprint.pb").unlink()
    card = folder / "model" / "1" / "assets.extra" / "captioner.json"
    card.parent.mkdir()
    card.write_text(json.dumps({"beam": 2, "top": 2, "features": {"cells": 1, "channels": 4}}))
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
