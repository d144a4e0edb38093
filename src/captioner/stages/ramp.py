"""deploy ramp: traffic to the challenger in steps, each watched, and back to where it was when a variant is not well.

Two things say who is asked: the endpoint's weights, and the running experiment's document, which routers with sticky
users read (TargetVariant bypasses weights). Both move together. Knows nothing of AWS: endpoint and documents are ports.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from captioner.errors import BadEnvironment, BadParams, CaptionerError, GateFailed, ServiceUnavailable
from captioner.ledger import CHALLENGER, CHAMPION
from captioner.params import DeployParams
from captioner.paths import Paths
from captioner.ports import Documents, Endpoint
from captioner.progress import track
from captioner.release.facts import Live
from captioner.release.health import Health, faults
from captioner.release.names import experiment_key
from captioner.release.ramp import moved, share_now, with_shares
from captioner.workspace import one_at_a_time

LOOK_S = 30.0  # between two looks at a step that goes on
TRIES = 5  # to write the experiment's document before somebody else does


@dataclass(frozen=True)
class Watched:
    """One step: the challenger's share, and how the variants fared."""

    share: float
    health: dict[str, Health]


@dataclass(frozen=True)
class RampReport:
    """A ramp that went through. `before` and `share` are the challenger's."""

    endpoint: str
    before: float
    share: float
    steps: tuple[Watched, ...]

    def render(self) -> str:
        """For a terminal."""
        lines = [f"{self.endpoint}: the challenger's share went from {self.before:.0%} to {self.share:.0%}"]
        for step in self.steps:
            for name, one in step.health.items():
                latency = "no latency" if one.latency_ms is None else f"{one.latency_ms:.0f} ms"
                counted = f"{one.invocations:.0f} requests, {one.errors_5xx:.0f} with 5xx, {latency}"
                lines.append(f"  at {step.share:>4.0%} {name:<11} {counted}")
        return "\n".join(lines)


def run(
    params: DeployParams,
    paths: Paths,
    endpoint: Endpoint,
    documents: Documents,
    name: str,
    percents: Sequence[float],
    wait_s: float,
    clock: Callable[[], float] = time.time,
    pause: Callable[[float], None] = time.sleep,
) -> RampReport:
    """Give the challenger each of `percents` of the traffic, `wait_s` seconds long.

    Raises GateFailed with the reason when a variant is not well: weights and shares are then what they were before.
    Any other end (an interrupt, CloudWatch out of reach) goes back as well. Raises BadParams, BadInput.
    """
    if not percents or any(not 0 <= one <= 100 for one in percents):
        raise BadParams("The steps of a ramp are percentages from 0 to 100, such as 10 25 50.")
    endpoint.settle(name, params.max_wait_s)
    start = endpoint.live(name)
    one = _Ramp(params, paths, endpoint, documents, name, start, clock, pause)
    before = share_now(name, start)
    steps = []
    try:
        for percent in percents:
            one.move(percent / 100)
            # At 0 there is nothing to be watched, and nothing that going back would make better.
            steps.append(Watched(percent / 100, one.watch(percent / 100, wait_s) if percent else {}))
    except BaseException as error:
        one.back(before, error)
        if isinstance(error, GateFailed):
            raise GateFailed(f"{error} The challenger's share is {before:.0%} again.") from None
        raise
    return RampReport(name, before, percents[-1] / 100, tuple(steps))


@dataclass(frozen=True)
class _Ramp:
    params: DeployParams
    paths: Paths
    endpoint: Endpoint
    documents: Documents
    name: str
    start: Live
    clock: Callable[[], float]
    pause: Callable[[float], None]

    def move(self, share: float) -> None:
        """Weights and shares to the challenger's `share`, whoever else is at work on this machine waits meanwhile.

        Releases too: who looked before and writes down after would call this change somebody's outside of captioner.
        """
        with one_at_a_time(self.paths, "release"), one_at_a_time(self.paths, "deploy"):
            steps = moved(self.name, self.start, share, self.params.challenger_share)
            self.endpoint.carry_out(self.name, steps, {}, self.params.max_wait_s)
            self._share(share)

    def back(self, share: float, because: BaseException) -> None:
        """As it was before. Raises BadEnvironment with both reasons when that fails as well."""
        try:
            self.move(share)
        except CaptionerError as error:
            said = str(because) or type(because).__name__
            raise BadEnvironment(
                f"{said} The challenger's share could not be moved back to {share:.0%} either: {error}"
            ) from None

    def _share(self, share: float) -> None:
        key = experiment_key(self.name)
        for _ in range(TRIES):
            found = self.documents.read(key)
            if found is None or self.documents.replace(key, with_shares(found.value, share), found.tag):
                return
        raise ServiceUnavailable(f"{key} is being written all the time: the experiment's shares could not be moved.")

    def watch(self, share: float, wait_s: float) -> dict[str, Health]:
        """The health over the step. Raises GateFailed as soon as a limit is passed, or too few requests came in all."""
        since = self.clock()
        # Metrics come by the minute: of this one, what was answered before is not the step's.
        before = self._health(since, since)

        def found() -> dict[str, Health]:
            return {name: one.after(before[name]) for name, one in self._health(since, self.clock()).items()}

        with track("ramp", round(wait_s), "s") as progress:
            while (left := since + wait_s - self.clock()) > 0:
                short = min(LOOK_S, left)
                self.pause(short)
                progress.advance(round(short), note=f"{share:.0%}")
                if self.clock() < since + wait_s:
                    self._judge(share, found(), 0)
        health = found()
        self._judge(share, health, self.params.ramp.min_requests)
        self._same_models(share)
        return health

    def _health(self, since: float, until: float) -> dict[str, Health]:
        return dict(self.endpoint.health(self.name, (CHAMPION, CHALLENGER), since, until))

    def _judge(self, share: float, found: dict[str, Health], min_requests: int) -> None:
        # A variant that is to get nothing need not have answered anything.
        asked = {name for name, part in ((CHAMPION, 1 - share), (CHALLENGER, share)) if part > 0}
        known = {name: one for name, one in found.items() if name in asked}
        if said := faults(known, self.params.limits, min_requests):
            raise GateFailed(f"The ramp stopped at {share:.0%}: {' '.join(said)}")

    def _same_models(self, share: float) -> None:
        now = self.endpoint.state(self.name)
        then = {one.name: one.digest for one in self.start.production}
        if now is None or {one.name: one.digest for one in now.variants} != then:
            raise GateFailed(f"The ramp stopped at {share:.0%}: somebody deployed another model meanwhile.")
