"""The graph of ``dvc.yaml`` and what of it is stale, as DVC itself sees both.

Knows nothing of Prefect. DVC's Python API is used for reading only: stages run as ``dvc repro`` in a process of
their own.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from captioner.errors import BadData, BadEnvironment, BadParams, WorkspaceBusy

T = TypeVar("T")
BUSY_POLL_S = 2.0  # DVC itself waits three seconds for its lock before it gives up


@dataclass(frozen=True)
class Stage:
    """One stage, a matrix already unrolled: ``train@merge``. `upstream` are all stages it depends on, however far."""

    name: str
    upstream: frozenset[str]

    @property
    def verb(self) -> str:
        """``train`` of ``train@merge``."""
        return self.name.partition("@")[0]

    @property
    def candidate(self) -> str | None:
        """``merge`` of ``train@merge``; None for a stage without a matrix."""
        return self.name.partition("@")[2] or None

    @property
    def key(self) -> str:
        """``train-merge``: the name in file names and artifact keys."""
        return self.name.replace("@", "-").lower()


@dataclass(frozen=True)
class Graph:
    """The stages in an order in which they can run, and the names of those that DVC would run by themselves."""

    stages: tuple[Stage, ...]
    stale: frozenset[str]

    def select(self, targets: Sequence[str] | None) -> tuple[Stage, ...]:
        """`targets` (``train`` means each ``train@…``) and all that they depend on. Raises BadParams."""
        if not targets:
            return self.stages
        wanted: set[str] = set()
        for target in targets:
            found = [stage for stage in self.stages if target in (stage.name, stage.verb)]
            if not found:
                names = ", ".join(stage.name for stage in self.stages)
                raise BadParams(f"There is no stage {target!r}; dvc.yaml has: {names}.")
            for stage in found:
                wanted |= {stage.name} | stage.upstream
        return tuple(stage for stage in self.stages if stage.name in wanted)


def read_graph(root: Path) -> Graph:
    """Read the graph and ask DVC, once, what is stale. Raises BadEnvironment, BadData or WorkspaceBusy."""
    with _Dvc(root) as dvc:
        return Graph(dvc.stages(), dvc.stale(None))


def is_stale(root: Path, stage: str) -> bool:
    """Is `stage` stale as the workspace is now? (Asked again when something upstream has run.)"""
    with _Dvc(root) as dvc:
        return stage in dvc.stale(stage)


def patiently(call: Callable[[], T], say: Callable[[str], None]) -> T:
    """What `call` returns, asked again for as long as another DVC process is at work; says so once.

    The workspace lock keeps flows apart; a person who runs ``dvc repro`` does not take it.
    """
    told = False
    while True:
        try:
            return call()
        except WorkspaceBusy as busy:
            if not told:
                say(f"Waiting: {busy}")
            told = True
            time.sleep(BUSY_POLL_S)


def busy(said: str) -> WorkspaceBusy:
    """The error for what DVC says when another DVC process is in its way; it mostly names the process."""
    named = re.search(r"\(PID (\d+)\): (.+)", said)
    who = f"process {named[1]} ({named[2].strip()})" if named else "another DVC process"
    return WorkspaceBusy(f"{who} is at work here.")


class _Dvc:
    """A DVC repository opened for one question; its errors become ours."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __enter__(self) -> _Dvc:
        from dvc.exceptions import DvcException
        from dvc.repo import Repo

        try:
            self.repo = Repo(str(self.root))
        except DvcException as error:
            raise BadEnvironment(f"DVC cannot open {self.root}: {error} (dvc init makes a project).") from None
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from dvc.exceptions import DvcException
        from dvc.lock import LockError

        self.repo.close()
        if isinstance(error, LockError):
            raise busy(str(error)) from None
        if isinstance(error, DvcException):
            raise BadData(f"DVC cannot read the graph: {_sentence(error)}.") from None

    def stages(self) -> tuple[Stage, ...]:
        import networkx

        graph = self.repo.index.graph  # edges lead from a stage to what it needs
        upstream = {node: frozenset(map(_name, networkx.descendants(graph, node))) for node in graph}
        # What has less upstream comes first, so that nothing comes before what it needs; else as written in dvc.yaml.
        order = sorted(self.repo.index.stages, key=lambda node: len(upstream[node]))
        return tuple(Stage(_name(node), upstream[node]) for node in order)

    def stale(self, name: str | None) -> frozenset[str]:
        # DVC takes and gives addresses relative to the current folder; names are the same everywhere.
        names = {node.addressing: _name(node) for node in self.repo.index.stages}
        address = next((address for address, known in names.items() if known == name), None)
        return frozenset(names[address] for address in self.repo.status(targets=address))


def _name(node: Any) -> str:
    """``train@merge``; for what ``dvc add`` tracks, the .dvc file's place in the project."""
    return str(getattr(node, "name", None) or node.relpath)


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")
