"""What users say, written before they are thanked: all that came during one write goes into the next, together.

A hundred at once are a few objects, and none is answered before it lies in the log.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from captioner.errors import CaptionerError
from captioner.experiment.events import FEEDBACK, Feedback, as_line
from captioner.ports import Events


class Commits:
    """The feedback of `name`."""

    def __init__(self, events: Events, name: str) -> None:
        self._events, self._name = events, name
        self._waiting: list[tuple[Mapping[str, Any], Future[None]]] = []
        self._lock = threading.Lock()
        self._busy = False

    def add(self, feedback: Feedback) -> Future[None]:
        """Done when it is durable; fails with ServiceUnavailable or BadEnvironment when it could not be written."""
        done: Future[None] = Future()
        with self._lock:
            self._waiting.append((as_line(feedback), done))
            idle, self._busy = not self._busy, True
        if idle:
            threading.Thread(target=self._write_all, name="feedback").start()
        return done

    def _write_all(self) -> None:
        while group := self._next():
            try:
                # The same words of the same user twice at once are one line.
                lines = {tuple(sorted((k, v) for k, v in line.items() if k != "at")): line for line, _ in group}
                self._events.write(FEEDBACK, self._name, list(lines.values()))
            except CaptionerError as error:
                for _, done in group:
                    done.set_exception(error)
            except BaseException as error:
                for _, done in group:
                    done.set_exception(error)
                raise
            else:
                for _, done in group:
                    done.set_result(None)

    def _next(self) -> list[tuple[Mapping[str, Any], Future[None]]]:
        with self._lock:
            group, self._waiting = self._waiting, []
            self._busy = bool(group)
            return group
