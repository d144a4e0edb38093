"""What a change of aliases or endpoint leaves in the ledger: looked at before and after, written down when they differ.

For the verbs that do their work in another way than ``moving``: register, deploy, and whatever else changes the
endpoint. They work without a ledger in reach (a registration needs no AWS): entries wait in the outbox then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from captioner.errors import CaptionerError
from captioner.ledger import GATE_REPORT, Cause, Entry, Snapshot
from captioner.records import read_json
from captioner.stages import register
from captioner.stages.moving import Release

T = TypeVar("T")


def recorded(release: Release, action: str, cause: Cause, change: Callable[[], T]) -> T:
    """Do `change` and write down what it changed, also when it raises. Returns what it returns."""
    with release.alone():
        before = release.look_as_far_as_possible()
        with suppress(CaptionerError):  # the ledger is out of reach: it is noticed at the next chance
            release.book.deliver()
            release.notice(before, cause)
        try:
            report = change()
        except CaptionerError:
            with suppress(CaptionerError):
                write_down(release, action, cause, before)
            raise
        write_down(release, action, cause, before)
    return report


def write_down(release: Release, action: str, cause: Cause, before: Snapshot) -> Entry | None:
    """An entry for what differs from `before` now; None when nothing does."""
    after = release.look_as_far_as_possible()
    if after.same_aliases(before) and after.same_endpoint(before):
        return None
    evidence = release.evidence(after)
    if action == "register":
        evidence[GATE_REPORT] = _gate_report(release, after)
    return release.book.write(action, cause, before, after, evidence)


def _gate_report(release: Release, after: Snapshot) -> Mapping[str, Any]:
    """Version → what the gate looked at, of those that hold an alias now, from the registration's own report."""
    file = register.report_path(release.paths)
    if not file.is_file():
        return {}
    digests = {model.digest for model in after.aliases.values()}
    judged = [one for one in read_json(file)["candidates"] if one["digest"] in digests and one["verdict"]]
    return {
        one["version"]: {
            "candidate": one["candidate"],
            "run": one["run_id"],
            "checks": [
                {"name": c["name"], "passed": c["passed"], "said": c["sentence"]} for c in one["verdict"]["checks"]
            ],
        }
        for one in judged
    }
