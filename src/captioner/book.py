"""The ledger as it is kept: numbered documents that nobody writes over, an outbox on this machine, and a claim.

- An entry goes into the outbox first (a file, whole or not there) and from there to ``ledger/NAME/NUMBER.json``, which
  is created only where there is none: of two writers one gets the number, the other reads what came in between and
  takes the next. A kill loses nothing and doubles nothing: an entry has an id, and is looked for before it is written.
- Whoever is about to change an alias claims it first, with what it is going to do. A claim that somebody was killed
  over is what the next one finishes; a claim of somebody else on another machine is respected.

Knows documents, files and the registry's tags; nothing of AWS, and nothing of what a change means.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from captioner.acting import machine
from captioner.errors import BadData, CaptionerError, WorkspaceBusy
from captioner.ledger import Cause, Entry, Snapshot, Verified, entry_of, snapshot_of, tag_of
from captioner.paths import Paths
from captioner.ports import Document, Documents, Registry
from captioner.records import read_json, write_json
from captioner.release.names import ledger_prefix
from captioner.workspace import one_at_a_time

TAG = "captioner.ledger"
STALE = timedelta(hours=1)  # longer than any deployment waits: whoever claimed it elsewhere is no longer at it


@dataclass(frozen=True)
class Claim:
    """What somebody is about to do: everything that another one needs to finish it, should they be killed.

    `wish` maps each alias to a version, None for nobody; `share` is the challenger's share of traffic, None for the
    one in params.yaml.
    """

    id: str
    at: str
    holder: str  # the machine and the state folder, whose lock says whether its process lives
    action: str
    who: str
    why: str
    before: Snapshot
    wish: Mapping[str, str | None]
    share: float | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)


class Book:
    """The ledger of endpoint and registered model `name`."""

    def __init__(
        self,
        documents: Documents,
        registry: Registry,
        paths: Paths,
        name: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.documents, self._registry, self._paths, self._now = documents, registry, paths, now
        self.name = name
        self._outbox = paths.home / "ledger" / name / "outbox"

    # Reading
    def entries(self, after: int = 0) -> list[Entry]:
        """All entries with a number above `after`, oldest first. Raises ServiceUnavailable, BadData."""
        prefix = self._key("")
        numbers = [key.removeprefix(prefix).removesuffix(".json") for key in self.documents.keys(prefix)]
        return [self._entry(int(one)) for one in numbers if one.isdigit() and int(one) > after]

    def last(self) -> Entry | None:
        """The newest entry."""
        number = self._newest()
        return self._entry(number) if number else None

    def waiting(self) -> list[Entry]:
        """What lies in this machine's outbox, oldest first."""
        return [entry_of(read_json(file)["entry"]) for file in self._waiting_files()]

    # Writing
    def write(
        self,
        action: str,
        cause: Cause,
        before: Snapshot,
        after: Snapshot,
        evidence: Mapping[str, Any] | None = None,
        verified: Mapping[str, Verified] | None = None,
        failed: str = "",
        id: str = "",
    ) -> Entry:
        """Write down a change that has happened. Its number is 0 when it waits in the outbox for the ledger's store.

        Raises BadEnvironment when the disk cannot be written.
        """
        entry = Entry(
            id=id or uuid.uuid4().hex,
            at=self.time(),
            who=cause.who,
            action=action,
            why=cause.why,
            before=before,
            after=after,
            evidence=evidence or {},
            verified=verified or {},
            failed=failed,
        )
        with one_at_a_time(self._paths, "outbox"):
            if not any(one.id == entry.id for one in self.waiting()):
                # Not by the clock, which may be set back: in the order of writing.
                files = self._waiting_files()
                number = int(files[-1].name.split("-")[0]) + 1 if files else 1
                write_json(self._outbox / f"{number:08d}-{entry.id}.json", {"entry": entry.to_json(), "seen": None})
        delivered = {one.id: one for one in self.deliver(patient=True)}
        return delivered.get(entry.id, entry)

    def deliver(self, patient: bool = False) -> list[Entry]:
        """Bring the outbox to the ledger, in order; returns the entries as they stand there.

        Raises ServiceUnavailable and the like when the store is out of reach (with `patient`: they go on waiting).
        """
        done: list[Entry] = []
        with one_at_a_time(self._paths, "outbox"):
            for file in self._waiting_files():
                try:
                    done.append(self._deliver(file))
                except CaptionerError:
                    if patient:
                        break
                    raise
        return done

    def _deliver(self, file: Path) -> Entry:
        kept = read_json(file)
        entry = entry_of(kept["entry"])
        newest = self._newest()
        if kept["seen"] is None:
            # Nothing of it is in the ledger yet that came before what is there now.
            write_json(file, {**kept, "seen": newest})
        else:
            found = next((one for one in self.entries(kept["seen"]) if one.id == entry.id), None)
            if found is not None:
                return self._delivered(found, file)
        numbered = replace(entry, number=newest + 1)
        while not self.documents.create(self._key(f"{numbered.number:08d}.json"), numbered.to_json()):
            # Somebody else took this number: the next one, then. It happened, so it is written, whoever was faster.
            between = self.entries(newest)
            crossing = [one for one in between if not one.after.same_aliases(entry.before)]
            told = ", ".join(f"entry {one.number} ({one.action} by {one.who})" for one in crossing)
            note = f"Somebody else was first: {told} came in between." if crossing else ""
            numbered = replace(entry, number=max([numbered.number, *(one.number for one in between)]) + 1, note=note)
        return self._delivered(numbered, file)

    def _delivered(self, entry: Entry, file: Path) -> Entry:
        for version in sorted(
            {one.version for moment in (entry.before, entry.after) for one in moment.aliases.values()}
        ):
            model = self._registry.by_version(self.name, version)
            if model is not None:
                self._registry.tag(model, {f"{TAG}.{entry.number:08d}": tag_of(entry)})
        file.unlink(missing_ok=True)
        return entry

    # Claiming
    def claim(
        self,
        action: str,
        cause: Cause,
        before: Snapshot,
        wish: Mapping[str, str | None],
        share: float | None = None,
        evidence: Mapping[str, Any] | None = None,
    ) -> Claim:
        """Say what is about to be done. Raises WorkspaceBusy when somebody else was first; nothing is changed then."""
        mine = Claim(
            uuid.uuid4().hex,
            self.time(),
            self._holder(),
            action,
            cause.who,
            cause.why,
            before,
            dict(wish),
            share,
            evidence or {},
        )
        found = self.documents.read(self._claim_key())
        if found is not None and found.value is not None:
            raise self._first(_claim_of(found.value))
        if not self._put(mine, found):
            again = self.underway()
            raise self._first(again) if again else WorkspaceBusy("Somebody else was first: look again, and try again.")
        return mine

    def underway(self) -> Claim | None:
        """What somebody is about to do, or was when they were killed."""
        found = self.documents.read(self._claim_key())
        return None if found is None or found.value is None else _claim_of(found.value)

    def take_over(self) -> Claim | None:
        """What was left unfinished, ours from now on; None when there is nothing. To be called under the release lock.

        Raises WorkspaceBusy when somebody on another machine is at it.
        """
        found = self.documents.read(self._claim_key())
        if found is None or found.value is None:
            return None
        left = _claim_of(found.value)
        # Of this machine: whoever held it is dead, or would still hold the lock.
        if left.holder != self._holder() and self._now() - datetime.fromisoformat(left.at) < STALE:
            raise self._first(left)
        mine = replace(left, holder=self._holder(), at=self.time())
        if not self._put(mine, found):
            raise WorkspaceBusy("Somebody else finishes it just now: try again in a moment.")
        return mine

    def settle(self, claim: Claim) -> None:
        """It is done and written down."""
        found = self.documents.read(self._claim_key())
        if found is not None and found.value is not None and found.value["id"] == claim.id:
            self.documents.replace(self._claim_key(), None, found.tag)

    def written(self, claim: Claim) -> Entry | None:
        """The entry of `claim`, when it was written before somebody was killed; delivered when it waited."""
        self.deliver()
        return next((one for one in reversed(self.entries()) if one.id == claim.id), None)

    def time(self) -> str:
        """Now, as entries say it."""
        return self._now().astimezone(UTC).isoformat(timespec="seconds")

    def _put(self, claim: Claim, found: Document | None) -> bool:
        if found is None:
            return self.documents.create(self._claim_key(), asdict(claim))
        return self.documents.replace(self._claim_key(), asdict(claim), found.tag)

    def _first(self, other: Claim) -> WorkspaceBusy:
        return WorkspaceBusy(
            f"Somebody else was first: {other.who} has begun a {other.action} of {self.name} ({other.at}); "
            "try again when it is done (captioner ledger)."
        )

    def _holder(self) -> str:
        return f"{machine()}:{self._paths.home}"

    def _key(self, name: str) -> str:
        return f"{ledger_prefix(self.name)}{name}"

    def _claim_key(self) -> str:
        return f"ledger-underway/{self.name}.json"

    def _newest(self) -> int:
        prefix = self._key("")
        numbers = [key.removeprefix(prefix).removesuffix(".json") for key in self.documents.keys(prefix)]
        return max((int(one) for one in numbers if one.isdigit()), default=0)

    def _entry(self, number: int) -> Entry:
        found = self.documents.read(self._key(f"{number:08d}.json"))
        if found is None:
            raise BadData(
                f"Entry {number} of the ledger of {self.name} is gone: it is append-only, somebody deleted it."
            )
        return entry_of(found.value)

    def _waiting_files(self) -> list[Path]:
        return sorted(self._outbox.glob("*-*.json"))


def _claim_of(value: Any) -> Claim:
    try:
        return Claim(**{**value, "before": snapshot_of(value["before"])})
    except (TypeError, KeyError, AttributeError) as error:
        raise BadData(f"The claim on the ledger cannot be read ({error}): somebody else wrote it.") from None
