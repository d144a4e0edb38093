"""Endpoints through their states: each change runs on its own thread and ends InService, Failed or gone.

    Creating ──► InService ◄──► Updating        SystemUpdating: instances are started again after `up`
        └──► Failed                 Deleting ──► gone

A new fleet is healthy before traffic moves to it and the old one stops; when it fails, the old one stays. What is
true of an endpoint is in the store; this class holds its processes. Guardrails and data capture come in at `_replace`.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

from captioner.emulator.faults import invalid
from captioner.emulator.fleet import Fleet, VariantPlan
from captioner.emulator.instance import Container, Site
from captioner.emulator.store import Resource, Store, arn

STEADY = ("InService", "Failed", "OutOfService", "UpdateRollbackFailed")
CLOSE_S = 5.0  # for requests in flight and for each process, when the emulator itself ends
SERVING = ("InService", "Updating", "SystemUpdating", "RollingBack")


class Endpoints:
    """The endpoints of this machine."""

    def __init__(self, store: Store, site: Site) -> None:
        self._store, self._site = store, site
        self._lock = threading.Lock()
        self._fleets: dict[str, Fleet] = {}
        self._building: set[Fleet] = set()
        self._serial = itertools.count(1)
        self._closing = False

    def restore(self) -> None:
        """Start again what was there when the emulator was last stopped. Returns at once."""
        for endpoint in self._store.all("endpoint"):
            name = endpoint["EndpointName"]
            if endpoint["Status"] == "Deleting":
                self._store.remove("endpoint", name)
            elif endpoint["Status"] != "Failed":
                # An update that was cut off never moved the traffic: the store still names the old variants.
                self._store.change("endpoint", name, lambda one: one.update(Status="SystemUpdating"))
                self._go(name, lambda name=name: self._bring_up(name))  # type: ignore[misc]

    def close(self) -> None:
        """Stop every process; the store keeps the endpoints."""
        with self._lock:
            self._closing = True
            fleets = [*self._fleets.values(), *self._building]
            self._fleets.clear()
        threads = [threading.Thread(target=fleet.stop, args=(CLOSE_S,)) for fleet in fleets]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def create(self, name: str, deployment: Resource, tags: list[Any]) -> None:
        """Raises AwsError when the name is taken."""
        value = {"EndpointName": name, "Status": "Creating", "Tags": tags, **deployment}
        if not self._store.add("endpoint", name, value):
            raise invalid(f'Cannot create already existing endpoint "{arn("endpoint", name)}".')
        self._go(name, lambda: self._bring_up(name))

    def update(self, name: str, deployment: Resource, retain: bool) -> None:
        """Replace all instances by those of a new config. `retain` keeps live weights and counts where names stay."""
        live = self._begin(name, "Updating")
        if retain:
            old = {one["VariantName"]: one for one in live["Variants"]}
            variants = [
                {**one, **{key: old[one["VariantName"]][key] for key in ("Weight", "Instances")}}
                if one["VariantName"] in old
                else one
                for one in deployment["Variants"]
            ]
            deployment = {**deployment, "Variants": variants}
        self._go(name, lambda: self._replace(name, deployment))

    def weigh(self, name: str, desired: dict[str, tuple[float | None, int | None]]) -> None:
        """Give variants new weights and instance counts (None: as it is)."""

        def known(endpoint: Resource) -> None:
            names = [one["VariantName"] for one in endpoint["Variants"]]
            for variant in desired:
                if variant not in names:
                    raise invalid(f'The endpoint has no variant "{variant}"; it has: {", ".join(names)}.')

        self._begin(name, "Updating", known)
        self._go(name, lambda: self._adjust(name, desired))

    def delete(self, name: str) -> None:
        def deletable(endpoint: Resource) -> None:
            if endpoint["Status"] not in STEADY:
                raise invalid(f'Cannot delete endpoint "{endpoint["Arn"]}" while it is {endpoint["Status"]}.')
            endpoint["Status"] = "Deleting"

        if self._store.change("endpoint", name, deletable) is None:
            raise missing(name)
        self._go(name, lambda: self._take_down(name))

    def serving(self, name: str) -> tuple[str | None, Fleet | None]:
        """The status of an endpoint (None: there is none) and its fleet while it can answer."""
        endpoint = self._store.get("endpoint", name)
        with self._lock:
            return (endpoint["Status"], self._fleets.get(name)) if endpoint else (None, None)

    def _begin(self, name: str, status: str, check: Callable[[Resource], None] | None = None) -> Resource:
        """Move an InService endpoint into `status`: the one place that serialises changes."""

        def edit(endpoint: Resource) -> None:
            if endpoint["Status"] != "InService":
                state = endpoint["Status"] if endpoint["Status"] in STEADY else "in-progress"
                raise invalid(f'Cannot update {state} endpoint "{endpoint["Arn"]}".')
            if check:
                check(endpoint)
            endpoint["Status"] = status
            endpoint.pop("FailureReason", None)

        changed = self._store.change("endpoint", name, edit)
        if changed is None:
            raise missing(name)
        return changed

    def _go(self, name: str, work: Callable[[], None]) -> None:
        threading.Thread(target=work, name=f"endpoint-{name}", daemon=True).start()

    def _build(self, name: str, deployment: Resource) -> tuple[Fleet, str | None]:
        variants, shadows = ([plan(one) for one in deployment.get(kind) or []] for kind in ("Variants", "Shadow"))
        fleet = Fleet(name, variants, self._site, next(self._serial), shadows)
        with self._lock:
            if self._closing:
                return fleet, "The local SageMaker is stopping."
            self._building.add(fleet)
        return fleet, fleet.start()

    def _swap(self, name: str, fleet: Fleet) -> Fleet | None:
        with self._lock:
            self._building.discard(fleet)
            old = self._fleets.pop(name, None)
            if not self._closing:
                self._fleets[name] = fleet
            return old

    def _bring_up(self, name: str) -> None:
        endpoint = self._store.get("endpoint", name)
        assert endpoint is not None
        fleet, failure = self._build(name, endpoint)
        if failure:
            self._drop(fleet)
            self._settle(name, "Failed", FailureReason=failure)
            return
        self._swap(name, fleet)
        self._settle(name, "InService")

    def _replace(self, name: str, deployment: Resource) -> None:
        fleet, failure = self._build(name, deployment)
        if failure:
            self._drop(fleet)
            self._settle(name, "InService", FailureReason=failure)
            return
        old = self._swap(name, fleet)
        # Said before the old instances end: a kill from here on must come back with the new ones.
        self._settle(name, "Updating", **deployment)
        if old:
            old.stop()
        self._settle(name, "InService")

    def _adjust(self, name: str, desired: dict[str, tuple[float | None, int | None]]) -> None:
        with self._lock:
            fleet = self._fleets.get(name)
        endpoint = self._store.get("endpoint", name)
        if fleet is None or endpoint is None:
            return
        for variant, (_, count) in desired.items():
            failure = fleet.scale(variant, count) if count is not None else None
            if failure:
                self._settle(name, "InService", FailureReason=failure)
                return
        fleet.weigh({variant: weight for variant, (weight, _) in desired.items() if weight is not None})
        for one in endpoint["Variants"]:
            weight, count = desired.get(one["VariantName"], (None, None))
            one["Weight"] = one["Weight"] if weight is None else weight
            one["Instances"] = one["Instances"] if count is None else count
        self._settle(name, "InService", Variants=endpoint["Variants"])

    def _take_down(self, name: str) -> None:
        with self._lock:
            fleet = self._fleets.pop(name, None)
        if fleet:
            fleet.stop()
        if not self._closing:
            self._store.remove("endpoint", name)

    def _drop(self, fleet: Fleet) -> None:
        with self._lock:
            self._building.discard(fleet)

    def _settle(self, name: str, status: str, **values: Any) -> None:
        # While the emulator stops, processes end for no fault of theirs: the store must keep what was true before.
        if not self._closing:
            self._store.change("endpoint", name, lambda one: one.update(Status=status, **values))


def plan(variant: Resource) -> VariantPlan:
    """A variant as it lies in the store, as something to run."""
    container = variant["Container"]
    return VariantPlan(
        name=variant["VariantName"],
        container=Container(container["Image"], container.get("Environment") or {}, container.get("ModelDataUrl")),
        instances=variant["Instances"],
        weight=variant["Weight"],
        startup_s=variant.get("StartupS"),
    )


def missing(name: str) -> Exception:
    return invalid(f'Could not find endpoint "{arn("endpoint", name)}".')
