"""The one way in which an alias is moved on purpose: claim, move, deploy, verify, write down; or take it all back.

What promote and rollback share. It may be killed anywhere: the claim says what was being done, and whoever comes next
(the same verb, or the scheduled reconcile) finishes it first. Knows nothing of AWS or MLflow: ports.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from captioner.book import Book, Claim
from captioner.errors import BadData, BadEnvironment, CaptionerError, WorkspaceBusy
from captioner.evidence import evidence_of
from captioner.golden import golden_images
from captioner.ledger import (
    ALIASES,
    CHALLENGER,
    CHAMPION,
    GONE,
    Cause,
    Entry,
    Model,
    Served,
    Serving,
    Snapshot,
    Verified,
)
from captioner.params import DeployParams
from captioner.paths import Paths
from captioner.ports import Endpoint, ModelVersion, Registry
from captioner.release.facts import CHANGING
from captioner.release.rules import GUARDED
from captioner.stages import deploy
from captioner.workspace import one_at_a_time

UNKNOWN = "unknown"
TYPES = {"png": "image/png", "jpg": "image/jpeg"}


@dataclass(frozen=True)
class Release:
    """What a release changes, and where it is written down."""

    params: DeployParams
    paths: Paths
    registry: Registry
    endpoint: Endpoint
    book: Book

    @property
    def name(self) -> str:
        """Of the registered model and of the endpoint."""
        return self.book.name

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One release at a time on this machine; across machines the book's claim decides."""
        with one_at_a_time(self.paths, "release"):
            yield

    def look(self) -> Snapshot:
        """The world as it is. Raises ServiceUnavailable when registry or endpoint do not answer."""
        live = self.endpoint.live(self.name)
        variants = {one.name: Served(one.version, one.digest, one.weight, one.shadow) for one in live.variants}
        return Snapshot(self.aliases(), Serving(live.status or GONE, live.config, variants))

    def look_as_far_as_possible(self) -> Snapshot:
        """The same, with an endpoint that is unknown where nothing answers."""
        aliases = self.aliases()
        try:
            return self.look()
        except CaptionerError:  # not up, not configured: whoever registers needs no endpoint
            return Snapshot(aliases)

    def aliases(self) -> dict[str, Model]:
        found = {alias: self.registry.by_alias(self.name, alias) for alias in ALIASES}
        return {alias: Model(one.version, one.digest) for alias, one in found.items() if one is not None}

    def notice(self, now: Snapshot, cause: Cause) -> Entry | None:
        """Write down what changed since the last entry without one: an alias moved in the registry's own UI, say.

        An endpoint that somebody is changing just now is theirs to write down.
        """
        last = self.book.last()
        was = last.after if last else Snapshot()
        busy = now.endpoint is not None and now.endpoint.status in CHANGING
        if now.same_aliases(was) and (last is None or busy or now.same_endpoint(was)):
            return None
        moved = not now.same_aliases(was)
        why = "found so when the ledger began"
        if last is not None:
            why = "moved outside of captioner, in the registry itself" if moved else "changed outside of captioner"
        by = Cause(f"{UNKNOWN}, noticed by {cause.who}", why)
        before = Snapshot(was.aliases, was.endpoint if last and was.endpoint else now.endpoint)
        return self.book.write("alias" if moved else "deploy", by, before, now, self.evidence(now))

    def evidence(self, now: Snapshot) -> dict[str, Any]:
        """What speaks for each model that holds an alias: its run and the gate's word, from the version's tags."""
        found = {}
        for alias, held in now.aliases.items():
            model = self.registry.by_version(self.name, held.version)
            if model is not None:
                found[alias] = evidence_of(model)
        return found

    def finish(self, back: Cause | None = None) -> Entry | None:
        """Finish what somebody was killed over; with `back`: take it back, for whoever that is. None: there is nothing.

        Raises WorkspaceBusy when it is under way on another machine, and what `carry_out` raises.
        """
        left = self.book.take_over()
        if left is None:
            return None
        written = self.book.written(left)
        if written is not None:
            self.book.settle(left)
            return written
        now = self.aliases()
        held = {alias: now[alias].version if alias in now else None for alias in ALIASES}
        if any(held[alias] not in (left.before.version(alias), left.wish[alias]) for alias in ALIASES):
            # Somebody has moved an alias since: that is the wish now, and no longer what was cut short.
            self.book.settle(left)
            return None
        if back is not None:
            reason = f": {back.why}" if back.why else ""
            return self._take_back(left, f"cut short, and rolled back by {back.who}{reason}")
        return self.carry_out(left)

    def move(
        self,
        action: str,
        cause: Cause,
        before: Snapshot,
        wish: Mapping[str, str | None],
        evidence: Mapping[str, Any],
        share: float | None = None,
    ) -> Entry:
        """Make the aliases be `wish` and the endpoint follow. `before` is what was looked at when that was decided.

        Raises WorkspaceBusy when somebody else was first, and what `carry_out` raises.
        """
        claim = self.book.claim(action, cause, before, wish, share, evidence)
        if self.aliases() != dict(before.aliases):
            self.book.settle(claim)
            raise WorkspaceBusy("Somebody else was first and has moved an alias: look again (captioner ledger).")
        return self.carry_out(claim)

    def carry_out(self, claim: Claim) -> Entry:
        """Do what `claim` says, from wherever it was left.

        When the endpoint refuses, everything is taken back, that is written down, and what was raised is raised. When
        it only does not answer, the claim stays: the next one finishes it.
        """
        cause = Cause(claim.who, claim.why)
        try:
            if claim.action == "promote" and self._has_to_leave_first(claim):
                self._set_aliases({**claim.wish, CHAMPION: claim.before.version(CHAMPION)})
                self._deploy(self.params)
            self._set_aliases(claim.wish)
            verified = self.deploy_and_verify(claim.share, restoring=claim.action == "rollback")
        except CaptionerError as error:
            if error.transient:
                raise
            failed = self._take_back(claim, str(error)).failed
            if failed == str(error):
                failed = f"{failed.rstrip('.')}: the {claim.action} was taken back."
            raise type(error)(failed) from None
        entry = self.book.write(claim.action, cause, claim.before, self.look(), claim.evidence, verified, id=claim.id)
        self.book.settle(claim)
        return entry

    def deploy_and_verify(self, share: float | None = None, restoring: bool = False) -> dict[str, Verified]:
        """Let the endpoint follow the aliases, and ask it.

        `share` is the challenger's, None for that of params.yaml; `restoring` what served before waits for no canary,
        and is not judged anew.
        """
        params = self.params if share is None else self.params.model_copy(update={"challenger_share": share})
        self._deploy(params, restoring)
        return self.verify(self.look())

    def verify(self, now: Snapshot) -> dict[str, Verified]:
        """Ask each variant for captions of the golden images, and read back which model answers.

        A shadow answers nobody: of it there is only what the endpoint says. Raises BadEnvironment when another model
        answers than the alias names: a status says nothing of that.
        """
        found = {}
        variants = now.endpoint.variants if now.endpoint else {}
        for alias, model in now.aliases.items():
            if alias not in variants:
                raise BadEnvironment(f"{self.name} has no variant {alias}: somebody else changed it meanwhile.")
            if variants[alias].shadow:
                continue
            asked = 0
            for name, image in golden_images().items():
                answer = self.endpoint.invoke(self.name, image, TYPES[name.rsplit(".", 1)[-1]], variant=alias)
                told = answer.body.get("model") or {}
                if answer.variant != alias or told.get("digest") != model.digest:
                    raise BadEnvironment(
                        f"The variant {alias} of {self.name} answers as model {str(told.get('digest'))[:12]}, not as "
                        f"version {model.version} ({model.digest[:12]}), whatever the endpoint's status says."
                    )
                asked += 1
            if not asked:
                raise BadEnvironment("The golden images are not installed (scikit-image): nothing can be verified.")
            found[alias] = Verified(asked, model.version, model.digest)
        return found

    def version(self, version: str, digest: str) -> ModelVersion:
        """A version of the registry that is still what it was. Raises BadData."""
        found = self.registry.by_version(self.name, version)
        if found is None:
            raise BadData(f"Version {version} of {self.name} is no longer in the registry.")
        if found.digest != digest:
            raise BadData(f"Version {version} of {self.name} is {found.digest[:12]} now, and was {digest[:12]}.")
        return found

    def _deploy(self, params: DeployParams, restoring: bool = False) -> None:
        """Guardrails need the same variants before and after: where one comes or goes, a plain update has to do."""
        renamed = bool(self._variants()) and self._variants() != self.aliases().keys()
        if params.strategy in GUARDED and (restoring or renamed):
            params = params.model_copy(update={"strategy": "ab"})
        deploy.run(params, self.paths, self.registry, self.endpoint, self.name, self.book.documents, restoring)

    def _has_to_leave_first(self, claim: Claim) -> bool:
        """Must the challenger leave the endpoint before the champion is swapped, so that the swap can be guarded?"""
        return self.params.strategy in GUARDED and CHAMPION in claim.before.aliases and CHALLENGER in self._variants()

    def _variants(self) -> set[str]:
        return {one.name for one in self.endpoint.live(self.name).variants}

    def _set_aliases(self, wish: Mapping[str, str | None]) -> None:
        # The champion first: at no moment nobody is.
        for alias in ALIASES:
            version = wish[alias]
            if version is not None:
                self.registry.set_alias(self.name, alias, version)
            else:
                self.registry.drop_alias(self.name, alias)

    def _take_back(self, claim: Claim, why: str) -> Entry:
        self._set_aliases({alias: claim.before.version(alias) for alias in ALIASES})
        verified: dict[str, Verified] = {}
        try:
            if CHAMPION in claim.before.aliases:
                now = self.look()
                if now.same_endpoint(claim.before):
                    verified = self.verify(now.served())
                else:
                    verified = self.deploy_and_verify(share_of(claim.before), restoring=True)
        except CaptionerError as error:
            if error.transient:
                raise
            # Written down all the same: that it is not as it was is what whoever reads the ledger must know.
            why = f"{why} What was before could not be restored either: {error}"
        cause = Cause(claim.who, claim.why)
        entry = self.book.write(
            claim.action, cause, claim.before, self.look(), claim.evidence, verified, failed=why, id=claim.id
        )
        self.book.settle(claim)
        return entry


def share_of(moment: Snapshot) -> float | None:
    """The challenger's share of the traffic at that moment; None where it is not known, and params.yaml decides."""
    served = moment.endpoint.variants if moment.endpoint else {}
    total = sum(one.weight for one in served.values())
    return served[CHALLENGER].weight / total if CHALLENGER in served and total > 0 else None
