"""Fakes: implementations of the ports that keep everything in memory and can be looked into."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from captioner.digests import sha256_file
from captioner.errors import BadData, BadInput, ServiceUnavailable
from captioner.ports import Answer, Document, EndpointState, ModelVersion, Variant, VariantSpec


class FakeRun:
    """A run that remembers what it was told. `files` maps artifact path to content."""

    def __init__(self, number: int, name: str, tags: Mapping[str, str]) -> None:
        self.id = f"run-{number}"
        self.url = f"http://mlflow/{self.id}"
        self.name = name
        self.kept_tags = dict(tags)
        self.kept_params: dict[str, Any] = {}
        self.history: list[tuple[int | None, dict[str, float]]] = []
        self.datasets: list[tuple[str, str, str, str]] = []
        self.files: dict[str, bytes] = {}
        self.status = "running"

    def params(self, values: Mapping[str, Any]) -> None:
        self.kept_params.update(values)

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        self.history.append((step, dict(values)))

    def tags(self, values: Mapping[str, str]) -> None:
        self.kept_tags.update(values)

    def tag(self, name: str) -> str | None:
        return self.kept_tags.get(name)

    def dataset(self, name: str, digest: str, source: str, context: str) -> None:
        self.datasets.append((name, digest, source, context))

    def file(self, path: Path, folder: str = "") -> None:
        files = (
            [(p, p.relative_to(path)) for p in path.rglob("*") if p.is_file()] if path.is_dir() else [(path, path.name)]
        )
        for source, inside in files:
            self.files[f"{folder}/{inside}".lstrip("/")] = source.read_bytes()

    def end(self, failed: bool = False) -> None:
        self.status = "failed" if failed else "finished"

    @property
    def latest(self) -> dict[str, float]:
        """The last value of every metric."""
        return {name: value for _, values in self.history for name, value in values.items()}


class FakeTracker:
    """`ports.Tracker`: the newest run is the last one."""

    def __init__(self) -> None:
        self.runs: list[FakeRun] = []

    def start(self, name: str, tags: Mapping[str, str]) -> FakeRun:
        self.runs.append(FakeRun(len(self.runs) + 1, name, tags))
        return self.runs[-1]

    def find(self, tag: str, value: str) -> FakeRun | None:
        return next((run for run in reversed(self.runs) if run.kept_tags.get(tag) == value), None)


class FakeRegistry:
    """`ports.Registry`: versions of one or more models, their artifacts, and the runs' files of `tracker`."""

    def __init__(self, tracker: FakeTracker | None = None) -> None:
        self.tracker = tracker or FakeTracker()
        self.versions: dict[tuple[str, str], ModelVersion] = {}
        self.artifacts: dict[tuple[str, str], bytes] = {}
        self.aliases: dict[tuple[str, str], str] = {}

    def by_alias(self, name: str, alias: str) -> ModelVersion | None:
        version = self.aliases.get((name, alias))
        return self.get(name, version) if version else None

    def by_digest(self, name: str, digest: str) -> ModelVersion | None:
        found = [v for (model, _), v in self.versions.items() if model == name and v.digest == digest]
        return self.get(name, found[-1].version) if found else None

    def by_version(self, name: str, version: str) -> ModelVersion | None:
        return self.get(name, version) if (name, version) in self.versions else None

    def create(self, name: str, artifact: Path, run_id: str, tags: Mapping[str, str]) -> ModelVersion:
        version = str(sum(model == name for model, _ in self.versions) + 1)
        self.versions[name, version] = ModelVersion(name, version, sha256_file(artifact), dict(tags), run_id=run_id)
        self.artifacts[name, version] = artifact.read_bytes()
        return self.get(name, version)

    def tag(self, model: ModelVersion, tags: Mapping[str, str]) -> None:
        key = (model.name, model.version)
        self.versions[key] = dataclasses.replace(self.versions[key], tags={**self.versions[key].tags, **tags})

    def set_alias(self, name: str, alias: str, version: str) -> None:
        self.aliases[name, alias] = version

    def drop_alias(self, name: str, alias: str) -> None:
        self.aliases.pop((name, alias), None)

    def fetch(self, model: ModelVersion, folder: Path) -> Path:
        return _written(folder / "model.tar.gz", self.artifacts[model.name, model.version])

    def fetch_predictions(self, model: ModelVersion, folder: Path) -> Path:
        _, run_id, path = model.tags["captioner.predictions"].split("/", 2)
        run = next((run for run in self.tracker.runs if run.id == run_id), None)
        if run is None or path not in run.files:
            raise BadData(f"Version {model.version} of {model.name} has no predictions.")
        return _written(folder / "predictions.jsonl", run.files[path])

    def get(self, name: str, version: str) -> ModelVersion:
        """A version as it is now, aliases included."""
        aliases = sorted(alias for (model, alias), held in self.aliases.items() if (model, held) == (name, version))
        return dataclasses.replace(self.versions[name, version], aliases=tuple(aliases))


def _written(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


class FakeEndpoint:
    """`ports.Endpoint`: endpoints in memory that answer as the model they were given. `applied` counts real changes."""

    def __init__(self) -> None:
        self.states: dict[str, EndpointState] = {}
        self.applied: list[tuple[str, tuple[VariantSpec, ...], str, int]] = []
        self.down = False

    def state(self, name: str) -> EndpointState | None:
        self._reach()
        return self.states.get(name)

    def apply(
        self, name: str, variants: Sequence[VariantSpec], instance_type: str, instances: int, wait_s: int
    ) -> EndpointState:
        self._reach()
        for one in variants:
            if sha256_file(one.artifact) != one.digest:
                raise BadData(f"{one.artifact} is not the model {one.digest[:12]}.")
        live = tuple(Variant(one.name, one.weight, one.model_version, one.digest) for one in variants)
        before = self.states.get(name)
        if before is None or tuple(before.variants) != live:
            self.applied.append((name, tuple(variants), instance_type, instances))
            self.states[name] = EndpointState(name, "InService", f"{name}-config-{len(self.applied)}", live)
        return self.states[name]

    def invoke(self, name: str, image: bytes, content_type: str, variant: str | None = None) -> Answer:
        self._reach()
        if name not in self.states:
            raise BadInput(f"There is no endpoint {name}.")
        live = {one.name: one for one in self.states[name].variants}
        chosen = live[variant] if variant else max(live.values(), key=lambda one: one.weight)
        model = {"version": chosen.model_version, "digest": chosen.digest}
        best = {"caption": f"{len(image)} bytes", "log_probability": -1.0}
        return Answer(chosen.name, {**best, "alternatives": [], "model": model})

    def _reach(self) -> None:
        if self.down:
            raise ServiceUnavailable("The endpoint does not answer: run `captioner up`.")


class FakeDocuments:
    """`ports.Documents` in memory. A tag is the number of the write."""

    def __init__(self) -> None:
        self.kept: dict[str, Document] = {}
        self._writes = 0

    def read(self, key: str) -> Document | None:
        return self.kept.get(key)

    def create(self, key: str, value: Any) -> bool:
        return key not in self.kept and self._write(key, value)

    def replace(self, key: str, value: Any, tag: str) -> bool:
        return key in self.kept and self.kept[key].tag == tag and self._write(key, value)

    def keys(self, prefix: str) -> list[str]:
        return sorted(key for key in self.kept if key.startswith(prefix))

    def _write(self, key: str, value: Any) -> bool:
        self._writes += 1
        self.kept[key] = Document(json.loads(json.dumps(value)), str(self._writes))
        return True
