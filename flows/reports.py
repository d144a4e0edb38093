"""What Prefect shows of a stage: a progress artifact while it runs, a markdown artifact of its report afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable
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


def markdown(title: str, report: dict[str, Any], links: list[str]) -> str:
    """`report` as a table of its figures, what is nested flattened with dots; long lists are counted only."""
    rows = "\n".join(f"| {name} | {_shown(value)} |" for name, value in flat(report))
    where = "\n\n" + " · ".join(links) if links else ""
    return f"## {title}\n\n| | |\n| --- | --- |\n{rows}{where}\n"


def flat(report: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """``{"a": {"b": 1}}`` → ``[("a.b", 1)]``."""
    rows: list[tuple[str, Any]] = []
    for name, value in report.items():
        if isinstance(value, dict):
            rows += flat(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", value))
    return rows


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, list | tuple):
        short = len(value) <= 6 and not any(isinstance(item, dict | list) for item in value)
        return ", ".join(map(_shown, value)) if short else f"{len(value)} entries"
    return str(value).replace("|", "\\|").replace("\n", " ")
