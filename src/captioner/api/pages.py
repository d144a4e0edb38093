"""What the API shows of experiments, models and the ledger: read from the bucket, kept for seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from captioner.experiment.analysis import as_json
from captioner.experiment.document import as_document
from captioner.experiments import Experiments
from captioner.ports import Documents
from captioner.release.names import ledger_prefix, models_key, status_key

FRESH_S = 5.0


class Pages:
    """The pages of one endpoint."""

    def __init__(
        self, experiments: Experiments, documents: Documents, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._experiments, self._documents, self._clock = experiments, documents, clock
        self._lock = threading.Lock()
        self._seen: tuple[float, dict[str, Any]] | None = None

    def experiment(self) -> dict[str, Any]:
        """The document of the running or the last experiment, and its analysis, at most FRESH_S old."""
        with self._lock:  # one analysis at a time: whoever waits gets the same
            if self._seen is None or self._clock() - self._seen[0] > FRESH_S:
                self._seen = (self._clock(), self._experiment())
            return self._seen[1]

    def models(self) -> dict[str, Any]:
        """What was last published of champion and challenger."""
        found = self._documents.read(models_key(self._experiments.name))
        return dict(found.value) if found else {"as_of": None, "models": {}, "compared": 0, "differ": 0, "gallery": []}

    def ledger(self, count: int) -> list[Any]:
        """The newest `count` entries of the ledger, newest last."""
        keys = self._documents.keys(ledger_prefix(self._experiments.name))[-count:]
        return [found.value for found in map(self._documents.read, keys) if found]

    def _experiment(self) -> dict[str, Any]:
        published = self._documents.read(status_key(self._experiments.name))
        links = published.value.get("links", {}) if published else {}
        experiment = self._experiments.current()
        if experiment is None:
            return {"experiment": None, "analysis": None, "links": links}
        analysis = as_json(self._experiments.look(experiment))
        document = {key: value for key, value in as_document(experiment).items() if key != "salt"}
        return {"experiment": document, "analysis": analysis, "links": links}
