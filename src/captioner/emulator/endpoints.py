"""Endpoints through their states: each change runs on its own thread and ends InService, Failed or gone.

    Creating ──► InService ◄──► Updating ──► RollingBack ──► InService, as before the update
        └──► Failed                 Deleting ──► gone   └──► UpdateRollbackFailed
    SystemUpdating: instances are started again after `up`

A new fleet is healthy before traffic moves to it, by the steps of its deployment's guardrails, and the old one stays
until the last of them. What is true of an endpoint is in the store; this class holds its processes.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from captioner.emulator.delays import Delays
from captioner.emulator.faults import invalid
from captioner.emulator.fleet import Fleet, VariantPlan
from captioner.emulator.guardrails import Rollout
from captioner.emulator.instance import Container, Site
from captioner.emulator.rollouts import STOPPING, Clock, carry_out
from captioner.emulator.store import Resource, Store, arn
from captioner.emulator.traffic import Traffic
from captioner.emulator.watching import Alarms

STEADY = ("InService", "Failed", "OutOfService", "UpdateRollbackFailed")
CHANGEABLE = ("InService", "UpdateRollbackFailed")
CLOSE_S = 5.0  # for requests in flight and for each process, when the emulator itself ends
SERVING = ("InService", "Updating", "SystemUpdating", "RollingBack", "UpdateRollbackFailed")
# What the store says of a change under way; nothing of it outlives the change.
PASSING = ("Pending", "Retiring", "Stage")


class Endpoints:
    """The endpoints of this machine."""

    def __init__(self, store: Store, site: Site, alarms: Alarms, delays: Delays) -> None:
        self._store, self._site, self._alarms, self._delays = store, site, alarms, delays
        self._lock = threading.Lock()
        self._traffic: dict[str, Traffic] = {}
        self._building: set[Fleet] = set()
        self._serial = itertools.count(1)

    def restore(self) -> None:
        """Start again what was there when the emulator was last stopped. Returns at once."""
        for endpoint in self._store.all("endpoint"):
            name = endpoint["EndpointName"]
            if endpoint["Status"] == "Deleting":
                self._store.remove("endpoint", name)
            elif endpoint["Status"] != "Failed":
                # An update that was cut off never moved all the traffic: the store still names the old variants.
                self._settle(name, "SystemUpdating", FailureReason=endpoint.get("FailureReason"))
                self._go(name, lambda name=name: self._bring_up(name))  # type: ignore[misc]

    def close(self) -> None:
        """Stop every process; the store keeps the endpoints."""
        with self._lock:
            self._delays.closing.set()
            fleets = {*self._building, *(fleet for traffic in self._traffic.values() for fleet in traffic.fleets())}
            self._traffic.clear()
        self._alarms.wake()
        threads = [threading.Thread(target=fleet.stop, args=(CLOSE_S,)) for fleet in fleets]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def create(self, name: str, deployment: Resource, **more: Any) -> None:
        """Raises AwsError when the name is taken."""
        value = {"EndpointName": name, "Status": "Creating", "Stage": stage("Creating"), **more, **deployment}
        if not self._store.add("endpoint", name, value):
            raise invalid(f'Cannot create already existing endpoint "{arn("endpoint", name)}".')
        self._go(name, lambda: self._bring_up(name))

    def update(self, name: str, plan: Callable[[Resource], tuple[Resource, Rollout]]) -> None:
        """Replace all instances by those of a new config. `plan` gets the endpoint as it is, and gives the deployment
        that it becomes and the steps on the way. Raises AwsError, also what `plan` raises: nothing has changed then."""
        planned: list[tuple[Resource, Rollout]] = []

        def begin(endpoint: Resource) -> None:
            planned.append(plan(endpoint))
            endpoint |= {"Pending": {**planned[0][0], "StartTime": time.time()}, "Stage": stage("Creating")}

        self._begin(name, CHANGEABLE, begin)
        self._go(name, lambda: self._replace(name, *planned[0]))

    def weigh(self, name: str, desired: dict[str, tuple[float | None, int | None]]) -> None:
        """Give variants new weights and instance counts (None: as it is)."""

        def begin(endpoint: Resource) -> None:
            known = {one["VariantName"]: one for one in endpoint["Variants"]}
            for variant, (_, count) in desired.items():
                if variant not in known:
                    raise invalid(f'The endpoint has no variant "{variant}"; it has: {", ".join(known)}.')
                if count is not None and known[variant].get("Serverless"):
                    raise invalid(f"Variant {variant} is serverless and has no instances to count.")
            endpoint["Stage"] = stage("Updating", variants=list(desired))

        self._begin(name, ("InService",), begin)
        self._go(name, lambda: self._adjust(name, desired))

    def delete(self, name: str) -> None:
        def deletable(endpoint: Resource) -> None:
            if endpoint["Status"] not in STEADY:
                raise invalid(f'Cannot delete endpoint "{endpoint["Arn"]}" while it is {endpoint["Status"]}.')
            endpoint |= {"Status": "Deleting", "Stage": stage("Deleting")}

        if self._store.change("endpoint", name, deletable) is None:
            raise missing(name)
        self._go(name, lambda: self._take_down(name))

    def serving(self, name: str) -> tuple[str | None, Fleet | None]:
        """The status of an endpoint (None: there is none) and the fleet for one request, while it can answer."""
        status, traffic = self._store.member("endpoint", name, "Status"), self.traffic(name)
        return status, (traffic.pick() if status and traffic else None)

    def traffic(self, name: str) -> Traffic | None:
        """The fleets of an endpoint, None while it has none that answer."""
        with self._lock:
            return self._traffic.get(name)

    def _begin(self, name: str, from_: tuple[str, ...], begin: Callable[[Resource], None]) -> None:
        """Move an endpoint into Updating: the one place that serialises changes."""

        def edit(endpoint: Resource) -> None:
            if endpoint["Status"] not in from_:
                state = endpoint["Status"] if endpoint["Status"] in STEADY else "in-progress"
                raise invalid(f'Cannot update {state} endpoint "{endpoint["Arn"]}".')
            begin(endpoint)
            endpoint["Status"] = "Updating"
            endpoint.pop("FailureReason", None)

        if self._store.change("endpoint", name, edit) is None:
            raise missing(name)

    def _go(self, name: str, work: Callable[[], None]) -> None:
        threading.Thread(target=work, name=f"endpoint-{name}", daemon=True).start()

    def _build(self, name: str, deployment: Resource) -> tuple[Fleet, str | None]:
        variants, shadows = ([plan(one) for one in deployment.get(kind) or []] for kind in ("Variants", "Shadow"))
        fleet = Fleet(name, variants, self._site, next(self._serial), shadows, deployment)
        with self._lock:
            if self._delays.closing.is_set():
                return fleet, STOPPING
            self._building.add(fleet)
        return fleet, fleet.start()

    def _bring_up(self, name: str) -> None:
        began = time.monotonic()
        endpoint = self._store.get("endpoint", name)
        assert endpoint is not None
        fleet, failure = self._build(name, endpoint)
        self._delays.hold(endpoint["Status"], began)
        with self._lock:
            self._building.discard(fleet)
            if not failure and not self._delays.closing.is_set():
                self._traffic[name] = Traffic(name, fleet)
        if failure:
            self._settle(name, "Failed", FailureReason=failure)
        else:
            self._settle(name, "InService", FailureReason=endpoint.get("FailureReason"))

    def _replace(self, name: str, deployment: Resource, rollout: Rollout) -> None:
        began, clock, traffic = time.monotonic(), Clock(self._delays, rollout.timeout_s), self.traffic(name)
        if traffic is None:
            return  # the emulator is closing
        mixed = traffic.coming  # left from an update whose rollback failed
        with self._alarms.watch(rollout.alarms) as watch:
            fleet, failure = self._build(name, deployment)
            if failure:
                self._built(fleet)
                self._delays.hold("Updating", began)
                self._settle(name, "UpdateRollbackFailed" if mixed else "InService", FailureReason=failure)
                return
            failure = carry_out(traffic, fleet, rollout, clock, watch, partial(self._show, name))
        self._built(fleet)
        if failure:
            self._go_back(name, traffic, [fleet, mixed], failure)
        else:
            self._take_over(name, traffic, deployment, mixed)
            self._delays.hold("Updating", began)
            self._settle(name, "InService")

    def _take_over(self, name: str, traffic: Traffic, deployment: Resource, mixed: Fleet | None) -> None:
        was = self._store.get("endpoint", name) or {}
        # Said before the old instances end: a kill from here on must come back with the new ones.
        self._change(name, Retiring={key: was.get(key) for key in deployment}, Stage=stage("Deleting"), **deployment)
        _end([traffic.settle(), mixed], traffic.live)

    def _go_back(self, name: str, traffic: Traffic, coming: Sequence[Fleet | None], failure: str) -> None:
        """All traffic to the old fleet, and the new one's end; where the old one is gone, both stay as they are."""
        began = time.monotonic()
        self._change(name, Status="RollingBack", Stage=None)
        dead = traffic.live.await_healthy(self._site.startup_s, self._delays.closing)
        if dead:
            _end([one for one in coming if one is not traffic.coming], traffic.live)
            status, result = "UpdateRollbackFailed", f"The rollback failed too: variant {dead} has no healthy instance."
        else:
            traffic.back()
            _end(coming, traffic.live)
            traffic.drop()
            status, result = "InService", "The previous endpoint config was restored."
        self._delays.hold("Updating", began)
        self._settle(name, status, FailureReason=f"{failure} {result}")

    def _built(self, fleet: Fleet) -> None:
        with self._lock:
            self._building.discard(fleet)

    def _show(self, name: str, status: str, message: str) -> None:
        self._change(name, Stage=stage(status, message))

    def _adjust(self, name: str, desired: dict[str, tuple[float | None, int | None]]) -> None:
        began, traffic, endpoint = time.monotonic(), self.traffic(name), self._store.get("endpoint", name)
        if traffic is None or endpoint is None:
            return
        for variant, (_, count) in desired.items():
            failure = traffic.live.scale(variant, count) if count is not None else None
            if failure:
                self._change(name, Status="RollingBack", Stage=None)
                began = time.monotonic()  # of this state: what came before may have taken any time
                for one in endpoint["Variants"]:
                    traffic.live.scale(one["VariantName"], one["Instances"])
                self._delays.hold("Updating", began)
                self._settle(name, "InService", FailureReason=failure)
                return
        traffic.live.weigh({variant: weight for variant, (weight, _) in desired.items() if weight is not None})
        for one in endpoint["Variants"]:
            weight, count = desired.get(one["VariantName"], (None, None))
            one["Weight"] = one["Weight"] if weight is None else weight
            one["Instances"] = one["Instances"] if count is None else count
        self._change(name, Variants=endpoint["Variants"])
        self._delays.hold("Updating", began)
        self._settle(name, "InService")

    def _take_down(self, name: str) -> None:
        began = time.monotonic()
        with self._lock:
            traffic = self._traffic.pop(name, None)
        for fleet in traffic.fleets() if traffic else []:
            fleet.stop()
        self._delays.hold("Deleting", began)
        if not self._delays.closing.is_set():
            self._store.remove("endpoint", name)

    def _settle(self, name: str, status: str, **values: Any) -> None:
        """The end of a change: its status, and nothing left of what was said on the way."""
        self._change(name, Status=status, **dict.fromkeys(PASSING), **values)

    def _change(self, name: str, **values: Any) -> None:
        """Set members of an endpoint; None removes one."""

        def edit(endpoint: Resource) -> None:
            endpoint |= values
            for member in [member for member, value in values.items() if value is None]:
                del endpoint[member]

        # While the emulator stops, processes end for no fault of theirs: the store must keep what was true before.
        if not self._delays.closing.is_set():
            self._store.change("endpoint", name, edit)


def stage(status: str, message: str = "", variants: list[str] | None = None) -> Resource:
    """A VariantStatus, of these variants (None: of all)."""
    return {"Status": status, "StatusMessage": message, "StartTime": time.time(), "Variants": variants}


def _end(fleets: Sequence[Fleet | None], successor: Fleet) -> None:
    """Stop fleets that get no new requests; those that were given to one a moment ago are the successor's."""
    for fleet in fleets:
        if fleet:
            fleet.retire(successor)
            fleet.stop()


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
