"""Runs in MLflow: `ports.Tracker` over one experiment.

Only the client API is used, never the fluent one: no global active run, and two threads cannot take each other's.
Knows nothing of what is tracked; where the store lies is ``mlflow_store``'s business.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from captioner.adapters.mlflow_store import artifact_folder, client, in_our_words, tracking_uri
from captioner.lineage import git_state
from captioner.paths import Paths

if TYPE_CHECKING:
    from mlflow.entities import Experiment
    from mlflow.tracking import MlflowClient

__all__ = ["MlflowRun", "MlflowTracker", "tracking_uri"]

T = TypeVar("T")
# Without it the UI takes an experiment for one with language models, and shows traces where its runs should be.
TRAINING = {"mlflow.experimentKind": "custom_model_development"}
# MLflow's own limits: longer ones are refused, not cut.
PARAM_CHARACTERS, TAG_CHARACTERS = 6000, 5000
PARAMS_AT_ONCE, METRICS_AT_ONCE, TAGS_AT_ONCE = 100, 1000, 100


class MlflowRun:
    """One run. Everything that is told to it is written at once; nothing waits for `end`."""

    def __init__(self, client: MlflowClient, uri: str, experiment_id: str, run_id: str) -> None:
        self.id = run_id
        self.url = f"{uri}/#/experiments/{experiment_id}/runs/{run_id}" if uri.startswith("http") else ""
        self._client = client
        self._uri = uri

    def params(self, values: Mapping[str, Any]) -> None:
        """Nested sections become dotted names; a value that was set before may be set again, but not changed."""
        from mlflow.entities import Param

        with in_our_words(self._uri):
            rows = [Param(name, _text(value)[:PARAM_CHARACTERS]) for name, value in flatten(values)]
            for some in _chunks(rows, PARAMS_AT_ONCE):
                self._client.log_batch(self.id, params=some)

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        with in_our_words(self._uri):
            rows = [Metric(name, float(value), now, step or 0) for name, value in values.items()]
            for some in _chunks(rows, METRICS_AT_ONCE):
                self._client.log_batch(self.id, metrics=some)

    def tags(self, values: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        with in_our_words(self._uri):
            rows = [RunTag(name, str(value)[:TAG_CHARACTERS]) for name, value in values.items()]
            for some in _chunks(rows, TAGS_AT_ONCE):
                self._client.log_batch(self.id, tags=some)

    def tag(self, name: str) -> str | None:
        with in_our_words(self._uri):
            value: str | None = self._client.get_run(self.id).data.tags.get(name)
            return value

    def dataset(self, name: str, digest: str, source: str, context: str) -> None:
        """An input of the run. `digest` is at most 36 characters: a DVC hash (``….dir`` included) just fits."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        entry = Dataset(name=name, digest=digest[:36], source_type="dvc", source=source)
        with in_our_words(self._uri):
            self._client.log_inputs(self.id, [DatasetInput(entry, [InputTag("mlflow.data.context", context)])])

    def file(self, path: Path, folder: str = "") -> None:
        """Attach a file, or a folder with everything in it, under `folder` of the run's artifacts."""
        with in_our_words(self._uri):
            if path.is_dir():
                self._client.log_artifacts(self.id, str(path), artifact_path=folder or None)
            else:
                self._client.log_artifact(self.id, str(path), artifact_path=folder or None)

    def end(self, failed: bool = False) -> None:
        with in_our_words(self._uri):
            self._client.set_terminated(self.id, "FAILED" if failed else "FINISHED")


class MlflowTracker:
    """The runs of one experiment, which is created on its first use."""

    def __init__(self, uri: str, experiment: str, paths: Paths) -> None:
        self.uri = uri
        self.experiment = experiment
        self.paths = paths
        self._connected: tuple[MlflowClient, str] | None = None

    def start(self, name: str, tags: Mapping[str, str]) -> MlflowRun:
        """A new run, tagged with the commit that it is of. Raises ServiceUnavailable when no server answers."""
        client, experiment = self._connect()
        commit = git_state(self.paths.root).tags()
        with in_our_words(self.uri):
            every = {"mlflow.source.name": "captioner", "mlflow.user": os.environ.get("USER", ""), **commit, **tags}
            short = {key: str(value)[:TAG_CHARACTERS] for key, value in every.items()}
            run = client.create_run(experiment, run_name=name, tags=short)
        return MlflowRun(client, self.uri, experiment, run.info.run_id)

    def find(self, tag: str, value: str) -> MlflowRun | None:
        """The newest run with this tag, or None."""
        client, experiment = self._connect()
        with in_our_words(self.uri):
            wanted = f"tags.`{tag}` = {_quoted(value)}"
            runs = client.search_runs([experiment], wanted, max_results=1, order_by=["attributes.start_time DESC"])
        return MlflowRun(client, self.uri, experiment, runs[0].info.run_id) if runs else None

    def _connect(self) -> tuple[MlflowClient, str]:
        if self._connected is None:
            found = client(self.uri)
            with in_our_words(self.uri):
                self._connected = found, _experiment(found, self.experiment, self._location())
        return self._connected

    def _location(self) -> str | None:
        folder = artifact_folder(self.uri, self.paths)
        return (folder / self.experiment).as_uri() if folder else None


def _experiment(client: MlflowClient, name: str, location: str | None) -> str:
    from mlflow.exceptions import MlflowException

    found: Experiment | None = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=location, tags=TRAINING))
        except MlflowException:
            # Somebody else was faster; whatever else went wrong is said by the second look.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        # Deleting it in the UI only hides it, and MLflow refuses its name to a new one.
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings as dotted names, in their own order."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _chunks(rows: list[T], size: int) -> Iterable[list[T]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _quoted(value: str) -> str:
    return f'"{value}"' if "'" in value else f"'{value}'"


@contextmanager
def tracked(run: MlflowRun) -> Iterator[MlflowRun]:
    """End `run` with the block: finished, or failed when the block raises."""
    try:
        yield run
    except BaseException:
        run.end(failed=True)
        raise
    run.end()
