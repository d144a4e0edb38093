"""The running side of an endpoint: instances by variant, and which of them answers the next request."""

from __future__ import annotations

import hashlib
import itertools
import random
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from captioner.emulator.instance import Container, Instance, Site


@dataclass(frozen=True)
class VariantPlan:
    """One production variant as a config asks for it."""

    name: str
    container: Container
    instances: int
    weight: float
    startup_s: float | None = None


@dataclass
class Counters:
    """What a variant has answered since it was started."""

    invocations: int = 0
    errors_4xx: int = 0
    errors_5xx: int = 0
    latency_us: int = 0


@dataclass
class RunningVariant:
    plan: VariantPlan
    weight: float
    instances: list[Instance]
    counters: Counters = field(default_factory=Counters)


class Fleet:
    """All instances of an endpoint's variants and shadow variants. `start` waits until each is healthy."""

    def __init__(
        self,
        endpoint: str,
        plans: Sequence[VariantPlan],
        site: Site,
        serial: int,
        shadows: Sequence[VariantPlan] = (),
        config: str = "",
    ) -> None:
        self._endpoint, self._site, self._serial = endpoint, site, serial
        self._config = config  # the name of the endpoint config, for the metrics
        self._active: dict[str, int] = {}
        self._successor: Fleet | None = None
        self._numbers = itertools.count(1)
        self._turns = itertools.count()
        self._lock = threading.Lock()
        # Seeded, so that a test sees the same sequence; random, so that callers that alternate are not aliased.
        self._random = random.Random(hashlib.sha256(endpoint.encode()).digest())
        self.variants, self.shadows = ({plan.name: self._run(plan) for plan in some} for some in (plans, shadows))

    def start(self) -> str | None:
        """Start every instance. None when all are healthy; otherwise what went wrong, and all are stopped again."""
        failure = self._start([(variant.plan.name, one) for variant in self._all() for one in variant.instances])
        if failure:
            self.stop()
        return failure

    def _start(self, instances: Sequence[tuple[str, Instance]]) -> str | None:
        for _, instance in instances:
            instance.start()
        for variant, instance in instances:
            reason = instance.wait()
            if reason:
                failed = f"The primary container for production variant {variant} did not pass the ping health check"
                return f"{failed}: {reason}"
        return None

    def await_healthy(self, patience_s: float, closing: threading.Event) -> str | None:
        """Wait until each variant has a healthy instance: the name of one that has none after `patience_s`."""
        deadline = time.monotonic() + patience_s
        while True:
            dead = [name for name, one in self.variants.items() if not any(each.healthy for each in one.instances)]
            if not dead or time.monotonic() > deadline or closing.wait(0.05):
                return dead[0] if dead else None

    def scale(self, variant: str, count: int) -> str | None:
        """Bring a variant to `count` instances; new ones are healthy before it returns. What went wrong, or None."""
        running = self.variants[variant]
        more = [self._instance(running.plan) for _ in range(count - len(running.instances))]
        failure = self._start([(variant, one) for one in more])
        if failure:
            _stop_all(more)
            return failure
        with self._lock:
            kept, surplus = [*running.instances[:count], *more], running.instances[count:]
            running.instances = kept
        _stop_all(surplus)
        return None

    def weigh(self, weights: dict[str, float]) -> None:
        with self._lock:
            for name, weight in weights.items():
                self.variants[name].weight = weight

    def choose(self) -> str | None:
        """The variant for the next request, by weight; None when every weight is 0."""
        with self._lock:
            names = [name for name, variant in self.variants.items() if variant.weight > 0]
            weights = [self.variants[name].weight for name in names]
            return self._random.choices(names, weights)[0] if names else None

    def instance(self, variant: str) -> Instance | None:
        """A healthy instance of `variant`, in turn; None while there is none."""
        with self._lock:
            healthy = [one for one in self._answering(variant) if one.healthy]
            if healthy:
                return healthy[next(self._turns) % len(healthy)]
            successor = self._successor
        return successor.instance(variant) if successor and variant in successor.variants else None

    def _answering(self, variant: str) -> list[Instance]:
        return self.running(variant).instances[: self._active.get(variant)]

    def limit(self, active: Mapping[str, int]) -> None:
        """Let only so many instances of a variant answer; those of a variant that is not named all do."""
        with self._lock:
            self._active = dict(active)

    def retire(self, successor: Fleet) -> None:
        """From now on a request that finds nobody here is answered there: it came a moment too early for that fleet."""
        with self._lock:
            self._successor = successor

    def count(self, variant: str, status: int, latency_us: int, overhead_us: int = 0) -> None:
        """One request: answered with `status`, after `latency_us` in the container and `overhead_us` around it."""
        with self._lock:
            counters = self.running(variant).counters
            counters.invocations += 1
            counters.errors_4xx += 400 <= status < 500
            counters.errors_5xx += status >= 500
            counters.latency_us += latency_us
            answering = len(self._answering(variant))
        if self._site.meter:
            key = (self._endpoint, variant, self._config)
            self._site.meter.record(key, status, latency_us, overhead_us, answering)

    def stop(self, patience_s: float | None = None) -> None:
        """Stop every instance; `patience_s` is ``Instance.stop``'s."""
        _stop_all([one for variant in self._all() for one in variant.instances], patience_s)

    def running(self, variant: str) -> RunningVariant:
        """A variant or a shadow variant by name."""
        return self.variants.get(variant) or self.shadows[variant]

    def _all(self) -> list[RunningVariant]:
        return [*self.variants.values(), *self.shadows.values()]

    def _run(self, plan: VariantPlan) -> RunningVariant:
        return RunningVariant(plan, plan.weight, [self._instance(plan) for _ in range(plan.instances)])

    def _instance(self, plan: VariantPlan) -> Instance:
        name = f"{self._endpoint}-{plan.name}-{self._serial}-{next(self._numbers)}"
        return Instance(name, plan.container, self._site, plan.startup_s)


def _stop_all(instances: Sequence[Instance], patience_s: float | None = None) -> None:
    if instances:
        with ThreadPoolExecutor(max_workers=len(instances)) as pool:
            list(pool.map(lambda one: one.stop(patience_s), instances))
