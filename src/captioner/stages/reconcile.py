"""reconcile: the registry's aliases are the wish, the endpoint is the fact. Shows what differs, and mends it.

Moving an alias in the registry's own UI is a way to promote: this notices it, writes it down and makes it true. So does
it finish what somebody was killed over. Which model answers by which name is what it looks at; weights are deploy's and
ramp's, and are left as they are.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from captioner.book import Book
from captioner.ledger import CHAMPION, Cause, Entry, differences
from captioner.params import DeployParams
from captioner.paths import Paths
from captioner.ports import Endpoint, Registry
from captioner.records import write_json
from captioner.stages.moving import Release


@dataclass(frozen=True)
class ReconcileReport:
    """What differed, and what was done. `applied` is False when nothing differed, and for a dry run."""

    endpoint: str
    differences: tuple[str, ...]
    applied: bool
    dry_run: bool
    entries: tuple[Entry, ...] = ()  # what this call wrote, or found waiting and delivered
    unfinished: str = ""  # a dry run leaves it so
    released: bool = True  # is there a champion?

    def render(self) -> str:
        """For a terminal."""
        lines = [f"{self.endpoint}: {self._said()}", *(f"  {one}" for one in self.differences)]
        if self.unfinished:
            lines.append(f"  unfinished: {self.unfinished}")
        for entry in self.entries:
            what = "; ".join(entry.changes) or "nothing"
            lines.append(f"  ledger: entry {entry.number or '(waits)'}, {entry.action} by {entry.who}: {what}")
        return "\n".join(lines)

    def markdown(self) -> str:
        """For a Prefect artifact."""
        head, *rest = self.render().splitlines()
        return "\n".join([f"# {head}", "", *(f"- {line.strip()}" for line in rest)])

    def _said(self) -> str:
        if not self.released:
            return "nobody is champion in the registry, nothing to serve"
        if not self.differences:
            return "already as the registry wants it, nothing changed"
        return "would be brought in line with the registry" if self.dry_run else "brought in line with the registry"


def run(
    params: DeployParams,
    paths: Paths,
    registry: Registry,
    endpoint: Endpoint,
    book: Book,
    cause: Cause,
    dry_run: bool = False,
) -> ReconcileReport:
    """Compare aliases and endpoint, and make the endpoint follow. With `dry_run` nothing is changed or written.

    Raises WorkspaceBusy when somebody else is at it, and what registry and endpoint raise.
    """
    release = Release(params, paths, registry, endpoint, book)
    with release.alone():
        report = _dry(release) if dry_run else _apply(release, cause)
    if not dry_run:
        write_json(report_path(paths), {**asdict(report), "markdown": report.markdown()})
    return report


def report_path(paths: Paths) -> Path:
    """Where the report lies, with ``markdown`` in it, ready to be shown."""
    return paths.home / "reports" / "reconcile.json"


def _dry(release: Release) -> ReconcileReport:
    now, left = release.look(), release.book.underway()
    told = f"{left.action} by {left.who} since {left.at}" if left else ""
    released = CHAMPION in now.aliases
    return ReconcileReport(release.name, tuple(differences(now)) if released else (), False, True, (), told, released)


def _apply(release: Release, cause: Cause) -> ReconcileReport:
    entries = release.book.deliver()
    finished = release.finish()
    entries += [finished] if finished else []
    before = release.look()
    noticed = release.notice(before, cause)
    entries += [noticed] if noticed else []
    if CHAMPION not in before.aliases:
        return ReconcileReport(release.name, (), False, False, tuple(entries), released=False)
    found = tuple(differences(before))
    if found:
        verified = release.deploy_and_verify()
        evidence = {**release.evidence(before), "differed": list(found)}
        entries.append(release.book.write("reconcile", cause, before, release.look(), evidence, verified))
    return ReconcileReport(release.name, found, bool(found), False, tuple(entries))
