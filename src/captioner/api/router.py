"""Which variant answers a user, and what happens when it cannot: assignment, retries, the champion in its place.

While an experiment runs, its assignment decides and TargetVariant makes it so; without one the endpoint's weights do.
Knows nothing of HTTP and nothing of AWS.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from captioner.api.refusals import Refusal, refusal_of
from captioner.errors import BadEnvironment, BadImage, CaptionerError, ServiceUnavailable
from captioner.experiment.document import Experiment
from captioner.ledger import CHALLENGER, CHAMPION
from captioner.ports import Answer, Runtime

FRESH_S = 3.0  # how old the experiment's document may be: a ramp reaches every router in as long
TRIES = 3  # of one variant
BACKOFF_S = 0.1  # doubled with each try, and drawn anew between 0 and that


@dataclass(frozen=True)
class Routed:
    """What the endpoint answered, and whether the champion did so in the challenger's place."""

    answer: Answer
    fallback: bool


class Current:
    """The running experiment, at most FRESH_S old; while it is read anew, and when it cannot be read, the last one."""

    def __init__(self, read: Callable[[], Experiment | None], clock: Callable[[], float] = time.monotonic) -> None:
        self._read, self._clock = read, clock
        self._lock = threading.Lock()
        self._found: Experiment | None = None
        self._due: float | None = None

    def running(self) -> Experiment | None:
        """The experiment that decides now. Raises CaptionerError only when it was never read."""
        due = self._due
        if due is None:
            with self._lock:
                if self._due is None:
                    self._look()
        elif self._clock() >= due and self._lock.acquire(blocking=False):
            try:
                self._look()
            except CaptionerError:
                self._due = self._clock() + FRESH_S
            finally:
                self._lock.release()
        return self._found

    def _look(self) -> None:
        found = self._read()
        self._found = found if found and found.running else None
        self._due = self._clock() + FRESH_S


class Router:
    """Asks the endpoint `name` for a caption."""

    def __init__(
        self,
        runtime: Runtime,
        name: str,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._runtime, self._name, self._clock, self._pause = runtime, name, clock, pause

    def ask(
        self,
        body: bytes,
        content_type: str,
        inference_id: str,
        assigned: str,
        override: str | None,
        until: float,
    ) -> Routed:
        """The answer of the variant `override`, else `assigned`, else whichever the endpoint's weights choose.

        By `until` (of the clock). Raises Refusal; BadImage for a picture that is none.
        """
        target = override or assigned or None
        try:
            return Routed(self._persist(body, content_type, inference_id, target, until), False)
        except BadImage:
            raise
        except CaptionerError as error:
            # A tester is told what is wrong with the variant that they asked for.
            if override or target == CHAMPION:
                raise refusal_of(ServiceUnavailable(str(error))) from None
            answer = self._champion(body, content_type, inference_id, until, error)
            return Routed(answer, assigned == CHALLENGER)

    def _champion(
        self, body: bytes, content_type: str, inference_id: str, until: float, because: CaptionerError
    ) -> Answer:
        try:
            return self._persist(body, content_type, inference_id, CHAMPION, until)
        except BadImage:
            raise
        except CaptionerError:
            raise refusal_of(ServiceUnavailable(str(because))) from None

    def _persist(self, body: bytes, content_type: str, inference_id: str, target: str | None, until: float) -> Answer:
        """Ask, and again when it may help. Raises what the last try did."""
        for attempt in range(1, TRIES + 1):
            if self._clock() >= until:
                raise Refusal(503, "too_late", "The endpoint did not answer in time: try again.", 1.0)
            try:
                answer = self._runtime.invoke(self._name, body, content_type, target, inference_id)
                if not {"caption", "log_probability"} <= answer.body.keys():
                    raise BadEnvironment(f"{self._name} answered without a caption: it serves something else.")
                return answer
            except ServiceUnavailable:
                if attempt == TRIES:
                    raise
                wait = random.uniform(0.0, BACKOFF_S * 2**attempt)  # full jitter
                self._pause(min(wait, max(until - self._clock(), 0.0)))
        raise AssertionError("unreachable")
