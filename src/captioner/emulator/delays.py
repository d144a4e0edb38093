"""How long things take: the least time that a state is seen, and how much faster than AWS's clock this one runs.

``scale`` shortens everything that AWS measures in minutes: the waits of deployment guardrails, the interval of metrics
and the periods of alarms. With 0.01 a canary's ten minutes are six seconds. What really works (a process that starts)
takes the time that it takes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

STARTUP_S = 240.0  # SageMaker's default for a container's first healthy ping
ANSWER_S = 60.0  # SageMaker's limit for a container's answer
STOP_GRACE_S = 30.0  # what SageMaker gives a container between SIGTERM and SIGKILL
SHOWN_S = 0.3  # long enough for a client that asks right after its request


@dataclass(frozen=True)
class Delays:
    """Seconds that an endpoint is Creating, Updating and Deleting at least, counted from the request."""

    creating_s: float = SHOWN_S
    updating_s: float = SHOWN_S
    deleting_s: float = SHOWN_S
    scale: float = 1.0
    closing: threading.Event = field(default_factory=threading.Event, compare=False)

    def of(self, status: str) -> float:
        least: Mapping[str, float] = {
            "Creating": self.creating_s,
            "Updating": self.updating_s,
            "Deleting": self.deleting_s,
        }
        return least.get(status, 0.0)

    def hold(self, status: str, since: float) -> None:
        """Return when an endpoint has been in `status` since `since` (monotonic) long enough, or the emulator ends."""
        left = since + self.of(status) - time.monotonic()
        if left > 0:
            self.closing.wait(left)
