"""Profiles: the whole of ``params.yaml`` for one dataset, kept under ``profiles/``.

DVC sees one file, ``params.yaml``; choosing a profile rewrites it. Knows nothing of what the values mean: the check
is ``params.py``'s.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from captioner.errors import BadParams
from captioner.params import load_params
from captioner.paths import Paths
from captioner.records import write_text


def names(paths: Paths) -> tuple[str, ...]:
    """The profiles that there are, sorted."""
    return tuple(sorted(file.stem for file in paths.profiles.glob("*.yaml")))


def use(paths: Paths, name: str) -> str:
    """Put ``profiles/NAME.yaml`` into params.yaml and return what changed, as a unified diff.

    The profile is checked first, params.yaml is replaced whole or not at all, and not touched when nothing changes.
    A params.yaml that is missing or broken is no obstacle: this is its cure. Raises BadParams for an unknown
    name (the valid ones named) and for a profile that does not pass, BadEnvironment when the disk cannot be written.
    """
    if name not in names(paths):
        raise BadParams(f"There is no profile {name!r}; profiles/ has: {', '.join(names(paths)) or 'none'}.")
    source = paths.profiles / f"{name}.yaml"
    found = load_params(source).profile
    if found != name:
        raise BadParams(f"profiles/{name}.yaml says profile: {found}; its first key must be its own name.")
    before, after = _text(paths.params), _text(source)
    if before == after:
        return f"params.yaml holds profile {name} already: nothing changed."
    write_text(paths.params, after)
    return "\n".join(
        difflib.unified_diff(
            before.splitlines(), after.splitlines(), "params.yaml (before)", f"params.yaml ({name})", lineterm="", n=1
        )
    )


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
