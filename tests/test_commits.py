"""What a repository knows of a commit: real repositories."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from captioner import commits
from tests.test_lineage import git

LOCK = "schema: '2.0'\nstages:\n  acquire:\n    cmd: x\n    outs:\n    - path: data/raw\n      md5: {hash}.dir\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    (root / "project").mkdir(parents=True)
    git(root, "init", "-q")
    (root / "project" / "dvc.lock").write_text(LOCK.format(hash="1" * 32))
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    return root


def test_a_commit_is_there_or_not(repository: Path, tmp_path: Path) -> None:
    assert commits.has(repository, git(repository, "rev-parse", "HEAD"))
    assert not commits.has(repository, "1" * 40)
    assert not commits.has(tmp_path, "HEAD")


def test_the_lock_is_the_commits_and_not_the_trees(repository: Path) -> None:
    first, project = git(repository, "rev-parse", "HEAD"), repository / "project"
    (project / "dvc.lock").write_text(LOCK.format(hash="2" * 32))
    assert commits.locked(project, first) == {"data/raw": f"{'1' * 32}.dir"}
    git(repository, "commit", "-qam", "second")
    assert commits.locked(project, "HEAD") == {"data/raw": f"{'2' * 32}.dir"}
    assert commits.locked(repository, "HEAD") == {}


@pytest.mark.parametrize("text", ["not: [yaml", "stages:", "a string", "stages: {a: {cmd: x}}"])
def test_a_lock_that_cannot_be_read_has_nothing(repository: Path, text: str) -> None:
    (repository / "project" / "dvc.lock").write_text(text)
    git(repository, "commit", "-qam", "broken")
    assert commits.locked(repository / "project", "HEAD") == {}


def test_a_commit_is_shared_once_a_remote_has_it(repository: Path, tmp_path: Path) -> None:
    assert commits.remote(repository / "project") == str(repository)
    assert commits.is_shared(repository, "HEAD")
    origin = tmp_path / "origin.git"
    subprocess.run(["git", "init", "-q", "--bare", str(origin)], check=True)
    git(repository, "remote", "add", "origin", str(origin))
    assert commits.remote(repository) == str(origin)
    assert not commits.is_shared(repository, "HEAD")
    git(repository, "push", "-q", "origin", "HEAD:main")
    assert commits.is_shared(repository, "HEAD")
    assert commits.remote(tmp_path) is None
