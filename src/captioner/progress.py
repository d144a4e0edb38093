"""Progress of long work: a bar for people, JSON lines for machines, silence where neither looks.

``CAPTIONER_PROGRESS`` chooses (``bar``, ``json``, ``none``); by default a terminal gets the bar. A JSON line is
``{"progress": {"task", "done", "total", "unit", "note"}}`` on standard error, at most about four a second, the
last one always.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Progress(Protocol):
    """A piece of work that is under way."""

    def advance(self, amount: int = 1, note: str | None = None) -> None:
        """`amount` more units are done; `note` is shown beside the bar (a loss, a hit rate)."""


class _Silent:
    def advance(self, amount: int = 1, note: str | None = None) -> None:
        pass


class _Lines:
    def __init__(self, task: str, total: int | None, unit: str) -> None:
        self.task, self.total, self.unit = task, total, unit
        self.done, self.note, self.last = 0, "", 0.0

    def advance(self, amount: int = 1, note: str | None = None) -> None:
        self.done += amount
        self.note = self.note if note is None else note
        if time.monotonic() - self.last > 0.25:
            self.say()

    def say(self) -> None:
        self.last = time.monotonic()
        line = {"task": self.task, "done": self.done, "total": self.total, "unit": self.unit, "note": self.note}
        print(json.dumps({"progress": line}), file=sys.stderr, flush=True)


@contextmanager
def track(task: str, total: int | None, unit: str) -> Iterator[Progress]:
    """Show progress of `total` units of `task` (None: nobody knows how many) for as long as the block runs."""
    how = os.environ.get("CAPTIONER_PROGRESS") or ("bar" if sys.stderr.isatty() else "none")
    if how == "none":
        yield _Silent()
    elif how == "json":
        lines = _Lines(task, total, unit)
        try:
            yield lines
        finally:
            lines.say()
    else:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress
        from rich.text import Text

        class Rate(ProgressColumn):
            def render(self, task: Task) -> Text:
                return Text(f"{task.speed or 0:.1f} {unit}/s")

        class Bar:
            def advance(self, amount: int = 1, note: str | None = None) -> None:
                if note is not None:
                    bars.update(bar, note=note)
                bars.advance(bar, amount)

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
        with RichProgress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True)) as bars:
            bar = bars.add_task(task, total=total, note="")
            yield Bar()
