"""Lineage: real git repositories, and lock files as DVC writes them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from captioner.errors import BadData
from captioner.lineage import GitState, dvc_hashes, git_state


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "-q")
    (root / "code.py").write_text("1\n")
    (root / ".gitignore").write_text("/data\n")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    return root


def git(root: Path, *arguments: str) -> str:
    author = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *author, *arguments], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_clean_tree_has_its_commit(repository: Path) -> None:
    state = git_state(repository)
    assert state == GitState(git(repository, "rev-parse", "HEAD"), dirty=False)
    assert state.tags() == {"captioner.git_sha": state.sha, "captioner.git_dirty": "false"}


@pytest.mark.parametrize("name", ["code.py", "new.py"])
def test_changed_and_untracked_files_make_it_dirty(repository: Path, name: str) -> None:
    (repository / name).write_text("2\n")
    assert git_state(repository).dirty


@pytest.mark.parametrize("name", ["dvc.lock", ".gitignore", "data"])
def test_what_dvc_writes_during_the_run_does_not(repository: Path, name: str) -> None:
    (repository / name).write_text("/data\n/reports\n")
    assert not git_state(repository).dirty


def test_a_project_below_the_repositorys_top_counts_its_own_changes(repository: Path) -> None:
    (repository / "project").mkdir()
    (repository / "project" / "dvc.lock").write_text("x")
    assert not git_state(repository / "project").dirty
    (repository / "project" / "params.yaml").write_text("x")
    assert git_state(repository / "project").dirty


def test_outside_a_repository_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path).tags() == {"captioner.git_sha": "unknown", "captioner.git_dirty": "unknown"}


def test_without_git_nothing_is_known(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    assert git_state(repository) == GitState("", False)


def test_the_hashes_of_every_out_are_read(tmp_path: Path) -> None:
    lock = tmp_path / "dvc.lock"
    lock.write_text(
        """
schema: '2.0'
stages:
  validate:
    cmd: captioner validate
    deps:
    - {path: data/raw, hash: md5, md5: aaa.dir}
    outs:
    - {path: data/validated, hash: md5, md5: bbb.dir, size: 3, nfiles: 2}
    - {path: reports/validate.json, hash: md5, md5: ccc}
  train@merge:
    cmd: captioner train merge
"""
    )
    assert dvc_hashes(lock) == {"data/validated": "bbb.dir", "reports/validate.json": "ccc"}


@pytest.mark.parametrize("text", ["", "schema: '2.0'", "stages: []"])
def test_a_lock_without_stages_has_no_hashes(tmp_path: Path, text: str) -> None:
    (tmp_path / "dvc.lock").write_text(text)
    assert dvc_hashes(tmp_path / "dvc.lock") == {}


def test_no_lock_has_no_hashes(tmp_path: Path) -> None:
    assert dvc_hashes(tmp_path / "dvc.lock") == {}


def test_a_broken_lock_is_said(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text("<<<<<<< HEAD\nstages: [")
    with pytest.raises(BadData, match=r"dvc\.lock cannot be read"):
        dvc_hashes(tmp_path / "dvc.lock")
