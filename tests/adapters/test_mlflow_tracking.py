"""Runs, on the SQLite file itself and through a server over the same file: everything must work alike."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from captioner.adapters import mlflow_store
from captioner.adapters.mlflow_store import database_uri
from captioner.adapters.mlflow_tracking import MlflowTracker
from captioner.errors import BadEnvironment
from captioner.paths import Paths
from tests.adapters.conftest import Server, store_uri

NAME = "captioner-test"


@pytest.fixture(params=["sqlite", "server"])
def tracker(request: pytest.FixtureRequest, mlflow_paths: Paths) -> MlflowTracker:
    """One tracker on the file itself and one through the server: everything must work alike."""
    return MlflowTracker(store_uri(request), NAME, mlflow_paths)


def test_a_run_remembers_what_it_is_told(tracker: MlflowTracker, mlflow_paths: Paths, tmp_path: Path) -> None:
    run = tracker.start("train-merge", {"captioner.candidate": "merge"})
    run.params({"train": {"epochs": 3, "splits": ["train", "dev"]}, "decoders": {"merge": {"units": 8}}})
    run.params({"train": {"epochs": 3}})  # the same again is no change
    for step, loss in enumerate((3.0, 2.0, 1.5), start=1):
        run.metrics({"loss": loss}, step=step)
    run.tags({"captioner.digest": "d1"})
    run.dataset("validated", "0123456789abcdef0123456789abcdef.dir", "data/validated", "captions")
    (tmp_path / "docs" / "inner").mkdir(parents=True)
    (tmp_path / "docs" / "inner" / "index.html").write_text("docs")
    run.file(tmp_path / "docs", "data_docs")
    run.file(tmp_path / "docs" / "inner" / "index.html")
    run.end()

    client = mlflow_store.client(tracker.uri)
    seen = client.get_run(run.id)
    assert seen.info.run_name == "train-merge"
    assert seen.info.status == "FINISHED"
    assert seen.data.params == {"train.epochs": "3", "train.splits": "train, dev", "decoders.merge.units": "8"}
    assert [(m.step, m.value) for m in client.get_metric_history(run.id, "loss")] == [(1, 3.0), (2, 2.0), (3, 1.5)]
    (entry,) = seen.inputs.dataset_inputs
    assert (entry.dataset.name, entry.dataset.digest) == ("validated", "0123456789abcdef0123456789abcdef.dir")
    assert [file.path for file in client.list_artifacts(run.id)] == ["data_docs", "index.html"]
    assert Path(client.download_artifacts(run.id, "data_docs/inner/index.html", str(tmp_path))).read_text() == "docs"
    assert run.tag("captioner.candidate") == "merge"
    assert run.tag("captioner.nothing") is None


def test_a_run_is_tagged_with_the_commit_that_it_is_of(mlflow_paths: Paths, tmp_path: Path) -> None:
    author = ("-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    for arguments in (("init", "-q"), (*author, "commit", "-q", "--allow-empty", "-m", "first")):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    tracker = MlflowTracker(database_uri(mlflow_paths), NAME, Paths(tmp_path, mlflow_paths.home))
    run = tracker.start("clean", {})
    assert len(run.tag("captioner.git_sha") or "") == 40
    assert run.tag("captioner.git_dirty") == "false"
    (tmp_path / "params.yaml").write_text("changed: true")
    assert tracker.start("dirty", {}).tag("captioner.git_dirty") == "true"


def test_a_run_that_failed_says_so(tracker: MlflowTracker, mlflow_paths: Paths) -> None:
    run = tracker.start("broken", {})
    run.end(failed=True)
    assert mlflow_store.client(tracker.uri).get_run(run.id).info.status == "FAILED"


def test_the_newest_run_with_a_tag_is_found_and_open_for_more(tracker: MlflowTracker) -> None:
    value = f"it's {tracker.uri[:4]}"
    older = tracker.start("older", {"captioner.weights_digest": value})
    time.sleep(0.002)  # the order is by start time, in milliseconds
    newer = tracker.start("newer", {"captioner.weights_digest": value})
    newer.end()
    found = tracker.find("captioner.weights_digest", value)
    assert found is not None
    assert found.id == newer.id != older.id
    found.metrics({"test_cider": 50.0})
    assert tracker.find("captioner.weights_digest", "nobody") is None


def test_what_is_written_without_the_server_is_read_through_it_and_back(
    mlflow_server: Server, mlflow_paths: Paths, tmp_path: Path
) -> None:
    (tmp_path / "note.txt").write_text("here")
    uris = (database_uri(mlflow_paths), mlflow_server.url)
    for writes, reads in (uris, uris[::-1]):
        run = MlflowTracker(writes, NAME, mlflow_paths).start("written", {})
        run.file(tmp_path / "note.txt", "notes")
        folder = tmp_path / writes[:4]
        folder.mkdir()
        client = mlflow_store.client(reads)
        assert Path(client.download_artifacts(run.id, "notes/note.txt", str(folder))).read_text() == "here"


def test_the_servers_page_shows_artifacts_of_runs_that_were_written_without_it(
    mlflow_server: Server, mlflow_paths: Paths, tmp_path: Path
) -> None:
    (tmp_path / "gallery.html").write_text("<h1>gallery</h1>")
    run = MlflowTracker(database_uri(mlflow_paths), NAME, mlflow_paths).start("gallery", {})
    run.file(tmp_path / "gallery.html", "evaluation")
    page = f"{mlflow_server.url}/get-artifact?path=evaluation/gallery.html&run_id={run.id}"
    with urllib.request.urlopen(page, timeout=30) as answer:
        assert answer.read() == b"<h1>gallery</h1>"


def test_only_a_run_behind_a_server_has_a_page(mlflow_server: Server, mlflow_paths: Paths) -> None:
    assert MlflowTracker(database_uri(mlflow_paths), NAME, mlflow_paths).start("run", {}).url == ""
    url = MlflowTracker(mlflow_server.url, NAME, mlflow_paths).start("run", {}).url
    assert url.startswith(f"{mlflow_server.url}/#/experiments/")


def test_an_experiment_that_was_deleted_in_the_ui_comes_back(tracker: MlflowTracker, mlflow_paths: Paths) -> None:
    client = mlflow_store.client(tracker.uri)
    name = f"deleted-{tracker.uri[:4]}"
    run = MlflowTracker(tracker.uri, name, mlflow_paths).start("before", {})
    client.delete_experiment(client.get_run(run.id).info.experiment_id)
    assert MlflowTracker(tracker.uri, name, mlflow_paths).start("after", {}).id


def test_a_value_that_mlflow_refuses_is_one_sentence(tracker: MlflowTracker) -> None:
    run = tracker.start("run", {})
    run.params({"a": 1})
    with pytest.raises(BadEnvironment, match=r"^MLflow at .* refused: .*\.$"):
        run.params({"a": 2})
