"""promote: the challenger becomes champion, and nobody is challenger. Not a DVC stage: it changes the outside world.

The aliases move, the endpoint follows, the champion is asked who it is, and the ledger has it. Knows nothing of AWS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from captioner.book import Book
from captioner.errors import BadInput, GateFailed
from captioner.ledger import CHALLENGER, CHAMPION, GATE_REPORT, Cause, Entry, Snapshot, judged_in
from captioner.params import DeployParams
from captioner.paths import Paths
from captioner.ports import Endpoint, ModelVersion, Registry
from captioner.stages.moving import Release
from captioner.stages.register import GATE, PASSED


@dataclass(frozen=True)
class Moved:
    """An alias that was moved, as the ledger has it."""

    endpoint: str
    entry: Entry
    finished: Entry | None = None  # what had been cut short, and was finished first

    def render(self) -> str:
        """For a terminal."""
        lines = []
        if self.finished is not None and self.finished.id != self.entry.id:
            lines.append(f"finished first: {self.finished.action} by {self.finished.who} ({self.finished.at})")
        where = f"entry {self.entry.number}" if self.entry.number else "an entry that waits to be delivered"
        lines.append(f"{self.endpoint}: {self.entry.action}, {where} of the ledger")
        if self.entry.failed:
            lines.append(f"  taken back: {self.entry.failed}")
        lines += [f"  {change}" for change in self.entry.changes]
        for variant, seen in self.entry.verified.items():
            lines.append(
                f"  verified: {variant} was asked {seen.invoked} times and answered as version {seen.version}, "
                f"{seen.digest[:12]}"
            )
        return "\n".join(lines)


def run(params: DeployParams, paths: Paths, registry: Registry, endpoint: Endpoint, book: Book, cause: Cause) -> Moved:
    """Promote the challenger.

    A promotion that was cut short is finished, and is the answer. Raises BadInput when nobody is challenger,
    GateFailed when the challenger did not pass the gate, WorkspaceBusy when somebody else was first, and what the
    endpoint raises (then everything is as it was).
    """
    release = Release(params, paths, registry, endpoint, book)
    with release.alone():
        finished = release.finish()
        if finished is not None and finished.action == "promote" and not finished.failed:
            return Moved(release.name, finished, finished)
        now = release.look()
        release.notice(now, cause)
        challenger = registry.by_alias(release.name, CHALLENGER)
        if challenger is None:
            raise BadInput(
                f"{release.name} has no challenger to promote: `captioner register` finds one, or set the alias in "
                "the registry."
            )
        _check_gate(challenger)
        wish = {CHAMPION: challenger.version, CHALLENGER: None}
        entry = release.move("promote", cause, now, wish, _evidence(release, now, challenger))
    return Moved(release.name, entry, finished)


def _check_gate(challenger: ModelVersion) -> None:
    gate = challenger.tags.get(GATE)
    if gate == PASSED:
        return
    said = f"did not pass the gate ({gate.removeprefix('failed: ')})" if gate else "was never judged by the gate"
    raise GateFailed(
        f"Version {challenger.version}, the challenger, {said}: it is not promoted. Moving the alias champion in the "
        "registry is the way to overrule that."
    )


def _evidence(release: Release, now: Snapshot, challenger: ModelVersion) -> dict[str, Any]:
    found = release.evidence(now)
    judged = judged_in(release.book.entries(), challenger.version)
    if judged is not None:
        found[GATE_REPORT] = {
            challenger.version: {"entry": judged.number, **judged.evidence[GATE_REPORT][challenger.version]}
        }
    return found
