"""The registry and the register stage, on the SQLite file itself and through a server over the same file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from captioner.adapters import mlflow_store
from captioner.adapters.mlflow_registry import MlflowRegistry
from captioner.adapters.mlflow_store import database_uri
from captioner.adapters.mlflow_tracking import MlflowTracker
from captioner.digests import sha256_file
from captioner.errors import BadData
from captioner.model.captioner import Captioner
from captioner.params import load_params
from captioner.paths import Paths
from captioner.shipped import read_shipped, repeats
from captioner.stages import register
from tests.adapters.conftest import Server, registered, store_uri
from tests.evaluated import good, write_candidate, write_test_set


@pytest.fixture(params=["sqlite", "server"])
def registry(request: pytest.FixtureRequest, mlflow_paths: Paths) -> MlflowRegistry:
    return MlflowRegistry(store_uri(request), mlflow_paths)


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


def test_the_shipped_model_on_a_real_store(
    mlflow_paths: Paths, paths: Paths, shipped_project: Path, rebuilt: Path, tmp_path: Path
) -> None:
    name, uri = "shipped-first", database_uri(mlflow_paths)
    shutil.copytree(shipped_project / "models" / "shipped", paths.shipped)
    shutil.copytree(rebuilt, paths.rebuilt)
    write_test_set(paths)
    write_candidate(paths, "attention")
    params = load_params(paths.params).register_.model_copy(update={"first_champion": "shipped"})
    tracker, registry = MlflowTracker(uri, name, mlflow_paths), MlflowRegistry(uri, mlflow_paths)

    report = register.run(params, paths, tracker, registry, name, ("attention",))

    assert [(one.candidate, one.outcome) for one in report.candidates] == [
        ("shipped", "champion"),
        ("attention", "challenger"),
    ]
    champion = registry.by_alias(name, "champion")
    assert champion is not None
    assert champion.digest == read_shipped(paths.shipped).digest
    model = Captioner.load(registry.fetch(champion, tmp_path / "fetched"), paths.unpacked)
    assert repeats(model, read_shipped(paths.shipped).card["golden"])
    client = mlflow_store.client(uri)
    run = client.get_run(report.candidates[0].run_id)
    assert run.data.params["decoder.units"] == "12"
    assert run.data.tags["captioner.shipped_digest"] == champion.digest
    listed = {
        file.path for folder in ("reports", "evaluation") for file in client.list_artifacts(run.info.run_id, folder)
    }
    assert listed == {"reports/card.json", "reports/README.md", "evaluation/predictions.jsonl"}


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
    assert run.data.params["decoder.kind"] == "attention"
    assert run.data.metrics["test_cider"] > 100
    assert run.data.metrics["slice_cider/dog"] > 100
    assert [m.step for m in client.get_metric_history(run.info.run_id, "dev_cider")] == [1, 2]
    assert len(run.outputs.model_outputs) == 1
    assert {entry.dataset.name for entry in run.inputs.dataset_inputs} == {"raw", "validated", "features"}
    listed = {file.path for folder in ("", "evaluation") for file in client.list_artifacts(run.info.run_id, folder)}
    assert {"dvc.lock", "params.yaml", "evaluation/gallery.html", "evaluation/predictions.jsonl"} <= listed
