"""What a repository knows of a commit: whether it is there, whether others have it, and what its files said.

Asks ``git`` and changes nothing. Knows nothing of models.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


def remote(root: Path) -> str | None:
    """Where the repository of `root` is cloned from: its origin, or the folder itself; None when there is none."""
    return _git(root, "remote", "get-url", "origin") or _git(root, "rev-parse", "--show-toplevel")


def has(root: Path, commit: str) -> bool:
    """Is `commit` in the repository?"""
    return _git(root, "cat-file", "-e", f"{commit}^{{commit}}") is not None


def is_shared(root: Path, commit: str) -> bool:
    """Can somebody else have it: is it part of a branch of a remote, or is there no remote that could lack it?"""
    if not _git(root, "remote"):
        return True
    return bool(_git(root, "branch", "--remotes", "--contains", commit))


def locked(root: Path, commit: str) -> dict[str, str]:
    """Path → DVC hash of every out in the commit's dvc.lock; empty when it has none that can be read."""
    prefix = _git(root, "rev-parse", "--show-prefix") or ""
    text = _git(root, "show", f"{commit}:{prefix}dvc.lock")
    try:
        content: Any = yaml.safe_load(text or "")
    except yaml.YAMLError:
        return {}
    stages = content.get("stages") if isinstance(content, Mapping) else None
    outs = [out for stage in (stages or {}).values() for out in stage.get("outs") or ()]
    return {str(out["path"]): str(out["md5"]) for out in outs if "md5" in out and "path" in out}


def _git(root: Path, *arguments: str) -> str | None:
    """What git says, or None when it says no."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, env=environment, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
