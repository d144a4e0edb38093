"""Where a model comes from: the commit, whether the tree was dirty, and the DVC hash of the data.

Reads ``git`` and ``dvc.lock``; knows nothing of MLflow, and changes nothing.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from captioner.errors import BadData
from captioner.paths import Paths

UNKNOWN = "unknown"
# DVC writes these itself during the run that is being recorded; dvc.lock is recorded whole beside the flag.
OWN_TRACES = (":(exclude,top)*dvc.lock", ":(exclude,top)*.gitignore")


@dataclass(frozen=True)
class GitState:
    """The commit that is checked out, "" outside a repository, and whether the tree differs from it."""

    sha: str
    dirty: bool

    def tags(self) -> dict[str, str]:
        if not self.sha:
            return {"captioner.git_sha": UNKNOWN, "captioner.git_dirty": UNKNOWN}
        return {"captioner.git_sha": self.sha, "captioner.git_dirty": str(self.dirty).lower()}


def git_state(root: Path, besides: Sequence[str] = ()) -> GitState:
    """The state of the repository that `root` lies in. Untracked files that git does not ignore make it dirty.

    `besides`: pathspecs of what may differ all the same.
    """
    sha = git(root, "rev-parse", "--verify", "HEAD")
    if not sha:
        return GitState("", False)
    changes = git(root, "status", "--porcelain", "--", ".", *OWN_TRACES, *besides)
    # A status that cannot be read is no proof of a clean tree.
    return GitState(sha, changes is None or bool(changes))


def dvc_hashes(lock: Path) -> dict[str, str]:
    """Path → hash of every out in dvc.lock (a folder's ends in ``.dir``). Empty when DVC has not run yet.

    Raises BadData when the file is not a lock file.
    """
    try:
        content: Any = yaml.safe_load(lock.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadData(f"{lock.name} cannot be read ({' '.join(str(error).split())}): restore it from git.") from None
    return hashes_in(content)


def hashes_in(lock: Any) -> dict[str, str]:
    """Path → hash of every out in the parsed content of a dvc.lock; empty when it is none."""
    stages = lock.get("stages") if isinstance(lock, Mapping) else None
    if not isinstance(stages, Mapping):
        return {}
    outs = (out for stage in stages.values() if isinstance(stage, Mapping) for out in stage.get("outs") or ())
    return {str(out["path"]): str(out["md5"]) for out in outs if "md5" in out and "path" in out}


def hashes_of_reports(paths: Paths, stages: Mapping[str, str]) -> dict[str, str]:
    """DVC's hash of folders under data/ (name → the stage that writes it); UNKNOWN where dvc.lock is of another run.

    The lock is of this run when it has the stage's report as it lies here.
    """
    hashes = dvc_hashes(paths.root / "dvc.lock")
    found = {}
    for name, stage in stages.items():
        report = paths.report(stage)
        known = hashes.get(f"reports/{report.name}")
        here = hashlib.md5(report.read_bytes(), usedforsecurity=False).hexdigest() if report.is_file() else None
        found[name] = hashes.get(f"data/{name}", UNKNOWN) if known is not None and known == here else UNKNOWN
    return found


def git(root: Path, *arguments: str) -> str | None:
    """What git says, or None when it says no: no git, no repository, no such commit."""
    # Without optional locks, so that looking never gets in the way of somebody's commit.
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, env=environment, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
