"""What Prefect shows of a stage: a progress artifact while it runs, a markdown artifact of its report afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import UUID

from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact

from captioner.bootstrap import App, open_app
from captioner.errors import BadData, CaptionerError
from captioner.records import read_json
from flows.graph import Stage

SECONDS_BETWEEN_UPDATES = 2.0  # each update is a call to the server
SECONDS_BETWEEN_LINES = 15.0  # in the log, for whoever watches a terminal


class Bar:
    """A progress artifact that is made with the first progress line and kept current, not too often."""

    def __init__(self, stage: Stage, say: Callable[[str], None]) -> None:
        self.stage = stage
        self.say = say
        self.id: UUID | None = None
        self.last = self.told = 0.0
        self.latest: dict[str, Any] = {}

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.latest and kind is None:
            self._send()

    def show(self, line: dict[str, Any]) -> None:
        """Take one progress line (see captioner/progress.py)."""
        self.latest = line
        if time.monotonic() - self.last > SECONDS_BETWEEN_UPDATES:
            self._send()

    def _send(self) -> None:
        line = self.latest
        percent = 100.0 * min(1.0, line.get("done", 0) / max(1, line.get("total", 0)))
        text = f"{line.get('task', '')}: {line.get('done')} of {line.get('total')} {line.get('unit', '')}"
        text += f" ({line['note']})" if line.get("note") else ""
        if self.id is None:
            made = create_progress_artifact(percent, key=f"{self.stage.key}-progress", description=text)
            self.id = made if isinstance(made, UUID) else None
        else:
            update_progress_artifact(self.id, percent, description=text)
        self.last = time.monotonic()
        if self.last - self.told > SECONDS_BETWEEN_LINES:
            self.told = self.last
            self.say(text)


def publish(stage: Stage, root: Path) -> None:
    """The stage's report as a markdown artifact; a stage without a report has none."""
    app = open_app(root)
    try:
        report = read_json(app.paths.report(stage.verb, stage.candidate))
    except BadData:
        return
    create_markdown_artifact(markdown(stage.name, report, links(stage, report, app)), key=stage.key)


def publish_release(verb: str, root: Path) -> None:
    """What register or deploy wrote of itself, also when the gate said no."""
    report = read_json(open_app(root).paths.home / "reports" / f"{verb}.json")
    create_markdown_artifact(report["markdown"], key=verb)


def links(stage: Stage, report: dict[str, Any], app: App) -> list[str]:
    """Where to look further: the Data Docs, the MLflow run of these weights."""
    found = []
    docs = app.paths.data_docs / "index.html"
    if stage.verb == "validate" and docs.exists():
        found.append(f"[Data Docs]({docs.as_uri()})")
    if "weights_digest" in report:
        try:
            run = app.tracker().find("captioner.weights_digest", report["weights_digest"])
        except CaptionerError:
            run = None  # a report without a link is still a report
        if run is not None and run.url:
            found.append(f"[MLflow run]({run.url})")
    return found


def markdown(title: str, report: Mapping[str, Any], links: Sequence[str]) -> str:
    """`report` as tables: its single values, its groups of equal names side by side, its lists of rows."""
    single = {name: value for name, value in report.items() if not _is_rows(value) and not isinstance(value, Mapping)}
    groups: dict[tuple[str, ...], dict[str, Mapping[str, Any]]] = {}
    parts = [f"## {title}", " · ".join(links), _table(("", ""), single.items())]
    for name, value in report.items():
        rows = value if _is_rows(value) else None
        if isinstance(value, Mapping) and value and all(isinstance(one, Mapping) for one in value.values()):
            rows = [{name: key, **one} for key, one in value.items()]
        elif isinstance(value, Mapping):
            groups.setdefault(tuple(sorted(value)), {})[name] = value
        if rows:
            parts.append(_table(tuple(rows[0]), ([row.get(column) for column in rows[0]] for row in rows)))
    for keys, columns in groups.items():
        head = ("", *columns)
        parts.append(_table(head, ([key, *(one[key] for one in columns.values())] for key in keys)))
    return "\n\n".join(part for part in parts if part) + "\n"


def _is_rows(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(one, Mapping) for one in value)


def _table(head: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    lines = [f"| {' | '.join(map(_shown, row))} |" for row in rows]
    return "\n".join([f"| {' | '.join(head)} |", "| --- " * len(head) + "|", *lines]) if lines else ""


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value)) if len(value) <= 6 else f"{len(value)} entries"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(one)}" for name, one in value.items())
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")
