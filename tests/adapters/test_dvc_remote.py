"""Push and pull against a real S3 over HTTP (moto's server), with a real DVC project."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from captioner.adapters import dvc_remote
from captioner.errors import BadData, ServiceUnavailable, WorkspaceBusy
from captioner.paths import Paths
from captioner.records import write_json
from captioner.settings import Settings
from captioner.workspace import workspace_lock

STAGES = {"stages": {"make": {"cmd": "mkdir data && echo one > data/1 && echo two > data/2", "outs": ["data"]}}}
HOLD_DVC = """
import sys
from dvc.repo import Repo
with Repo(sys.argv[1]) as repo, repo.lock:
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The URL of an S3 server on a free port."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    one = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    one.start()
    host, port = one.get_host_and_port()
    yield f"http://{host}:{port}"
    one.stop()


@pytest.fixture
def s3(server: str) -> str:
    """The server, empty."""
    import requests

    assert requests.post(f"{server}/moto-api/reset", timeout=10).ok
    return server


@pytest.fixture(scope="session")
def made(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with this repository's DVC configuration, one stage and its output, not pushed. Copy it."""
    folder = tmp_path_factory.mktemp("made")
    (folder / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        shutil.copy(root / ".dvc" / name, folder / ".dvc")
    (folder / "dvc.yaml").write_text(yaml.safe_dump(STAGES))
    subprocess.run(["git", "init", "--quiet", "."], cwd=folder, check=True)
    quiet = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet"], cwd=folder, env=quiet, check=True)
    return folder


@pytest.fixture
def dvc_project(project: Path, made: Path) -> Path:
    shutil.copytree(made, project, dirs_exist_ok=True)
    return project


def forget(project: Path) -> None:
    """As in a fresh clone: neither the data nor DVC's cache of it."""
    shutil.rmtree(project / "data")
    shutil.rmtree(project / ".dvc" / "cache")


def client(server: str) -> Any:
    return boto3.client(
        "s3", endpoint_url=server, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    )


def keys(server: str) -> list[str]:
    return [one["Key"] for one in client(server).list_objects_v2(Bucket="captioner-data").get("Contents", [])]


def test_what_was_pushed_is_pulled_into_a_fresh_clone(
    dvc_project: Path, settings: Settings, paths: Paths, s3: str
) -> None:
    sent = dvc_remote.push(settings, paths, s3)
    assert (sent.files, sent.remote, sent.endpoint) == (3, "s3://captioner-data/dvc", s3)
    assert len(keys(s3)) == 3
    assert all(key.startswith("dvc/files/md5/") for key in keys(s3))

    forget(dvc_project)
    assert dvc_remote.pull(settings, paths, s3).files == 3
    assert (dvc_project / "data" / "1").read_text() == "one\n"
    assert (dvc_project / "data" / "2").read_text() == "two\n"


def test_a_second_push_and_pull_move_nothing(dvc_project: Path, settings: Settings, paths: Paths, s3: str) -> None:
    dvc_remote.push(settings, paths, s3)
    assert dvc_remote.push(settings, paths, s3).files == 0
    assert dvc_remote.pull(settings, paths, s3).files == 0


def test_the_local_stack_is_the_default_and_needs_no_credentials(
    dvc_project: Path, settings: Settings, paths: Paths, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A user's own profile must neither be needed nor used.
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    write_json(paths.services, {"aws": {"url": s3, "pid": 1}})
    assert dvc_remote.push(settings, paths).files == 3
    assert os.environ["AWS_PROFILE"] == "production"
    assert "AWS_ACCESS_KEY_ID" not in os.environ


def test_the_verb_prints_what_it_moved(dvc_project: Path, paths: Paths, s3: str) -> None:
    write_json(paths.services, {"aws": {"url": s3, "pid": 1}})
    verb = [sys.executable, "-m", "captioner", "data", "push", "--json"]
    done = subprocess.run(verb, cwd=dvc_project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "action": "push",
        "endpoint": s3,
        "files": 3,
        "remote": "s3://captioner-data/dvc",
    }


def test_a_remote_with_an_endpoint_of_its_own_is_used_as_it_is(
    dvc_project: Path, settings: Settings, paths: Paths, s3: str
) -> None:
    lines = ["['remote \"storage\"']", f"endpointurl = {s3}", "access_key_id = me", "secret_access_key = mine"]
    (dvc_project / ".dvc" / "config.local").write_text("\n".join(lines))
    client(s3).create_bucket(Bucket="captioner-data")
    assert dvc_remote.push(settings, paths).endpoint == s3
    assert len(keys(s3)) == 3


def test_a_remote_that_is_a_folder_needs_no_s3(
    dvc_project: Path, settings: Settings, paths: Paths, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (dvc_project / ".dvc" / "config.local").write_text(f"['remote \"storage\"']\n    url = {elsewhere}\n")
    assert dvc_remote.push(settings, paths).files == 3
    forget(dvc_project)
    moved = dvc_remote.pull(settings, paths)
    assert (moved.files, moved.remote, moved.endpoint) == (3, str(elsewhere), None)


def test_without_the_stack_it_says_how_to_start_it(dvc_project: Path, settings: Settings, paths: Paths) -> None:
    with pytest.raises(ServiceUnavailable, match="captioner up"):
        dvc_remote.push(settings, paths)


def test_a_store_that_does_not_answer_is_one_sentence(dvc_project: Path, settings: Settings, paths: Paths) -> None:
    with pytest.raises(ServiceUnavailable, match=r"127\.0\.0\.1:1 did not answer"):
        dvc_remote.pull(settings, paths, "http://127.0.0.1:1")


def test_before_the_first_repro_there_is_nothing_to_move(
    dvc_project: Path, settings: Settings, paths: Paths, s3: str
) -> None:
    (dvc_project / "dvc.lock").unlink()
    with pytest.raises(BadData, match="run dvc repro first"):
        dvc_remote.push(settings, paths, s3)


def test_a_push_that_cannot_be_whole_fails(dvc_project: Path, settings: Settings, paths: Paths, s3: str) -> None:
    forget(dvc_project)
    with pytest.raises(BadData, match="data/ could not be pushed"):
        dvc_remote.push(settings, paths, s3)


def test_what_was_never_pushed_cannot_be_pulled(dvc_project: Path, settings: Settings, paths: Paths, s3: str) -> None:
    forget(dvc_project)
    with pytest.raises(BadData, match="remote does not have all"):
        dvc_remote.pull(settings, paths, s3)


def test_pull_overwrites_nothing_that_was_changed_here(
    dvc_project: Path, settings: Settings, paths: Paths, s3: str
) -> None:
    dvc_remote.push(settings, paths, s3)
    mine = dvc_project / "data" / "1"
    mine.write_text("mine")
    with pytest.raises(BadData, match="data/1"):
        dvc_remote.pull(settings, paths, s3)
    assert mine.read_text() == "mine"


def test_another_dvc_process_is_one_sentence(dvc_project: Path, settings: Settings, paths: Paths, s3: str) -> None:
    pipe = subprocess.PIPE
    other = subprocess.Popen([sys.executable, "-c", HOLD_DVC, str(dvc_project)], stdin=pipe, stdout=pipe, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(WorkspaceBusy, match="Another DVC process"):
            dvc_remote.push(settings, paths, s3)
    finally:
        other.communicate("\n")


def test_it_holds_the_workspace_meanwhile(dvc_project: Path, settings: Settings, paths: Paths, s3: str) -> None:
    verb = [sys.executable, "-m", "captioner", "data", "push"]
    write_json(paths.services, {"aws": {"url": s3, "pid": 1}})
    with workspace_lock(paths, "the nightly flow"):
        waiting = subprocess.Popen(verb, cwd=dvc_project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert waiting.stderr is not None
        assert "held by the nightly flow" in waiting.stderr.readline()
        assert waiting.poll() is None
    waiting.communicate(timeout=60)
    assert waiting.returncode == 0
    assert len(keys(s3)) == 3


def test_the_repositorys_configuration_sends_nothing_home(root: Path) -> None:
    config = (root / ".dvc" / "config").read_text()
    assert "analytics = false" in config
    assert "check_update = false" in config
    assert "endpointurl" not in config
