"""What the API logs of experiments: exposures in the background, feedback before it is answered.

One thread writes both. Exposures gather for a second, so that a request never waits for S3. Whoever gave feedback waits
until it is durable; what comes while something is being written is written together (group commit). What could not be
written is kept and tried again; `close` writes what is left, and says what it must drop. Knows nothing of S3.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field

from captioner.errors import CaptionerError, ServiceUnavailable
from captioner.experiment.events import EXPOSURES, FEEDBACK, Exposure, Feedback, as_line
from captioner.ports import Events

GATHER_S = 1.0
OBJECT = 1000  # lines in an object at most
MOST = 100_000  # exposures that wait while S3 is away: some 60 MB
CLOSE_S = 20.0
FEEDBACK_S = 10.0
PAUSE_S = 0.5


@dataclass
class _Words:
    said: Feedback
    done: Future[None] = field(default_factory=Future)


class Journal:
    """The logs of the endpoint `name`."""

    def __init__(self, events: Events, name: str, gather_s: float = GATHER_S) -> None:
        self._events, self._name, self._gather_s = events, name, gather_s
        self._shown: list[Exposure] = []
        self._said: list[_Words] = []
        self._wake = threading.Condition()
        self._writing = threading.Lock()
        self._closing = False
        self.dropped = 0  # exposures, each of which was said
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
        self._thread.start()

    def show(self, exposure: Exposure) -> None:
        """Log one exposure soon."""
        with self._wake:
            if len(self._shown) >= MOST:
                self.dropped += 1
                _tell("exposure dropped", waiting=len(self._shown), dropped=self.dropped)
                return
            self._shown.append(exposure)
            if len(self._shown) >= OBJECT:
                self._wake.notify()

    def say(self, feedback: Feedback) -> None:
        """Log what a user said. Raises ServiceUnavailable when that took too long: said again, it counts once."""
        words = _Words(feedback)
        with self._wake:
            self._said.append(words)
            self._wake.notify()
        try:
            words.done.result(FEEDBACK_S)
        except TimeoutError:
            with self._wake:
                if words in self._said:
                    self._said.remove(words)
            raise ServiceUnavailable("The feedback could not be stored just now: send it again.") from None

    def flush(self) -> None:
        """Write all that waits, now. Raises ServiceUnavailable or what else the log raises: then it still waits."""
        with self._writing:
            self._write_feedback()
            self._write_exposures()

    def try_flush(self) -> bool:
        """Write all that waits, now. False when that failed, which is said: then it still waits."""
        try:
            self.flush()
        except CaptionerError as error:
            _tell("log not written, trying again", error=str(error), waiting=len(self._shown))
            return False
        return True

    def close(self) -> None:
        """Write what is left, for CLOSE_S at most, and end. What is lost then is said."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()
        deadline = time.monotonic() + CLOSE_S
        while self._shown or self._said:
            try:
                self.flush()
            except CaptionerError as error:
                if time.monotonic() > deadline:
                    self.dropped += len(self._shown)
                    _tell("exposures dropped", error=str(error), dropped=len(self._shown))
                    return
                time.sleep(PAUSE_S)

    def _work(self) -> None:
        while True:
            with self._wake:
                if not (self._closing or self._said or len(self._shown) >= OBJECT):
                    self._wake.wait(self._gather_s)
                if self._closing:
                    return
            if not self.try_flush():
                time.sleep(PAUSE_S)

    def _write_exposures(self) -> None:
        while True:
            with self._wake:
                batch = self._shown[:OBJECT]
            if not batch:
                return
            self._events.write(EXPOSURES, self._name, [as_line(one) for one in batch])
            with self._wake:
                del self._shown[: len(batch)]

    def _write_feedback(self) -> None:
        with self._wake:
            batch = list(self._said)
        if not batch:
            return
        self._events.write(FEEDBACK, self._name, [as_line(one.said) for one in batch])
        with self._wake:
            self._said = [one for one in self._said if one not in batch]
        for one in batch:
            one.done.set_result(None)


def _tell(event: str, **facts: object) -> None:
    print(json.dumps({"event": event, **facts}), file=sys.stderr, flush=True)
