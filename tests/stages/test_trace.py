"""trace: each way into the chain, each way in which it can be broken, and commands that do make the model again."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from captioner.book import Book
from captioner.digests import pack_folder, sha256_file
from captioner.errors import BadInput, ServiceUnavailable
from captioner.ledger import Cause, Model, Served, Serving, Snapshot
from captioner.paths import Paths
from captioner.ports import Captured, CapturedRequest, LiveModel
from captioner.stages import trace
from captioner.tracing import Link, Trace
from tests.fakes import FakeDocuments, FakeRegistry, FakeTracker
from tests.test_lineage import git

NAME = "captioner-sample"
ROOT = Path(__file__).resolve().parents[2]
HASHES = {"raw": f"{'1' * 32}.dir", "validated": f"{'2' * 32}.dir", "features": f"{'3' * 32}.dir"}


@dataclass
class FakeServed:
    """`ports.Served` in memory; `down` lets nothing answer."""

    live: list[LiveModel] = field(default_factory=list)
    kept: dict[str, Captured] = field(default_factory=dict)
    archives: set[str] = field(default_factory=set)
    down: bool = False

    def models(self, endpoint: str) -> Sequence[LiveModel]:
        self._reach()
        return self.live if endpoint == NAME else []

    def captured(self, endpoint: str, inference_id: str) -> Captured | None:
        self._reach()
        return self.kept.get(inference_id)

    def requests(self, endpoint: str, inference_ids: Collection[str]) -> Iterator[CapturedRequest]:
        raise NotImplementedError

    def archive(self, digest: str) -> str | None:
        self._reach()
        return f"s3://captioner/models/{digest}/model.tar.gz" if digest in self.archives else None

    def _reach(self) -> None:
        if self.down:
            raise ServiceUnavailable("The local AWS is not up: run `captioner up` and try again.")


class World:
    """A repository with one commit, and version 1 of a model that was made from it and serves as champion."""

    def __init__(self, project: Path, paths: Paths) -> None:
        self.paths, self.tracker, self.served = paths, FakeTracker(), FakeServed()
        self.registry, self.documents = FakeRegistry(self.tracker), FakeDocuments()
        outs = {f"data/{name}": value for name, value in HASHES.items()}
        stages = {path: {"cmd": "x", "outs": [{"path": path, "md5": value}]} for path, value in outs.items()}
        (project / "dvc.lock").write_text(json.dumps({"stages": stages}))
        git(project, "init", "-q")
        git(project, "add", ".")
        git(project, "commit", "-qm", "first")
        self.sha = git(project, "rev-parse", "HEAD")
        self.digest = self.register("one")
        self.live(self.digest)
        served = Serving("InService", "c", {"champion": Served("1", self.digest, 1.0)})
        after = Snapshot({"champion": Model("1", self.digest)}, served)
        self.book().write("register", Cause("ada@host", "first light"), Snapshot(), after)

    def register(self, content: str, **tags: str) -> str:
        artifact = self.paths.root.parent / f"{content}.tar.gz"
        artifact.write_text(content)
        digest = sha256_file(artifact)
        run = self.tracker.start("train-merge", {"captioner.digest": digest})
        every = {
            "captioner.candidate": "merge",
            "captioner.git_sha": self.sha,
            "captioner.git_dirty": "false",
            **{f"captioner.dvc.{name}": value for name, value in HASHES.items()},
            **tags,
        }
        self.registry.create(NAME, artifact, run.id, every)
        return digest

    def live(self, digest: str, version: str = "1") -> None:
        url = f"s3://captioner/models/{digest}/model.tar.gz"
        self.served.live = [LiveModel("champion", f"{NAME}-m-x", True, "local/captioner:latest", url, version, digest)]
        self.served.archives.add(digest)

    def book(self) -> Book:
        now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        return Book(self.documents, self.registry, self.paths, NAME, lambda: now)

    def trace(self, asked: str) -> Trace:
        (found,) = trace.run(
            self.paths, self.registry, self.tracker, self.served, self.book(), asked, "http://mlflow"
        ).traces
        return found

    def retag(self, **tags: str) -> None:
        self.registry.tag(self.registry.get(NAME, "1"), {f"captioner.{name}": value for name, value in tags.items()})


@pytest.fixture
def world(project: Path, paths: Paths) -> World:
    return World(project, paths)


def link(found: Trace, what: str) -> Link:
    return next(one for one in found.links if one.what == what)


def line(digest: str, version: str | None = "1") -> str:
    return json.dumps({"image": "a.jpg", "caption": "a dog", "model": {"version": version, "digest": digest}})


@pytest.mark.parametrize("asked", [NAME, "champion"])
def test_from_the_endpoint_to_the_commit_without_a_gap(world: World, asked: str) -> None:
    found = world.trace(asked)
    assert [one.what for one in found.links] == [
        "endpoint",
        "variant",
        "SageMaker model",
        "artifact",
        "released",
        "MLflow version",
        "run",
        "data",
        "commit",
    ]
    assert found.broken == ()
    assert link(found, "artifact").known["sha256"] == world.digest
    assert link(found, "released").known == {
        "entry": "1",
        "by": "register of ada@host",
        "at": "2026-01-02T03:04:05+00:00",
        "why": "first light",
    }
    assert link(found, "run").known["id"] == "run-1"
    assert link(found, "data").known == HASHES
    assert link(found, "commit").known == {"sha": world.sha, "dirty": "false"}
    assert f"git checkout {world.sha}" in found.rebuild
    assert world.digest in found.rebuild[-1]
    assert world.digest in found.render()


def test_a_caption_is_traced_by_its_digest_whoever_serves_now(world: World) -> None:
    assert world.trace(line(world.digest)).broken == ()
    world.live(world.register("two"), "2")
    found = world.trace(line(world.digest))
    assert "no variant of the endpoint serves this model now" in link(found, "variant").broken
    assert link(found, "MLflow version").known["version"] == "1"
    assert found.rebuild


def test_a_caption_is_traced_without_aws(world: World) -> None:
    world.served.down = True
    found = world.trace(line(world.digest))
    assert link(found, "commit").known["sha"] == world.sha
    assert "the endpoint cannot be asked" in link(found, "variant").broken
    assert "S3 cannot be asked" in link(found, "artifact").broken


def captured(answer: dict[str, Any] | None, at: str = "2026-01-02T04:00:00Z") -> Captured:
    return Captured("request-7", "champion", at, "s3://captioner/capture/x.jsonl", answer)


def test_an_inference_is_traced_by_what_was_captured(world: World) -> None:
    world.served.kept["request-7"] = captured(json.loads(line(world.digest)))
    found = world.trace("request-7")
    assert link(found, "caption").known["said"] == "a dog"
    assert found.broken == ()
    # The champion was swapped since.
    world.live(world.register("two"), "2")
    found = world.trace("request-7")
    assert "serves version 2" in link(found, "SageMaker model").broken
    assert link(found, "commit").known["sha"] == world.sha


def test_an_answer_that_names_no_model_is_traced_by_the_ledger(world: World) -> None:
    world.served.kept["request-7"] = captured(None)
    found = world.trace("request-7")
    assert "was not captured" in link(found, "caption").broken
    assert link(found, "answered by").known["version"] == "1"
    assert link(found, "artifact").known["sha256"] == world.digest
    # Before the ledger began nobody knows.
    world.served.kept["request-7"] = captured({"caption": "a dog"}, "2025-01-01T00:00:00Z")
    found = world.trace("request-7")
    assert "the ledger has none for that time" in link(found, "answered by").broken
    assert found.rebuild == ()


def test_what_is_nowhere_is_refused_in_a_sentence(world: World) -> None:
    with pytest.raises(BadInput, match=r"'request-8' is no endpoint, no variant of captioner-sample \(champion\)"):
        world.trace("request-8")
    world.served.live = []
    for asked in (NAME, "challenger"):
        with pytest.raises(BadInput, match="There is no endpoint captioner-sample: run `captioner deploy`"):
            world.trace(asked)


def test_a_model_that_the_registry_does_not_have(world: World) -> None:
    found = world.trace(line("f" * 64, "9"))
    assert "version 9 was named, and no version of captioner-sample has" in link(found, "MLflow version").broken
    assert link(found, "rebuild").broken.startswith("it cannot be made again: no commit and no candidate")
    assert found.rebuild == ()


def test_a_model_that_calls_itself_otherwise(world: World) -> None:
    assert link(world.trace(line(world.digest, "9")), "MLflow version").broken == "the model called itself version 9"


def test_a_run_that_is_gone(world: World) -> None:
    world.tracker.runs.clear()
    world.retag(git_dirty="true")
    found = world.trace("champion")
    assert link(found, "run").broken.startswith("run run-1 is not in the tracking store")
    assert not any("mlflow" in command for command in found.rebuild)


def test_an_artifact_and_a_model_that_were_deleted(world: World) -> None:
    world.served.archives.clear()
    world.served.live = [replace(world.served.live[0], exists=False)]
    found = world.trace("champion")
    assert "it is not in S3" in link(found, "artifact").broken
    assert "deleted while an endpoint uses it" in link(found, "SageMaker model").broken


def test_data_that_was_not_known(world: World) -> None:
    world.retag(**{"dvc.features": "unknown"})
    found = world.trace("champion")
    assert link(found, "data").broken == "the DVC hash of features was not known when it was registered"
    assert link(found, "data").known.keys() == {"raw", "validated"}


def test_a_tree_with_changes_is_said_and_its_params_come_from_the_run(world: World) -> None:
    world.retag(git_dirty="true")
    found = world.trace("champion")
    assert "changes that were not committed" in link(found, "commit").broken
    assert any("--run-id run-1 --artifact-path params.yaml" in command for command in found.rebuild)


def test_a_commit_whose_lock_has_other_data_takes_it_from_the_run(world: World) -> None:
    world.retag(**{"dvc.raw": f"{'9' * 32}.dir"})
    found = world.trace("champion")
    assert link(found, "commit").broken == ""
    assert any("--artifact-path dvc.lock" in command for command in found.rebuild)


def test_a_commit_that_is_nowhere(world: World) -> None:
    world.retag(git_sha="1" * 40)
    assert "this repository does not have it" in link(world.trace("champion"), "commit").broken
    world.retag(git_sha="unknown", git_dirty="unknown")
    found = world.trace("champion")
    assert link(found, "commit").broken == "it was not known: there was no git repository"
    assert link(found, "rebuild").broken == "it cannot be made again: no commit is known"


def test_a_commit_that_nobody_else_has(world: World, tmp_path: Path) -> None:
    git(world.paths.root, "remote", "add", "origin", str(tmp_path / "origin.git"))
    assert "no remote has it" in link(world.trace("champion"), "commit").broken


def test_a_ledger_that_does_not_know_the_model(world: World) -> None:
    digest = world.register("two")
    assert "no entry that gave this model an alias" in link(world.trace(line(digest, "2")), "released").broken


def test_the_shipped_model_is_traced_by_its_card(world: World, root: Path) -> None:
    shutil.copytree(root / "models" / "shipped", world.paths.shipped)
    card = json.loads((world.paths.shipped / "card.json").read_text())
    # As it was put together on this machine: another digest, and no registry that knows it.
    found = world.trace(line("f" * 64, "shipped"))
    assert link(found, "model card").known["candidate"] == card["candidate"]
    assert link(found, "commit").known["sha"] == card["git"]["sha"]
    assert any(card["artifact"]["digest"] in command for command in found.rebuild)
    assert "f" * 64 in found.rebuild[-1]
    # Registered as the first champion, it is traced through its version.
    tags = {
        "captioner.candidate": "shipped",
        "captioner.git_sha": card["git"]["sha"],
        "captioner.shipped_digest": card["artifact"]["digest"],
    }
    digest = world.register("shipped", **tags)
    found = world.trace(line(digest, "2"))
    assert f".venv/bin/dvc repro export@{card['candidate']}" in found.rebuild
    assert f".venv/bin/captioner profile use {card['params']['profile']}" in found.rebuild


GRAPH = """
stages:
  export:
    foreach: [merge]
    do:
      cmd: mkdir -p models/candidates/merge/exported && cp model.tar.gz models/candidates/merge/exported/model.tar.gz
      deps: [model.tar.gz]
      outs: [models/candidates/merge/exported]
"""
INSTALL = "import os\nos.symlink({venv!r}, '.venv')\n"


def test_the_commands_make_the_same_model_again(world: World, tmp_path: Path) -> None:
    """Run as they are printed, by a shell, on a small graph; the set-up is a link to this environment."""
    root = world.paths.root
    (root / "dvc.yaml").write_text(GRAPH)
    (root / "dvc.lock").unlink()
    (root / "scripts").mkdir()
    (root / "scripts" / "install.py").write_text(INSTALL.format(venv=sys.prefix))
    (tmp_path / "content" / "1").mkdir(parents=True)
    (tmp_path / "content" / "1" / "saved_model.pb").write_text("a model")
    (root / "model.tar.gz").write_bytes(pack_folder(tmp_path / "content"))
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=root, check=True)
    git(root, "add", ".")
    git(root, "commit", "-qm", "a graph")
    world.sha = git(root, "rev-parse", "HEAD")
    run = world.tracker.start("train-merge", {"captioner.digest": sha256_file(root / "model.tar.gz")})
    tags = {"captioner.candidate": "merge", "captioner.git_sha": world.sha, "captioner.git_dirty": "false"}
    made = world.registry.create(NAME, root / "model.tar.gz", run.id, tags)
    found = world.trace(line(made.digest, made.version))
    assert f"git checkout {world.sha}" in found.rebuild

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    script = "\n".join(["set +e", *found.rebuild])
    done = subprocess.run(["bash", "-c", script], cwd=elsewhere, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "models/candidates/merge/exported/model.tar.gz: OK"
