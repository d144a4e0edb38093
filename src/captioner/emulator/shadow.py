"""Shadow variants: a sampled copy of each request for the shadow's instances, on threads of its own.

What the shadow answers, how long it takes and how it fails never reaches the caller. Copies that it cannot take in
time are dropped and counted. Knows nothing of what a request is: it runs what it is given.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from captioner.emulator.faults import AwsError
from captioner.errors import CaptionerError

WORKERS = 8
WAITING = 64  # copies on the way to a shadow; each may have 6 MB


class Shadows:
    """Runs copies beside the requests. `close` waits for nothing: what a shadow would say matters to nobody."""

    def __init__(self, workers: int = WORKERS, waiting: int = WAITING) -> None:
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="shadow")
        self._room = threading.Semaphore(waiting)
        self._random = random.Random(0)
        self._lock = threading.Lock()
        self.dropped = 0

    def mirror(self, share: float, ask: Callable[[], object]) -> None:
        """Run `ask` for `share` (0 to 1) of the calls. Returns at once."""
        with self._lock:
            if self._random.random() >= share:
                return
        if not self._room.acquire(blocking=False):
            with self._lock:
                self.dropped += 1
            return
        try:
            self._pool.submit(self._run, ask)
        except RuntimeError:  # closed
            self._room.release()

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self, ask: Callable[[], object]) -> None:
        try:
            with suppress(AwsError, CaptionerError, OSError):  # counted where it happened, as the shadow's
                ask()
        finally:
            self._room.release()


def share(shadow_weight: float, production_weight: float) -> float:
    """The part of the production variant's requests that the shadow sees: the ratio of the weights, 1 at most."""
    return min(1.0, shadow_weight / production_weight) if production_weight > 0 else 0.0
