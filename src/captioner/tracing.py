"""A trace: from a caption back to the commit that it comes from, link by link, and the commands that make it again.

Pure: what each link holds was looked up elsewhere. A link that leads nowhere is named, with what is missing; the chain
goes on from what is known.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from captioner.errors import BadInput

Kind = Literal["endpoint", "variant", "inference", "line"]


@dataclass(frozen=True)
class Link:
    """One link of the chain: what it is, what is known of it, and what is missing ("" when nothing is)."""

    what: str
    known: Mapping[str, str] = field(default_factory=dict)
    broken: str = ""


@dataclass(frozen=True)
class Trace:
    """The chain of one model, and how to make it again."""

    asked: str
    links: tuple[Link, ...]
    rebuild: tuple[str, ...] = ()

    @property
    def broken(self) -> tuple[str, ...]:
        """What is missing, a sentence for each link."""
        return tuple(f"{one.what}: {one.broken}" for one in self.links if one.broken)

    def render(self) -> str:
        """For a terminal."""
        width = max(len(one.what) for one in self.links)
        lines = []
        for one in self.links:
            told = ", ".join(f"{name} {value}" for name, value in one.known.items() if value)
            lines.append(f"{one.what.ljust(width)}  {told}".rstrip() if told or not one.broken else "")
            if one.broken:
                mark = f"{one.what.ljust(width)}  BROKEN: " if not told else f"{' ' * width}  BROKEN: "
                lines[-1:] = [*([lines[-1]] if told else []), f"{mark}{one.broken}"]
        if self.rebuild:
            lines += ["", "To make it again:", *(f"  {command}" for command in self.rebuild)]
        return "\n".join(lines)


@dataclass(frozen=True)
class Traces:
    """One trace for each variant that was asked about."""

    traces: tuple[Trace, ...]

    def render(self) -> str:
        return "\n\n".join(one.render() for one in self.traces)


@dataclass(frozen=True)
class Told:
    """What a line of a caption log says: the picture, the caption, and the model as it named itself."""

    image: str
    caption: str
    version: str
    digest: str
    inference: str = ""
    at: str = ""


@dataclass(frozen=True)
class Recipe:
    """What it takes to make an artifact again. `restore` names the files of the run that the commit has otherwise."""

    repository: str
    commit: str
    candidate: str
    digest: str
    run_id: str = ""
    tracking_uri: str = ""
    restore: tuple[str, ...] = ()
    profile: str = ""
    packed: str = ""  # the digest of a shipped model as it was put together from the same weights elsewhere


def told_by(line: str) -> Told:
    """A line as ``captioner caption --json`` prints it, the endpoint's answer, or a line of a serving container's log.

    Raises BadInput when it is none of them.
    """
    try:
        value: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise BadInput(
            f"This is no line of a caption log ({error.msg}): give one as `captioner caption --json` prints it."
        ) from None
    if not isinstance(value, Mapping) or not isinstance(value.get("model"), Mapping):
        said = f": {value['error']}" if isinstance(value, Mapping) and "error" in value else "."
        raise BadInput(f"This line names no model, so no caption was made{said}")
    return told_of(value)


def told_of(value: Mapping[str, Any]) -> Told:
    """The same of an answer that is parsed already; what it does not say is ""."""
    model = value.get("model") if isinstance(value.get("model"), Mapping) else {}
    assert isinstance(model, Mapping)
    names = {"image": "image", "caption": "caption", "inference": "inference_id", "at": "time"}
    told = {name: str(value.get(key) or "") for name, key in names.items()}
    return Told(**told, version=str(model.get("version") or ""), digest=str(model.get("digest") or ""))


def commands(recipe: Recipe) -> tuple[str, ...]:
    """The shell commands that make the artifact again from a clone, and check that it is the one."""
    artifact = f"models/candidates/{recipe.candidate}/exported/model.tar.gz"
    lines = [
        f"git clone {shlex.quote(recipe.repository)} rebuild && cd rebuild",
        f"git checkout {recipe.commit}",
        "python3 scripts/install.py pipeline",
    ]
    if recipe.profile:
        lines.append(f".venv/bin/captioner profile use {shlex.quote(recipe.profile)}")
    for file in recipe.restore:
        lines.append(
            f"MLFLOW_TRACKING_URI={shlex.quote(recipe.tracking_uri)} .venv/bin/mlflow artifacts download "
            f"--run-id {recipe.run_id} --artifact-path {file} --dst-path ."
        )
    lines += [
        ".venv/bin/captioner data pull   # what the DVC remote has; the next command computes the rest",
        f".venv/bin/dvc repro export@{recipe.candidate}",
        f"echo '{recipe.digest}  {artifact}' | sha256sum --check",
    ]
    if recipe.packed and recipe.packed != recipe.digest:
        lines += [
            ".venv/bin/captioner package --model shipped --out shipped.tar.gz",
            f"echo '{recipe.packed}  shipped.tar.gz' | sha256sum --check",
        ]
    return tuple(lines)


def kind_of(asked: str, endpoint: str, variants: Sequence[str]) -> Kind:
    """What somebody gave to be traced."""
    if asked.lstrip().startswith("{"):
        return "line"
    if asked == endpoint:
        return "endpoint"
    return "variant" if asked in variants else "inference"
