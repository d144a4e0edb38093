"""trace: from an endpoint, a variant, an inference or a line of a caption log back to the commit. Changes nothing.

Follows identities, not names: whoever serves under a name today says nothing of what answered yesterday, so a caption
is traced by the digest that came with it, and by the ledger where none did. Knows nothing of AWS or MLflow: ports.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from captioner import commits
from captioner.book import Book
from captioner.errors import BadData, BadInput, CaptionerError
from captioner.ledger import ALIASES, Entry
from captioner.lineage import UNKNOWN
from captioner.paths import Paths
from captioner.ports import Captured, LiveModel, ModelVersion, Registry, Served, Tracker
from captioner.shipped import SHIPPED, read_shipped
from captioner.stages.recording import DATASETS
from captioner.tracing import Link, Recipe, Told, Trace, Traces, commands, kind_of, told_by, told_of

GIT_SHA, GIT_DIRTY, SHIPPED_DIGEST = "captioner.git_sha", "captioner.git_dirty", "captioner.shipped_digest"


def run(
    paths: Paths,
    registry: Registry,
    tracker: Tracker,
    served: Served,
    book: Book,
    asked: str,
    tracking_uri: str = "",
) -> Traces:
    """Trace what was `asked` for. Links that lead nowhere are in the trace, and the chain goes on from what is known.

    Raises BadInput when nothing of that name was found to begin with, ServiceUnavailable when AWS is not in reach and
    has to be asked.
    """
    desk = _Desk(paths, registry, tracker, served, book, tracking_uri)
    live = desk.live() if not asked.lstrip().startswith("{") else []
    kind = kind_of(asked, book.name, [one.variant for one in live])
    if kind == "line":
        return Traces((desk.of_line(told_by(asked)),))
    if not live and (kind == "endpoint" or asked in ALIASES):
        raise BadInput(f"There is no endpoint {book.name}: run `captioner deploy`.")
    if kind == "endpoint":
        return Traces(tuple(desk.of_variant(asked, one) for one in live))
    if kind == "variant":
        return Traces((desk.of_variant(asked, next(one for one in live if one.variant == asked)),))
    found = served.captured(book.name, asked)
    if found is None:
        variants = ", ".join(one.variant for one in live) or "it has none"
        raise BadInput(
            f"{asked!r} is no endpoint, no variant of {book.name} ({variants}), and no inference id in what was "
            "captured (data capture samples, and comes minutes late)."
        )
    return Traces((desk.of_inference(found, live),))


@dataclass
class _Chain:
    """A trace in the making."""

    asked: str
    links: list[Link] = field(default_factory=list)

    def add(self, what: str, broken: str = "", **known: str) -> None:
        self.links.append(Link(what, {name.replace("_", " "): value for name, value in known.items() if value}, broken))


class _Desk:
    """One tracing: everywhere that is looked at."""

    def __init__(
        self, paths: Paths, registry: Registry, tracker: Tracker, served: Served, book: Book, tracking_uri: str
    ) -> None:
        self.paths, self.registry, self.tracker, self.served, self.book = paths, registry, tracker, served, book
        self.name, self.tracking_uri = book.name, tracking_uri

    def live(self) -> list[LiveModel]:
        return list(self.served.models(self.name))

    # Where a trace begins
    def of_variant(self, asked: str, model: LiveModel) -> Trace:
        chain = _Chain(asked)
        chain.add("endpoint", name=self.name)
        chain.add("variant", name=model.variant)
        self._sagemaker_model(chain, model)
        return self._from_model(chain, model.digest, model.version, model.variant)

    def of_inference(self, found: Captured, live: Sequence[LiveModel]) -> Trace:
        chain = _Chain(found.inference_id)
        told = told_of(found.answer) if found.answer is not None else None
        chain.add(
            "caption",
            "" if told else "the answer was not captured (CaptureOptions without Output), only that there was one",
            inference=found.inference_id,
            at=found.at,
            said=told.caption if told else "",
            captured_in=found.place,
        )
        chain.add("endpoint", name=self.name)
        chain.add("variant", name=found.variant)
        digest, version = (told.digest, told.version) if told else ("", "")
        if not digest:
            digest, version = self._served_then(chain, found)
        now = next((one for one in live if one.variant == found.variant), None)
        if now is not None and now.digest == digest:
            self._sagemaker_model(chain, now)
        else:
            serves = f"serves version {now.version} ({now.digest[:12]})" if now else "is not there"
            chain.add("SageMaker model", f"{found.variant} {serves} by now; the model of that time was collected")
        return self._from_model(chain, digest, version, found.variant)

    def of_line(self, told: Told) -> Trace:
        chain = _Chain(told.image or told.inference or "a line of a caption log")
        chain.add("caption", image=told.image, said=told.caption, inference=told.inference, at=told.at)
        try:
            serving = [one for one in self.live() if told.digest and one.digest == told.digest]
            said = "no variant of the endpoint serves this model now: it was asked before, or on somebody's own machine"
        except CaptionerError as error:
            serving, said = [], f"the endpoint cannot be asked: {error}"
        chain.add("endpoint", name=self.name)
        if serving:
            chain.add("variant", name=", ".join(one.variant for one in serving))
            self._sagemaker_model(chain, serving[0])
        else:
            chain.add("variant", said)
        return self._from_model(chain, told.digest, told.version, "")

    # What every trace goes on with
    def _from_model(self, chain: _Chain, digest: str, version: str, alias: str) -> Trace:
        if not digest:
            chain.add("artifact", "nothing says which model that was: neither the answer nor the ledger")
            return Trace(chain.asked, tuple(chain.links))
        self._artifact(chain, digest)
        self._ledger(chain, digest, alias)
        model = self._version(chain, digest, version)
        if model is None:
            return self._from_card(chain, digest, version)
        run_id = self._run(chain, digest, model)
        hashes = {name: model.tags.get(f"captioner.dvc.{name}", UNKNOWN) for name in DATASETS}
        self._data(chain, hashes)
        shipped = model.tags.get(SHIPPED_DIGEST, "")
        candidate = model.tags.get("captioner.candidate", "")
        profile = ""
        if shipped:
            card = self._card(shipped)
            candidate, profile = (card["candidate"], card["params"]["profile"]) if card else ("", "")
            if card is None:
                chain.add("model card", f"models/shipped has another model by now than {shipped[:12]}")
        sha, dirty = model.tags.get(GIT_SHA, UNKNOWN), model.tags.get(GIT_DIRTY, UNKNOWN)
        restore = self._commit(chain, sha, dirty, hashes, run_id if not shipped else "")
        return self._finished(
            chain,
            Recipe(
                repository=commits.remote(self.paths.root) or "",
                commit=sha,
                candidate=candidate,
                digest=shipped or digest,
                run_id=run_id,
                tracking_uri=self.tracking_uri,
                restore=restore,
                profile=profile,
                packed=digest if shipped else "",
            ),
        )

    def _sagemaker_model(self, chain: _Chain, model: LiveModel) -> None:
        missing = "" if model.exists else "it was deleted while an endpoint uses it: what runs still runs, once"
        chain.add("SageMaker model", missing, name=model.model, image=model.image, data=model.url)

    def _artifact(self, chain: _Chain, digest: str) -> None:
        try:
            url = self.served.archive(digest)
            broken = "" if url else "it is not in S3 (never deployed there, or deleted)"
        except CaptionerError as error:
            url, broken = None, f"S3 cannot be asked: {error}"
        chain.add("artifact", broken, sha256=digest, lies_at=url or "")

    def _ledger(self, chain: _Chain, digest: str, alias: str) -> None:
        """Who let this model answer, and why."""
        try:
            entry = next((one for one in reversed(self.book.entries()) if _lets_in(one, digest, alias)), None)
        except CaptionerError as error:
            chain.add("released", f"the ledger cannot be read: {error}")
            return
        if entry is None:
            chain.add("released", "the ledger has no entry that gave this model an alias")
        else:
            chain.add(
                "released",
                entry=str(entry.number),
                by=f"{entry.action} of {entry.who}",
                at=entry.at,
                why=entry.why,
            )

    def _version(self, chain: _Chain, digest: str, version: str) -> ModelVersion | None:
        found = self.registry.by_digest(self.name, digest)
        if found is None:
            told = f"version {version} was named, and " if version else ""
            chain.add("MLflow version", f"{told}no version of {self.name} has the artifact {digest[:12]}")
            return None
        other = "" if version in ("", found.version, SHIPPED) else f"the model called itself version {version}"
        held = ", ".join(found.aliases)
        chain.add("MLflow version", other, name=self.name, version=found.version, aliases=held)
        return found

    def _run(self, chain: _Chain, digest: str, model: ModelVersion) -> str:
        """The run's link; returns its id, "" when it is gone."""
        tracked = self.tracker.find("captioner.digest", digest)
        gone = (
            "" if tracked else f"run {model.run_id or '(none)'} is not in the tracking store, or is another artifact's"
        )
        run_id, url = (tracked.id, tracked.url) if tracked else ("", "")
        chain.add("run", gone, id=run_id, url=url, candidate=model.tags.get("captioner.candidate", ""))
        return run_id

    def _data(self, chain: _Chain, hashes: dict[str, str]) -> None:
        lost = [name for name, value in hashes.items() if value == UNKNOWN]
        broken = f"the DVC hash of {', '.join(lost)} was not known when it was registered" if lost else ""
        chain.add("data", broken, **{name: value for name, value in hashes.items() if value != UNKNOWN})

    def _commit(self, chain: _Chain, sha: str, dirty: str, hashes: dict[str, str], run_id: str) -> tuple[str, ...]:
        """The commit's link; returns the files to take from the run, because the commit has them otherwise."""
        if sha == UNKNOWN:
            chain.add("commit", "it was not known: there was no git repository")
            return ()
        root, restore, faults = self.paths.root, [], []
        if not commits.has(root, sha):
            faults.append("this repository does not have it (another clone, a branch that was deleted, a rebase)")
        else:
            if not commits.is_shared(root, sha):
                faults.append("no remote has it: push it, or the clone will not find it")
            locked = commits.locked(root, sha)
            differing = [
                path for name, (path, _) in DATASETS.items() if hashes[name] not in (UNKNOWN, locked.get(path))
            ]
            if differing and run_id:
                restore.append("dvc.lock")
            elif differing:
                faults.append(f"its dvc.lock has other data than this model was made from ({', '.join(differing)})")
        if dirty != "false":
            said = (
                "there were changes that were not committed"
                if dirty == "true"
                else "whether all was committed is unknown"
            )
            faults.append(f"{said}: what is made again may be another model")
            restore += ["params.yaml"] if run_id else []
        chain.add("commit", "; ".join(faults), sha=sha, dirty=dirty)
        return tuple(restore)

    def _finished(self, chain: _Chain, recipe: Recipe) -> Trace:
        missing = [
            name
            for name, value in (
                ("commit", recipe.commit),
                ("candidate", recipe.candidate),
                ("repository", recipe.repository),
            )
            if value in ("", UNKNOWN)
        ]
        if missing:
            chain.add("rebuild", f"it cannot be made again: no {' and no '.join(missing)} is known")
            return Trace(chain.asked, tuple(chain.links))
        return Trace(chain.asked, tuple(chain.links), commands(recipe))

    # What has no version in the registry: the model that comes with the code
    def _from_card(self, chain: _Chain, digest: str, version: str) -> Trace:
        card = self._card(digest) if version != SHIPPED else self._card(None)
        if card is None:
            chain.add("model card", "it is not the shipped model either")
            return self._finished(chain, Recipe("", "", "", digest))
        chain.add(
            "model card", file="models/shipped/card.json", candidate=card["candidate"], dataset=card["dataset"]["name"]
        )
        hashes = {name: card["dataset"]["dvc"].get(name, UNKNOWN) for name in DATASETS}
        self._data(chain, hashes)
        sha, dirty = card["git"]["sha"] or UNKNOWN, str(card["git"]["dirty"]).lower()
        self._commit(chain, sha, dirty, hashes, "")
        evaluated = card["artifact"]["digest"]
        profile, remote = card["params"]["profile"], commits.remote(self.paths.root) or ""
        return self._finished(chain, Recipe(remote, sha, card["candidate"], evaluated, profile=profile, packed=digest))

    def _card(self, digest: str | None) -> Any:
        """The shipped model's card, when it is of the artifact with this digest (None: whichever it is)."""
        try:
            card = read_shipped(self.paths.shipped).card
        except BadData:
            return None
        return card if digest is None or card["artifact"]["digest"] == digest else None

    def _served_then(self, chain: _Chain, found: Captured) -> tuple[str, str]:
        """What the variant served at that time, by the ledger; ("", "") when it does not know."""
        at = found.at.replace("Z", "+00:00")
        known = [one for one in self.book.entries() if one.after.endpoint is not None and one.at <= at]
        endpoint = known[-1].after.endpoint if known else None
        served = endpoint.variants.get(found.variant) if endpoint else None
        if served is None:
            chain.add("answered by", "the answer names no model, and the ledger has none for that time")
            return "", ""
        chain.add("answered by", ledger=f"entry {known[-1].number}, {known[-1].at}", version=served.version)
        return served.digest, served.version


def _lets_in(entry: Entry, digest: str, alias: str) -> bool:
    """Did this entry give the model one of the names (or `alias`)?"""
    return any(
        model.digest == digest and entry.before.aliases.get(name) != model and (not alias or name == alias)
        for name, model in entry.after.aliases.items()
    )
