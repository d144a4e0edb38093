"""MLflow for real: its SQLite file, a standing server over the same file, and its own model server."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from PIL import Image

from captioner.adapters import mlflow_store
from captioner.adapters.mlflow_registry import MlflowRegistry, requirements
from captioner.adapters.mlflow_store import QUIET, answers, database_uri, prepare
from captioner.adapters.mlflow_tracking import MlflowTracker, tracking_uri
from captioner.digests import sha256_file
from captioner.errors import BadData, BadEnvironment, ServiceUnavailable
from captioner.params import load_params
from captioner.paths import Paths
from captioner.settings import Settings
from captioner.stages import register
from tests.adapters.conftest import Server, end, free_port, wait_for
from tests.evaluated import good, write_candidate, write_test_set

NAME = "captioner-test"


def picture(brightness: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 12), (brightness, brightness, brightness)).save(out, "JPEG")
    return out.getvalue()


@pytest.fixture(params=["sqlite", "server"])
def tracker(request: pytest.FixtureRequest, mlflow_paths: Paths) -> MlflowTracker:
    """One tracker on the file itself and one through the server: everything must work alike."""
    return MlflowTracker(_uri(request, mlflow_paths), NAME, mlflow_paths)


@pytest.fixture(params=["sqlite", "server"])
def registry(request: pytest.FixtureRequest, mlflow_paths: Paths) -> MlflowRegistry:
    return MlflowRegistry(_uri(request, mlflow_paths), mlflow_paths)


def _uri(request: pytest.FixtureRequest, paths: Paths) -> str:
    return request.getfixturevalue("mlflow_server").url if request.param == "server" else database_uri(paths)


# Tracking


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


# Where the store is


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


# The registry


def registered(registry: MlflowRegistry, artifact: Path, name: str, predictions: Path | None = None):
    run = MlflowTracker(registry.uri, name, registry.paths).start("train", {})
    tags = {"captioner.candidate": "merge"}
    if predictions is not None:
        run.file(predictions, "evaluation")
        tags["captioner.predictions"] = f"runs:/{run.id}/evaluation/{predictions.name}"
    return registry.create(name, artifact, run.id, tags)


def test_versions_aliases_and_digests(registry: MlflowRegistry, small_artifact: Path, tmp_path: Path) -> None:
    name = f"aliases-{registry.uri[:4]}"
    assert registry.by_alias(name, "champion") is None
    assert registry.by_digest(name, "0" * 64) is None
    first = registered(registry, small_artifact, name)
    assert (first.version, first.digest, first.aliases) == ("1", sha256_file(small_artifact), ())
    assert first.tags["captioner.candidate"] == "merge"
    assert registry.by_alias(name, "champion") is None
    registry.set_alias(name, "champion", "1")
    registry.tag(first, {"captioner.gate": "passed"})
    champion = registry.by_alias(name, "champion")
    assert champion == registry.by_digest(name, first.digest)
    assert champion.aliases == ("champion",)
    assert champion.tags["captioner.gate"] == "passed"
    second = registered(registry, small_artifact, name)
    assert registry.by_digest(name, first.digest).version == second.version == "2"
    registry.set_alias(name, "champion", "2")
    assert registry.by_alias(name, "champion").version == "2"
    registry.drop_alias(name, "champion")
    registry.drop_alias(name, "champion")
    assert registry.by_alias(name, "champion") is None


def test_the_artifact_and_the_predictions_come_back(
    registry: MlflowRegistry, small_artifact: Path, tmp_path: Path
) -> None:
    predictions = tmp_path / "predictions.jsonl"
    predictions.write_text('{"id": "1"}\n')
    model = registered(registry, small_artifact, f"fetch-{registry.uri[:4]}", predictions)
    fetched = registry.fetch(model, tmp_path / "here")
    assert fetched == tmp_path / "here" / "model.tar.gz"
    assert sha256_file(fetched) == model.digest
    kept = fetched.stat().st_mtime_ns
    assert registry.fetch(model, tmp_path / "here").stat().st_mtime_ns == kept
    assert registry.fetch_predictions(model, tmp_path / "here").read_text() == '{"id": "1"}\n'
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == ["model.tar.gz", "predictions.jsonl"]


def test_what_was_written_without_the_server_is_fetched_through_it(
    mlflow_server: Server, mlflow_paths: Paths, small_artifact: Path, tmp_path: Path
) -> None:
    registered(MlflowRegistry(database_uri(mlflow_paths), mlflow_paths), small_artifact, "both-ways")
    remote = MlflowRegistry(mlflow_server.url, mlflow_paths)
    model = remote.by_digest("both-ways", sha256_file(small_artifact))
    assert model is not None
    assert remote.fetch(model, tmp_path).is_file()


def test_an_artifact_that_was_changed_in_the_store_is_refused(
    mlflow_paths: Paths, small_artifact: Path, tmp_path: Path
) -> None:
    registry = MlflowRegistry(database_uri(mlflow_paths), mlflow_paths)
    model = registered(registry, small_artifact, "changed")
    (stored,) = (mlflow_paths.mlflow / "artifacts" / "changed").rglob("model.tar.gz")
    stored.write_bytes(b"something else")
    with pytest.raises(BadData, match=r"Version 1 of changed has digest .{12}, but its artifact is"):
        registry.fetch(model, tmp_path)
    assert not list(tmp_path.iterdir())
    stored.unlink()
    with pytest.raises(BadData, match=r"has lost its model\.tar\.gz"):
        registry.fetch(model, tmp_path)


def test_a_version_that_others_registered_is_said(mlflow_paths: Paths, tmp_path: Path) -> None:
    client = mlflow_store.client(database_uri(mlflow_paths))
    client.create_registered_model("foreign")
    client.create_model_version("foreign", str(tmp_path))
    client.set_registered_model_alias("foreign", "champion", "1")
    registry = MlflowRegistry(database_uri(mlflow_paths), mlflow_paths)
    model = registry.by_alias("foreign", "champion")
    assert model is not None
    assert model.digest == ""
    with pytest.raises(BadData, match="was not registered by captioner"):
        registry.fetch(model, tmp_path)
    with pytest.raises(BadData, match="has no predictions"):
        registry.fetch_predictions(model, tmp_path)


def test_a_missing_artifact_is_said(mlflow_paths: Paths, tmp_path: Path) -> None:
    with pytest.raises(BadData, match="run export first"):
        MlflowRegistry(database_uri(mlflow_paths), mlflow_paths).create("x", tmp_path / "model.tar.gz", "run", {})


@pytest.mark.parametrize("where", ["sqlite", "server"])
def test_the_register_stage_on_a_real_store(
    where: str, request: pytest.FixtureRequest, mlflow_paths: Paths, paths: Paths, small_artifact: Path, tmp_path: Path
) -> None:
    uri = request.getfixturevalue("mlflow_server").url if where == "server" else database_uri(mlflow_paths)
    name = f"stage-{where}"
    write_test_set(paths)
    write_candidate(paths, "merge", lambda n: "a yellow car" if n % 6 == 0 else good(n))
    write_candidate(paths, "attention", artifact=small_artifact)
    (paths.root / "dvc.lock").write_text("stages: {validate: {outs: [{path: data/validated, md5: f00.dir}]}}")
    params = load_params(paths.params).register_
    tracker, registry = MlflowTracker(uri, name, mlflow_paths), MlflowRegistry(uri, mlflow_paths)

    first = register.run(params, paths, tracker, registry, name, ("merge", "attention"))
    again = register.run(params, paths, tracker, registry, name, ("merge", "attention"))

    assert [one.outcome for one in first.candidates] == ["champion", "challenger"]
    assert [one.outcome for one in again.candidates] == ["no news", "no news"]
    challenger = registry.by_alias(name, "challenger")
    assert challenger is not None
    assert challenger.tags["captioner.dvc.validated"] == "f00.dir"
    saved = registry.fetch_predictions(challenger, tmp_path / "fetched")
    assert saved.read_bytes() == (paths.predictions("attention") / "predictions.jsonl").read_bytes()
    client = mlflow_store.client(uri)
    run = client.get_run(first.candidates[1].run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["decoders.attention.kind"] == "attention"
    assert run.data.metrics["test_cider"] > 100
    assert run.data.metrics["slice_cider/dog"] > 100
    assert [m.step for m in client.get_metric_history(run.info.run_id, "dev_cider")] == [1, 2]
    assert len(run.outputs.model_outputs) == 1
    assert {entry.dataset.name for entry in run.inputs.dataset_inputs} == {"raw", "validated", "features"}
    listed = {file.path for folder in ("", "evaluation") for file in client.list_artifacts(run.info.run_id, folder)}
    assert {"dvc.lock", "params.yaml", "evaluation/gallery.html", "evaluation/predictions.jsonl"} <= listed


# What MLflow itself makes of a version


@pytest.fixture(scope="module")
def champion(mlflow_paths: Paths, small_artifact: Path) -> str:
    """The URI of a registered champion."""
    registry = MlflowRegistry(database_uri(mlflow_paths), mlflow_paths)
    model = registered(registry, small_artifact, "served")
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


def test_pyfunc_captions_pictures(champion: str, mlflow_paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow
    import pandas as pd

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(database_uri(mlflow_paths))
    try:
        model = mlflow.pyfunc.load_model(champion)
    finally:
        mlflow.set_tracking_uri(before)
        monkeypatch.setattr(sys, "path", [entry for entry in sys.path if str(mlflow_paths.home) not in entry])
    answer = model.predict(pd.DataFrame({"image": [picture(250), picture(5)]}))
    assert list(answer["caption"]) == ["a bright picture", "a dark picture"]
    assert answer["log_probability"][0] == pytest.approx(-1 - 250 / 255, abs=0.02)
    assert answer["alternatives"][0] == [{"caption": "a picture", "log_probability": -3.0}]
    assert len(model.predict(model.input_example)) == 1
    with pytest.raises(mlflow.MlflowException, match="image 2"):
        model.predict(pd.DataFrame({"image": [picture(1), b"no picture"]}))


def test_mlflow_models_serve_answers(champion: str, mlflow_paths: Paths, tmp_path: Path) -> None:
    port = free_port()
    log = tmp_path / "serve.log"
    arguments = [
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
    ]
    # MLflow starts uvicorn by its name, as it is found in an activated environment.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, **QUIET, "PATH": path, "MLFLOW_TRACKING_URI": database_uri(mlflow_paths)}
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *arguments],
            stdout=out,
            stderr=out,
            env=environment,
            cwd=tmp_path,
            start_new_session=True,
        )
    try:
        url = wait_for(f"http://127.0.0.1:{port}", process, log)
        rows = [{"image": base64.b64encode(picture(brightness)).decode()} for brightness in (250, 5)]
        answer = _post(f"{url}/invocations", {"dataframe_records": rows})
        assert [row["caption"] for row in answer["predictions"]] == ["a bright picture", "a dark picture"]
        assert answer["predictions"][0]["alternatives"][0]["caption"] == "a picture"
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


def _name_server(paths: Paths, url: str) -> None:
    paths.services.parent.mkdir(parents=True, exist_ok=True)
    paths.services.write_text(json.dumps({"mlflow": {"url": url, "pid": 1}}))
