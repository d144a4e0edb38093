"""Where the store is, that it is created once, and that what goes wrong there is one sentence."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from captioner.adapters import mlflow_store
from captioner.adapters.mlflow_store import answers, database_uri, prepare
from captioner.adapters.mlflow_tracking import MlflowTracker, tracking_uri
from captioner.errors import BadEnvironment, ServiceUnavailable
from captioner.paths import Paths
from captioner.settings import Settings
from tests.adapters.conftest import Server, free_port

NAME = "captioner-test"


def test_the_setting_comes_first(paths: Paths) -> None:
    settings = Settings.from_env(paths.root, {"CAPTIONER_MLFLOW_URI": "http://mlflow.example:5000"})
    assert tracking_uri(settings, paths) == "http://mlflow.example:5000"


def test_a_local_server_that_answers_comes_next(mlflow_server: Server, paths: Paths, settings: Settings) -> None:
    _name_server(paths, mlflow_server.url)
    assert tracking_uri(settings, paths) == mlflow_server.url


@pytest.mark.parametrize("content", [None, "{", "{}", '{"mlflow": {"url": null}}', '{"mlflow": []}'])
def test_without_a_server_it_is_the_servers_file(paths: Paths, settings: Settings, content: str | None) -> None:
    if content is not None:
        paths.services.parent.mkdir(parents=True, exist_ok=True)
        paths.services.write_text(content)
    assert tracking_uri(settings, paths) == f"sqlite:///{paths.home}/mlflow/mlflow.db"


def test_a_server_that_is_gone_is_not_waited_for(paths: Paths, settings: Settings) -> None:
    _name_server(paths, f"http://127.0.0.1:{free_port()}")
    began = time.monotonic()
    assert tracking_uri(settings, paths) == database_uri(paths)
    assert time.monotonic() - began < 2


def test_a_server_that_accepts_and_says_nothing_is_given_up_on(paths: Paths) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        assert not answers(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - began < 10


def test_an_unreachable_server_is_said_at_once(paths: Paths) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    began = time.monotonic()
    with pytest.raises(ServiceUnavailable, match=f"^MLflow does not answer at {url}: start it"):
        MlflowTracker(url, NAME, paths).start("run", {})
    assert time.monotonic() - began < 5


def test_a_password_in_the_uri_is_not_printed(paths: Paths) -> None:
    with pytest.raises(ServiceUnavailable) as failure:
        MlflowTracker(f"http://me:secret@127.0.0.1:{free_port()}", NAME, paths).start("run", {})
    assert "secret" not in str(failure.value)


def test_two_processes_may_be_the_first_at_once(tmp_path: Path) -> None:
    """Each would run MLflow's migrations on the same empty file."""
    code = (
        "import sys; from pathlib import Path; from captioner.paths import Paths\n"
        "from captioner.adapters.mlflow_tracking import MlflowTracker; from captioner.adapters.mlflow_store import *\n"
        "paths = Paths(Path(sys.argv[1]), Path(sys.argv[1]) / 'home')\n"
        "print(MlflowTracker(database_uri(paths), 'captioner-race', paths).start('run', {}).id)\n"
    )
    with ThreadPoolExecutor(2) as pool:
        command = [sys.executable, "-c", code, str(tmp_path)]
        done = list(pool.map(lambda _: subprocess.run(command, capture_output=True, text=True), range(2)))
    assert [one.returncode for one in done] == [0, 0], [one.stderr for one in done]
    assert len({one.stdout for one in done}) == 2
    paths = Paths(tmp_path, tmp_path / "home")
    assert len(mlflow_store.client(database_uri(paths)).search_experiments()) == 2  # and MLflow's Default
    assert sorted(path.name for path in paths.mlflow.iterdir()) == ["mlflow.db", "mlflow.db.lock"]


def test_a_folder_that_cannot_be_written_is_said(paths: Paths) -> None:
    paths.home.mkdir()
    paths.mlflow.write_text("a file where the folder should be")
    with pytest.raises(BadEnvironment, match="cannot be written"):
        prepare(paths.mlflow / "mlflow.db")


@pytest.mark.parametrize("uri", ["ftp://mlflow.example/x", "mlruns", "file:///somewhere/mlruns"])
def test_a_uri_that_mlflow_cannot_use_is_said(paths: Paths, uri: str) -> None:
    with pytest.raises(BadEnvironment, match=r"^MLflow at .* refused: "):
        MlflowTracker(uri, NAME, paths).start("run", {})


def test_another_sqlite_file_keeps_its_artifacts_beside_it(paths: Paths, mlflow_paths: Paths, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    shutil.copy(mlflow_paths.mlflow / "mlflow.db", tmp_path / "mine" / "runs.db")
    run = MlflowTracker(f"sqlite:///{tmp_path}/mine/runs.db", "elsewhere", paths).start("run", {})
    run.file(paths.params)
    assert list((tmp_path / "mine" / "artifacts" / "elsewhere" / run.id).rglob("params.yaml"))


def test_a_damaged_database_is_said(paths: Paths) -> None:
    paths.mlflow.mkdir(parents=True)
    (paths.mlflow / "mlflow.db").write_bytes(b"not a database" * 100)
    with pytest.raises(BadEnvironment, match="is damaged"):
        MlflowTracker(database_uri(paths), NAME, paths).start("run", {})


def test_importing_the_adapters_does_not_import_mlflow() -> None:
    names = "captioner.adapters.mlflow_tracking, captioner.adapters.mlflow_registry"
    code = f"import sys, {names}; print('mlflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def _name_server(paths: Paths, url: str) -> None:
    paths.services.parent.mkdir(parents=True, exist_ok=True)
    paths.services.write_text(json.dumps({"mlflow": {"url": url, "pid": 1}}))
