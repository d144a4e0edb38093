"""What a repository knows of a commit: whether it is there, whether others have it, and what its files said.

Asks ``git`` and changes nothing. Knows nothing of models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from captioner.lineage import git, hashes_in


def remote(root: Path) -> str | None:
    """Where the repository of `root` is cloned from: its origin, or the folder itself; None when there is none."""
    return git(root, "remote", "get-url", "origin") or git(root, "rev-parse", "--show-toplevel")


def has(root: Path, commit: str) -> bool:
    """Is `commit` in the repository?"""
    return git(root, "cat-file", "-e", f"{commit}^{{commit}}") is not None


def is_shared(root: Path, commit: str) -> bool:
    """Can somebody else have it: is it part of a branch of a remote, or is there no remote that could lack it?"""
    if not git(root, "remote"):
        return True
    return bool(git(root, "branch", "--remotes", "--contains", commit))


def locked(root: Path, commit: str) -> dict[str, str]:
    """Path → DVC hash of every out in the commit's dvc.lock; empty when it has none that can be read."""
    prefix = git(root, "rev-parse", "--show-prefix") or ""
    text = git(root, "show", f"{commit}:{prefix}dvc.lock")
    try:
        content: Any = yaml.safe_load(text or "")
    except yaml.YAMLError:
        return {}
    return hashes_in(content)
