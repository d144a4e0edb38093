"""What a clone has in its folder, for a project of a test's own."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def begin(project: Path, *folders: str) -> Path:
    """Put params.yaml, dvc.yaml, profiles/ and more of the checkout's `folders` into `project`, which may be new."""
    project.mkdir(parents=True, exist_ok=True)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, project)
    for name in ("profiles", *folders):
        shutil.copytree(ROOT / name, project / name)
    return project
