"""A blue/green update under way: traffic moved step by step, baked, and given back when an alarm or the clock says so.

Decides when; knows neither the store nor how fleets are built.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from captioner.emulator.delays import Delays
from captioner.emulator.fleet import Fleet
from captioner.emulator.guardrails import Rollout
from captioner.emulator.traffic import Traffic
from captioner.emulator.watching import Watch

Show = Callable[[str, str], None]  # (VariantStatus, StatusMessage)
STOPPING = "The local SageMaker is stopping."


class Clock:
    """Seconds since a deployment began, as AWS would count them: scaled waits at their full length."""

    def __init__(self, delays: Delays, timeout_s: int | None) -> None:
        self._delays, self._timeout = delays, timeout_s
        self._began, self._skipped = time.monotonic(), 0.0

    def elapsed(self) -> float:
        return time.monotonic() - self._began + self._skipped

    def wait(self, seconds: float, watch: Watch) -> str | None:
        """Wait so long by AWS's clock. None when nothing happened; otherwise why the deployment must end."""
        left = seconds if self._timeout is None else min(seconds, self._timeout - self.elapsed())
        if left > 0 and not watch.event.wait(left * self._delays.scale):
            self._skipped += left * (1 - self._delays.scale)
        if watch.fired:
            return f"The CloudWatch alarm {watch.fired} was in ALARM during the deployment."
        if self._delays.closing.is_set():
            return STOPPING
        if self._timeout is not None and self.elapsed() > self._timeout:
            return f"The deployment took longer than its MaximumExecutionTimeoutInSeconds, {self._timeout}."
        return None


def carry_out(traffic: Traffic, coming: Fleet, plan: Rollout, clock: Clock, watch: Watch, show: Show) -> str | None:
    """Move the traffic to `coming`. None when all of it is there and was watched to the end; otherwise why it may not.

    The caller gives the traffic back, and the old fleet its end.
    """
    failure = clock.wait(0, watch)
    for number, step in enumerate(plan.steps, start=1):
        if failure:
            return failure
        moved = f"{100 * step.share:.0f} percent of the traffic (step {number} of {len(plan.steps)})"
        show("ActivatingTraffic", f"Turning on {moved}.")
        traffic.shift(coming, step.share, step.active)
        wait = plan.termination_s if number == len(plan.steps) else plan.interval_s
        if wait:
            show("Baking", f"Watching {len(plan.alarms)} alarms for {wait} s at {moved}.")
        failure = clock.wait(wait, watch)
    return failure
