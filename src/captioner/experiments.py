"""The experiments of an endpoint as they are kept: one running document, the ended ones, and the logs of both.

Documents change by conditional puts only: of two who start or end an experiment, one does. Reading the logs is
incremental, because an object that was written never changes. Knows nothing of AWS, and judges nothing itself.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from captioner.clock import stamp
from captioner.errors import BadInput, GateFailed
from captioner.experiment.analysis import Analysis, analyse
from captioner.experiment.document import RUNNING, STOPPED, Experiment, as_document, experiment_of
from captioner.experiment.events import EXPOSURES, FEEDBACK, Exposure, Feedback, event_of
from captioner.experimentparams import ExperimentParams
from captioner.ledger import CHALLENGER, CHAMPION, Model
from captioner.ports import Document, Documents, Events
from captioner.release.names import ended_key, experiment_key

Event = TypeVar("Event", Exposure, Feedback)


class Experiments:
    """The experiments of the endpoint `name`."""

    def __init__(
        self,
        documents: Documents,
        events: Events,
        name: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._documents, self._events, self.name, self._now = documents, events, name, now
        self._read: dict[str, dict[str, list[Any]]] = {}  # log → key → what it holds

    def current(self) -> Experiment | None:
        """The one that runs, or the last one that did. Raises BadData for a document that is none."""
        found = self._documents.read(experiment_key(self.name))
        return experiment_of(found.value) if found else None

    def start(self, arms: dict[str, Model], params: ExperimentParams, share: float) -> Experiment:
        """A new experiment, with a salt of its own. Raises GateFailed when one is running, or somebody was faster."""
        before = self._documents.read(experiment_key(self.name))
        if before is not None and (running := experiment_of(before.value)).running:
            raise GateFailed(f"The experiment {running.id} is running on {self.name}: end it first.")
        at = self._now().astimezone(UTC)
        new = Experiment(
            id=f"{at:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}",
            endpoint=self.name,
            salt=secrets.token_hex(16),
            state=RUNNING,
            shares={CHAMPION: round(1.0 - share, 6), CHALLENGER: share},
            arms=arms,
            started=stamp(at),
            design=params.model_dump(mode="json"),
        )
        if not self._put(new, before):
            raise GateFailed(f"Somebody else has just started an experiment on {self.name}.")
        return new

    def close(self, id: str, at: str) -> None:
        """What users meet after `at` does not count: the verdict is being carried out. The first to say so counts.

        Raises BadInput when the experiment `id` does not run.
        """
        self._change(id, lambda running: running if running.closed else replace(running, closed=at))

    def end(self, outcome: str, why: str, id: str | None = None) -> Experiment:
        """End the running one, and keep it under its own id for good. Raises BadInput when none is running, or when
        another one is than `id`."""

        def over(running: Experiment) -> Experiment:
            ended = replace(running, state=STOPPED, ended=stamp(self._now()), outcome=outcome, why=why)
            # The copy first: whoever is killed in between ends it once more, and the copy is the one that counts.
            self._documents.create(ended_key(self.name, running.id), as_document(ended))
            return ended

        return self._change(id, over)

    def _change(self, id: str | None, change: Callable[[Experiment], Experiment]) -> Experiment:
        for _ in range(5):
            before = self._documents.read(experiment_key(self.name))
            running = experiment_of(before.value) if before else None
            if before is None or running is None or not running.running or id not in (None, running.id):
                raise BadInput(f"No experiment is running on {self.name}.")
            changed = change(running)
            if changed == running or self._put(changed, before):
                return changed
        raise GateFailed(f"The experiment on {self.name} is being written all the time: try again.")

    def look(self, experiment: Experiment) -> Analysis:
        """Everything that was logged of it until now, judged by the params that it was started with."""
        since = datetime.fromisoformat(experiment.started)
        params = params_of(experiment)
        return analyse(
            experiment,
            self._logged(EXPOSURES, Exposure, since),
            self._logged(FEEDBACK, Feedback, since),
            params,
            self._now(),
        )

    def _logged(self, log: str, kind: type[Event], since: datetime) -> list[Event]:
        keys, before = self._events.keys(log, self.name, since), self._read.get(log, {})
        new = [key for key in keys if key not in before]
        read = zip(new, self._events.lines(new), strict=True)
        known = before | {key: [event_of(kind, line) for line in lines] for key, lines in read}
        self._read[log] = {key: known[key] for key in keys}  # not what an earlier experiment left
        return [event for key in keys for event in known[key]]

    def _put(self, experiment: Experiment, before: Document | None) -> bool:
        key, value = experiment_key(self.name), as_document(experiment)
        return self._documents.replace(key, value, before.tag) if before else self._documents.create(key, value)


def params_of(experiment: Experiment) -> ExperimentParams:
    """What the experiment was started with."""
    return ExperimentParams.model_validate_json(json.dumps(experiment.design))
