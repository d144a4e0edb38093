"""What a change of aliases or endpoint leaves in the ledger: looked at before and after, written down when they differ.

For the verbs that do their work in another way than ``moving``: register, deploy, and whatever else changes the
endpoint. They work without a ledger in reach (a registration needs no AWS): entries wait in the outbox then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from captioner.errors import CaptionerError
from captioner.ledger import GATE_REPORT, Cause, Entry, Snapshot
from captioner.ports import Answer, EndpointState
from captioner.records import read_json
from captioner.release.facts import Live
from captioner.release.health import Health
from captioner.release.steps import Step
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


class RecordedEndpoint:
    """`ports.Endpoint` that writes down each change of `release`'s endpoint: for whoever makes several (a ramp)."""

    def __init__(self, release: Release, action: str, cause: Cause) -> None:
        self._release, self._endpoint, self._action, self._cause = release, release.endpoint, action, cause

    def state(self, name: str) -> EndpointState | None:
        return self._endpoint.state(name)

    def live(self, name: str, digests: Sequence[str] = ()) -> Live:
        return self._endpoint.live(name, digests)

    def settle(self, name: str, wait_s: int) -> None:
        self._endpoint.settle(name, wait_s)

    def carry_out(
        self, name: str, steps: Sequence[Step], artifacts: Mapping[str, tuple[Path, str]], wait_s: int
    ) -> None:
        before = self._release.look()
        self._endpoint.carry_out(name, steps, artifacts, wait_s)
        write_down(self._release, self._action, self._cause, before)

    def health(self, name: str, variants: Sequence[str], since: float, until: float) -> Mapping[str, Health]:
        return self._endpoint.health(name, variants, since, until)

    def captured(self, name: str) -> int:
        return self._endpoint.captured(name)

    def invoke(self, name: str, image: bytes, content_type: str, variant: str | None = None) -> Answer:
        return self._endpoint.invoke(name, image, content_type, variant)


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
