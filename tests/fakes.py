"""Fakes: implementations of the ports that keep everything in memory and can be looked into."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from captioner.digests import sha256_file
from captioner.errors import BadData, BadInput, ServiceUnavailable
from captioner.ports import Answer, Document, EndpointState, ModelVersion, Variant
from captioner.release.facts import Live, LiveVariant, Place
from captioner.release.health import Health
from captioner.release.names import is_alarm_of, is_config_of, is_model_of
from captioner.release.steps import Step


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


class Killed(Exception):
    """What a `DyingTracker` raises."""


class DyingTracker(FakeTracker):
    """Ends whoever tells it the metrics of `step`, once it has noted them."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._step = step

    def start(self, name: str, tags: Mapping[str, str]) -> FakeRun:
        started = super().start(name, tags)
        metrics = started.metrics

        def dying(values: Mapping[str, float], step: int | None = None) -> None:
            metrics(values, step)
            if step == self._step:
                raise Killed

        started.metrics = dying  # type: ignore[method-assign]
        return started


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
        _, run_id, path = model.tags.get("captioner.predictions", "runs:/none/").split("/", 2)
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
    """`ports.Endpoint`: endpoints in memory that answer as the model they were given.

    `applied` lists the changes of an endpoint (name, variants), `done` every step, `healths` what `health` says next.
    """

    def __init__(self, local: bool = True) -> None:
        self.place = Place(
            "the fake AWS", local, "arn:aws:iam::123456789012:role/captioner", "captioner:1", "captioner"
        )
        self.states: dict[str, EndpointState] = {}
        self.applied: list[tuple[str, tuple[Variant, ...]]] = []
        self.done: list[Step] = []
        self.down = False
        self.status = "InService"  # what a change ends as
        self.healths: list[dict[str, Health]] = []
        self.asked: list[tuple[float, float]] = []
        self._made: dict[str, dict[str, dict[str, Any]]] = {"model": {}, "config": {}, "alarm": {}}
        self._archives: set[str] = set()
        self._tags: dict[str, dict[str, str]] = {}
        self._counts: dict[str, dict[str, int]] = {}

    def state(self, name: str) -> EndpointState | None:
        self._reach()
        return self.states.get(name)

    def settle(self, name: str, wait_s: int) -> None:
        self._reach()

    def live(self, name: str, digests: Sequence[str] = ()) -> Live:
        self._reach()
        state = self.states.get(name)
        settings = self._made["config"].get(str(state.config) if state else "", {})
        owned = {"model": is_model_of, "config": is_config_of, "alarm": is_alarm_of}
        names = {kind: frozenset(one for one in found if owned[kind](name, one)) for kind, found in self._made.items()}
        return Live(
            place=self.place,
            status=state.status if state else None,
            config=state.config if state else None,
            settings=settings,
            variants=tuple(self._variants(state, settings)) if state else (),
            tags=self._tags.get(name, {}),
            models=names["model"],
            configs=names["config"],
            alarms=names["alarm"],
            archives=frozenset(self._archives & set(digests)),
        )

    def carry_out(
        self, name: str, steps: Sequence[Step], artifacts: Mapping[str, tuple[Path, str]], wait_s: int
    ) -> None:
        for step in steps:
            self._reach()
            self.done.append(step)
            self._do(name, step, artifacts)

    def health(self, name: str, variants: Sequence[str], since: float, until: float) -> dict[str, Health]:
        self._reach()
        if since == until:
            return dict.fromkeys(variants, Health())
        self.asked.append((since, until))
        return self.healths.pop(0) if len(self.healths) > 1 else self.healths[0]

    def captured(self, name: str) -> int:
        self._reach()
        return 0

    def _do(self, name: str, step: Step, artifacts: Mapping[str, tuple[Path, str]]) -> None:
        request = dict(step.request)
        if step.service in ("here", "s3") and step.digest:
            if sha256_file(artifacts[step.digest][0]) != step.digest:
                raise BadData(f"{artifacts[step.digest][0]} is not the model {step.digest[:12]}.")
            self._archives |= {step.digest} if step.operation == "PutObject" else set()
        elif step.operation in ("CreateModel", "CreateEndpointConfig", "PutMetricAlarm"):
            kind, key = _KINDS[step.operation]
            self._made[kind][request[key]] = request
        elif step.operation in ("DeleteModel", "DeleteEndpointConfig"):
            kind, key = _KINDS[step.operation.replace("Delete", "Create")]
            del self._made[kind][request[key]]
        elif step.operation == "DeleteAlarms":
            for alarm in request["AlarmNames"]:
                del self._made["alarm"][alarm]
        elif step.operation in ("CreateEndpoint", "UpdateEndpoint"):
            config = self._made["config"][request["EndpointConfigName"]]
            live = [self._variant(one, one["InitialVariantWeight"]) for one in config["ProductionVariants"]]
            self._counts[name] = {}
            self._tags.setdefault(name, {}).update({one["Key"]: one["Value"] for one in request.get("Tags", ())})
            self._change(name, request["EndpointConfigName"], live)
        elif step.operation == "UpdateEndpointWeightsAndCapacities":
            desired = {one["VariantName"]: one for one in request["DesiredWeightsAndCapacities"]}
            state = self.states[name]
            live = [dataclasses.replace(one, weight=desired[one.name]["DesiredWeight"]) for one in state.variants]
            counts = {one: found["DesiredInstanceCount"] for one, found in desired.items() if len(found) > 2}
            self._counts[name].update(counts)
            self._change(name, str(state.config), live)
        elif step.operation == "DeleteEndpoint":
            del self.states[name]
        elif step.operation == "AddTags":
            self._tags.setdefault(name, {}).update({one["Key"]: one["Value"] for one in request["Tags"]})
        elif step.operation == "DeleteTags":
            for key in request["TagKeys"]:
                del self._tags[name][key]

    def _change(self, name: str, config: str, live: Sequence[Variant]) -> None:
        self.applied.append((name, tuple(live)))
        self.states[name] = EndpointState(name, self.status, config, tuple(live))

    def _variant(self, config: Mapping[str, Any], weight: float) -> Variant:
        environment = self._made["model"][config["ModelName"]]["PrimaryContainer"]["Environment"]
        version, digest = environment["CAPTIONER_MODEL_VERSION"], environment["CAPTIONER_MODEL_DIGEST"]
        return Variant(config["VariantName"], weight, version, digest)

    def _variants(self, state: EndpointState, settings: Mapping[str, Any]) -> Iterator[LiveVariant]:
        configs = {one["VariantName"]: one for one in settings.get("ProductionVariants", ())}
        for one in state.variants:
            config = configs.get(one.name, {})
            count = self._counts.get(state.name, {}).get(one.name, config.get("InitialInstanceCount"))
            kind, model = config.get("InstanceType", ""), config.get("ModelName", "")
            yield LiveVariant(one.name, one.weight, count, kind, model, one.model_version, one.digest)
        for config in settings.get("ShadowProductionVariants", ()):
            one = self._variant(config, config["InitialVariantWeight"])
            count, kind = config["InitialInstanceCount"], config["InstanceType"]
            yield LiveVariant(
                one.name, one.weight, count, kind, config["ModelName"], one.model_version, one.digest, True
            )

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


_KINDS = {
    "CreateModel": ("model", "ModelName"),
    "CreateEndpointConfig": ("config", "EndpointConfigName"),
    "PutMetricAlarm": ("alarm", "AlarmName"),
}


class FakeDocuments:
    """`ports.Documents` in memory. A tag is the number of the write."""

    def __init__(self) -> None:
        self.kept: dict[str, Document] = {}
        self._writes = 0
        self._lock = threading.RLock()

    def read(self, key: str) -> Document | None:
        return self.kept.get(key)

    def create(self, key: str, value: Any) -> bool:
        with self._lock:
            return key not in self.kept and self._write(key, value)

    def replace(self, key: str, value: Any, tag: str) -> bool:
        with self._lock:
            return key in self.kept and self.kept[key].tag == tag and self._write(key, value)

    def keys(self, prefix: str) -> list[str]:
        return sorted(key for key in self.kept if key.startswith(prefix))

    def _write(self, key: str, value: Any) -> bool:
        self._writes += 1
        self.kept[key] = Document(json.loads(json.dumps(value)), str(self._writes))
        return True


class FakeEvents:
    """`ports.Events` in memory. `now` is the hour that objects are written in."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.kept: dict[str, list[dict[str, Any]]] = {}
        self._now = now
        self._lock = threading.Lock()

    def write(self, kind: str, name: str, lines: Sequence[Mapping[str, Any]]) -> str:
        with self._lock:
            key = f"{kind}/{name}/{self._now():%Y/%m/%d/%H/%M%S}-fake-{len(self.kept) + 1:06d}.jsonl"
            self.kept[key] = json.loads(json.dumps(list(lines)))
        return key

    def keys(self, kind: str, name: str, since: datetime) -> list[str]:
        prefix = f"{kind}/{name}/"
        return sorted(
            key
            for key in self.kept
            if key.startswith(prefix) and key > f"{prefix}{since - timedelta(minutes=5):%Y/%m/%d/%H/%M%S}"
        )

    def lines(self, keys: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
        yield from (json.loads(json.dumps(self.kept[key])) for key in keys)


class FakeRuntime:
    """`ports.Runtime` that answers at once. `down` names variants that fail, `refuses` what pictures are told."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None, str, bytes]] = []
        self.down: dict[str, Exception] = {}
        self.refuses: Exception | None = None
        self.kept_status: str | None = "InService"
        self.more: dict[str, Any] = {}

    def status(self, name: str) -> str | None:
        return self.kept_status

    def invoke(
        self, name: str, image: bytes, content_type: str, variant: str | None = None, inference_id: str | None = None
    ) -> Answer:
        self.asked.append((inference_id or "", variant, content_type, image))
        if self.refuses:
            raise self.refuses
        answers = variant or "champion"
        if answers in self.down:
            raise self.down[answers]
        version = "1" if answers == "champion" else "2"
        caption = {"caption": f"a dog of the {answers}", "log_probability": -1.5, "alternatives": []}
        return Answer(answers, {**caption, "model": {"version": version, "digest": version * 64}, **self.more})
