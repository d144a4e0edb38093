"""The promotion ledger: what an entry holds, what is read from many of them, and how they look on a terminal.

One entry for each change of an alias or of the endpoint: who, when, why, on what evidence, what was before and after,
and how it was verified. Pure: no clock, no file; where entries are kept is ``book.py``'s business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from captioner.errors import BadData, BadInput

CHAMPION, CHALLENGER = "champion", "challenger"
ALIASES = (CHAMPION, CHALLENGER)
Action = Literal["register", "alias", "deploy", "promote", "rollback", "reconcile", "ramp", "experiment", "down"]
ACTIONS: tuple[str, ...] = get_args(Action)
NOBODY = "none"
EXPERIMENT = "experiment"  # in the evidence of its start and its end
GATE_REPORT = "gate report"  # in a registration's evidence: version → what the gate looked at
SERVES = tuple(f"{alias} serves" for alias in ALIASES)
GONE = "none"  # the status of an endpoint that does not exist
IN_SERVICE = "InService"
WEIGHT_STEP = 1e-6  # AWS keeps weights in single precision


@dataclass(frozen=True)
class Cause:
    """Who changes something, and why ("" when nobody said)."""

    who: str
    why: str = ""


@dataclass(frozen=True)
class Model:
    """A version of the registered model, and the SHA-256 of its model.tar.gz."""

    version: str
    digest: str


@dataclass(frozen=True)
class Served:
    """What a variant of the endpoint serves, and its weight. A shadow gets copies of requests and answers nobody."""

    version: str
    digest: str
    weight: float
    shadow: bool = False


@dataclass(frozen=True)
class Serving:
    """The endpoint at one moment; `status` is ``none`` when there was none."""

    status: str
    config: str | None = None
    variants: Mapping[str, Served] = field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    """Who held the aliases, and what the endpoint served; `endpoint` is None where nobody could look at it."""

    aliases: Mapping[str, Model] = field(default_factory=dict)
    endpoint: Serving | None = None

    def version(self, alias: str) -> str | None:
        """The version that `alias` names, None when nobody holds it."""
        model = self.aliases.get(alias)
        return model.version if model else None

    def served(self) -> Snapshot:
        """The same with those aliases only that the endpoint has a variant for."""
        variants = self.endpoint.variants if self.endpoint else {}
        return Snapshot({alias: model for alias, model in self.aliases.items() if alias in variants}, self.endpoint)

    def same_aliases(self, other: Snapshot) -> bool:
        return all(self.aliases.get(alias) == other.aliases.get(alias) for alias in ALIASES)

    def same_endpoint(self, other: Snapshot) -> bool:
        """Whether nothing is known to differ: what was not looked at differs from nothing."""
        mine, theirs = self.endpoint, other.endpoint
        if mine is None or theirs is None:
            return True
        if mine.variants.keys() != theirs.variants.keys() or mine.config != theirs.config:
            return False
        return all(_same(mine.variants[name], theirs.variants[name]) for name in mine.variants)


@dataclass(frozen=True)
class Verified:
    """How often a variant was asked, and which model answered each time."""

    invoked: int
    version: str
    digest: str


@dataclass(frozen=True)
class Entry:
    """One line of the ledger. `number` is 0 until it is delivered; `at` is UTC, ISO 8601, to the second.

    `failed` says why a change was taken back; before and after then differ in nothing. `note` is what was seen when it
    was written down: that somebody else's entry came in between.
    """

    id: str
    at: str
    who: str
    action: str
    why: str
    before: Snapshot
    after: Snapshot
    number: int = 0
    evidence: Mapping[str, Any] = field(default_factory=dict)
    verified: Mapping[str, Verified] = field(default_factory=dict)
    failed: str = ""
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def changes(self) -> list[str]:
        """What is different afterwards, each in a few words: ``champion 1 → 2``."""
        return list(changes(self.before, self.after))

    @property
    def summary(self) -> str:
        """The same on one line: who moved, and what the endpoint serves since, if that is something else."""
        told = [one for one in self.changes if not one.startswith(SERVES)]
        if len(told) < len(self.changes) and self.after.endpoint is not None:
            variants = sorted(self.after.endpoint.variants.items())
            told.append(f"serves {', '.join(f'{name} {_shown(one)}' for name, one in variants) or 'nobody'}")
        told += [f"{what} the experiment" for what in ("started", "ended") if what in self.evidence.get(EXPERIMENT, {})]
        return "; ".join(told) or "nothing"

    @property
    def moves_champion(self) -> bool:
        return self.before.aliases.get(CHAMPION) != self.after.aliases.get(CHAMPION)


def entry_of(value: Any) -> Entry:
    """An entry from its JSON. Raises BadData when it is something else."""
    try:
        return Entry(
            **{
                **value,
                "before": snapshot_of(value["before"]),
                "after": snapshot_of(value["after"]),
                "verified": {name: Verified(**one) for name, one in value["verified"].items()},
            }
        )
    except (TypeError, KeyError, AttributeError) as error:
        raise BadData(f"This is no entry of the ledger ({error}): somebody else wrote it.") from None


def snapshot_of(value: Mapping[str, Any]) -> Snapshot:
    """A snapshot from its JSON."""
    aliases = {alias: Model(**model) for alias, model in value["aliases"].items()}
    found = value["endpoint"]
    if found is None:
        return Snapshot(aliases)
    variants = {name: Served(**one) for name, one in found["variants"].items()}
    return Snapshot(aliases, Serving(found["status"], found["config"], variants))


def changes(before: Snapshot, after: Snapshot) -> Iterator[str]:
    """What differs between two moments, as far as both are known."""
    for alias in ALIASES:
        if before.aliases.get(alias) != after.aliases.get(alias):
            yield f"{alias} {before.version(alias) or NOBODY} → {after.version(alias) or NOBODY}"
    old, new = before.endpoint, after.endpoint
    if new is None:
        return
    if old is None:
        old = Serving(GONE)
    if (old.status == GONE) != (new.status == GONE):
        yield "endpoint deleted" if new.status == GONE else "endpoint created"
    for name in sorted({*old.variants, *new.variants}):
        was, is_ = old.variants.get(name), new.variants.get(name)
        if was is None or is_ is None or not _same(was, is_):
            yield f"{name} serves {_shown(was)} → {_shown(is_)}"
    if old.config != new.config and old.variants.keys() == new.variants.keys() and not _differs_in_models(old, new):
        yield f"config {old.config or NOBODY} → {new.config or NOBODY}"


def differences(now: Snapshot) -> Iterator[str]:
    """Where the endpoint is not what the aliases say, each in a sentence. `now.endpoint` must have been looked at."""
    assert now.endpoint is not None
    if now.endpoint.status == GONE:
        yield "there is no endpoint yet"
        return
    if now.endpoint.status != IN_SERVICE:
        yield f"the endpoint is {now.endpoint.status}"
    for alias in ALIASES:
        wish, fact = now.aliases.get(alias), now.endpoint.variants.get(alias)
        wanted = f"version {wish.version} ({wish.digest[:12]})" if wish else "nobody"
        found = f"version {fact.version} ({fact.digest[:12]})" if fact else "nobody"
        if wanted != found:
            yield f"{alias}: {wanted} in the registry, {found} on the endpoint"
    for extra in sorted(now.endpoint.variants.keys() - set(ALIASES)):
        yield f"{extra}: a variant that no alias stands for"


def to_roll_back_to(entries: Sequence[Entry], to: int | None) -> tuple[Snapshot, str]:
    """The state that a rollback restores, and what to call it.

    Default: as it was before the champion last changed. With `to`: as the entry with this number left it. Raises
    BadInput when there is no such state.
    """
    if to is not None:
        chosen = next((one for one in entries if one.number == to), None)
        if chosen is None:
            known = f"1 to {entries[-1].number}" if entries else "none: it is empty"
            raise BadInput(f"The ledger has no entry {to}; it has {known} (captioner ledger).")
        state, called = chosen.after, f"as entry {to} ({chosen.action}) left it"
    else:
        chosen = next((one for one in reversed(entries) if one.moves_champion), None)
        if chosen is None:
            raise BadInput("The champion has never changed in the ledger: there is nothing to roll back.")
        state, called = chosen.before, f"as it was before entry {chosen.number} ({chosen.action})"
    if CHAMPION not in state.aliases:
        raise BadInput(f"There was no champion {called.removeprefix('as ')}: name another entry with --to ENTRY.")
    return state, called


def judged_in(entries: Sequence[Entry], version: str) -> Entry | None:
    """The newest registration that has the gate's report on `version` in its evidence."""
    return next((one for one in reversed(entries) if version in one.evidence.get(GATE_REPORT, {})), None)


def render(entries: Sequence[Entry]) -> str:
    """A table for a terminal, newest last; what waits to be delivered has no number yet."""
    if not entries:
        return "The ledger is empty: `captioner register` and `captioner deploy` write into it."
    head = ("#", "when (UTC)", "who", "what", "why", "changes")
    rows = [
        (
            str(one.number or "waits"),
            one.at[:16].replace("T", " "),
            one.who,
            one.action,
            f"taken back: {one.failed}" if one.failed else one.summary,
            " ".join(filter(None, (one.why, f"({one.note})" if one.note else ""))) or "–",
        )
        for one in entries
    ]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head) - 1)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
        for row in (head, *rows)
    ]
    return "\n".join(line.rstrip() for line in lines)


def tag_of(entry: Entry) -> str:
    """An entry in one short line, for whoever looks at the version in the registry."""
    told = f"taken back: {entry.failed}" if entry.failed else entry.summary
    why = f": {entry.why}" if entry.why else ""
    return f"{entry.action} by {entry.who}, {entry.at} ({told}){why}"[:500]


def _same(one: Served, other: Served) -> bool:
    same = (one.version, one.digest, one.shadow) == (other.version, other.digest, other.shadow)
    return same and abs(one.weight - other.weight) < WEIGHT_STEP


def _differs_in_models(old: Serving, new: Serving) -> bool:
    return any(not _same(old.variants[name], new.variants[name]) for name in old.variants)


def _shown(one: Served | None) -> str:
    return NOBODY if one is None else f"{one.version or '?'} ({'shadow ' if one.shadow else ''}{one.weight:g})"
