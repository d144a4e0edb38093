"""The log of a running experiment, read once: an object never changes, so only what is new is fetched.

For a process that lives on; a function that starts anew would read everything for each look. Knows no statistics.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Generic, TypeVar

from captioner.errors import BadData
from captioner.experiment.document import Experiment
from captioner.experiment.events import EXPOSURES, FEEDBACK, Exposure, Feedback, event_of
from captioner.ports import Events

MOST = 200_000
"""Lines of each log that are kept: some 200 MB. An experiment with more is analysed by its flow alone."""

SLACK = timedelta(hours=1)  # clocks of other machines

Event = TypeVar("Event", Exposure, Feedback)


class TooMany(Exception):
    """There are more than MOST lines."""


class Lines:
    """The events of one endpoint's running experiment."""

    def __init__(self, events: Events, name: str, most: int = MOST) -> None:
        self._events, self._name, self._most = events, name, most
        self._experiment = ""
        self._exposures: _Log[Exposure] = _Log(Exposure)
        self._feedback: _Log[Feedback] = _Log(Feedback)

    def of(self, experiment: Experiment) -> tuple[Sequence[Exposure], Sequence[Feedback]]:
        """Everything that was logged since `experiment` began. Raises TooMany, ServiceUnavailable, BadEnvironment."""
        if experiment.id != self._experiment:
            self._experiment = experiment.id
            self._exposures, self._feedback = _Log(Exposure), _Log(Feedback)
        since = datetime.fromisoformat(experiment.started) - SLACK
        for kind, log in ((EXPOSURES, self._exposures), (FEEDBACK, self._feedback)):
            log.read(self._events, self._events.keys(kind, self._name, since), self._most)
        shown = [one for one in self._exposures.all() if one.experiment == experiment.id]
        return shown, list(self._feedback.all())


class _Log(Generic[Event]):
    def __init__(self, kind: type[Event]) -> None:
        self._kind: type[Event] = kind
        self._by_key: dict[str, list[Event]] = {}
        self._count = 0

    def read(self, events: Events, keys: Sequence[str], most: int) -> None:
        for key in keys:
            if key in self._by_key:
                continue
            if self._count > most:
                raise TooMany
            try:
                self._by_key[key] = [event_of(self._kind, line) for line in events.lines(key)]
            except BadData:
                self._by_key[key] = []  # somebody else's: the flow that judges says so
            self._count += len(self._by_key[key])

    def all(self) -> Iterator[Event]:
        return chain.from_iterable(self._by_key.values())
