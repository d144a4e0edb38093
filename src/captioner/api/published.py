"""What others write about the experiment, read from S3 for whoever asks: its state, its models, the ledger.

Knows the keys and the shapes of these documents, and nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from captioner.api.journal import timestamp
from captioner.errors import BadData
from captioner.experiment.document import Experiment, as_document, experiment_of
from captioner.ledger import entry_of
from captioner.ports import Documents
from captioner.release.names import experiment_key

NOTHING: Mapping[str, Any] = {"experiment": None, "analysis": None, "links": {"mlflow": ""}, "as_of": ""}
"""Where nothing was published."""

ENTRIES = 100  # of the ledger that are shown at most


Look = Callable[[Experiment], Mapping[str, Any] | None]  # an analysis of now, None where there is none


class Published:
    """The documents of the endpoint `name`. Every method may raise ServiceUnavailable, BadEnvironment or BadData."""

    def __init__(self, documents: Documents, name: str, look: Look | None = None) -> None:
        self._documents, self._name, self._look = documents, name, look
        self._entries: dict[str, dict[str, Any]] = {}  # by key: an entry never changes

    def running(self) -> Experiment | None:
        """The document of the running experiment, or of the one that ran last."""
        found = self._documents.read(experiment_key(self._name))
        return None if found is None or found.value is None else experiment_of(found.value)

    def experiment(self) -> Mapping[str, Any]:
        """``status.json``, with an analysis of now where one can be made; the experiment alone before it is there."""
        found = self._documents.read(f"experiments/{self._name}/status.json")
        status = found.value if found is not None and isinstance(found.value, dict) else NOTHING
        running = self.running()
        if running is None or not running.running:
            return {**status, "as_of": status.get("as_of") or timestamp()}
        now = self._look(running) if self._look else None
        if now is None and status is not NOTHING:
            return status
        return {**status, "experiment": as_document(running), "analysis": now, "as_of": timestamp()}

    def models(self) -> Mapping[str, Any]:
        """``models.json``; without it, no models."""
        found = self._documents.read(f"experiments/{self._name}/models.json")
        if found is not None and isinstance(found.value, dict):
            return found.value
        return {"as_of": timestamp(), "models": {}, "gallery": []}

    def ledger(self) -> list[dict[str, Any]]:
        """The newest entries, newest first."""
        keys = self._documents.keys(f"ledger/{self._name}/")[-ENTRIES:]
        for key in keys:
            if key not in self._entries:
                found = self._documents.read(key)
                if found is not None:
                    self._entries[key] = _entry(found.value)
        return [self._entries[key] for key in reversed(keys) if key in self._entries]


def _entry(value: Any) -> dict[str, Any]:
    """An entry as it is shown: without the snapshots, whose difference is in `changes`."""
    try:
        entry = entry_of(value)
    except BadData:
        return {"number": 0, "at": "", "who": "", "action": "", "why": "", "changes": [], "failed": "", "note": "?"}
    shown = {name: getattr(entry, name) for name in ("number", "at", "who", "action", "why", "failed", "note")}
    return {**shown, "changes": entry.changes, "summary": entry.summary}
