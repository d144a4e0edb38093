"""The few protocols that stages see of the outside world. Adapters implement them; ``bootstrap.py`` wires them.

A port exists only where two implementations do (the second is often the fake in ``tests/fakes.py``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from captioner.release.facts import Live
    from captioner.release.health import Health
    from captioner.release.steps import Step


class Run(Protocol):
    """One tracked run."""

    id: str
    url: str  # its page in the UI, "" where there is none

    def params(self, values: Mapping[str, Any]) -> None: ...
    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None: ...
    def tags(self, values: Mapping[str, str]) -> None: ...
    def tag(self, name: str) -> str | None:
        """What the run is tagged with."""

    def dataset(self, name: str, digest: str, source: str, context: str) -> None:
        """An input of the run: what it is called, its DVC hash, where it lies, and what it was used for."""

    def file(self, path: Path, folder: str = "") -> None:
        """Attach a file, or a folder with everything in it."""

    def end(self, failed: bool = False) -> None: ...


class Tracker(Protocol):
    """Where runs are remembered. Implementations: MLflow; nothing at all (``stages.train.NoTracker``)."""

    def start(self, name: str, tags: Mapping[str, str]) -> Run:
        """A new run."""

    def find(self, tag: str, value: str) -> Run | None:
        """The newest run that carries `tag` = `value`, open for more."""


@dataclass(frozen=True)
class ModelVersion:
    """A version in the registry. `digest` is the SHA-256 of its model.tar.gz."""

    name: str
    version: str
    digest: str
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: Sequence[str] = ()
    run_id: str = ""  # of the run that it came from


class Registry(Protocol):
    """The model registry. Implementations: MLflow; the fake of the tests."""

    def by_alias(self, name: str, alias: str) -> ModelVersion | None: ...
    def by_digest(self, name: str, digest: str) -> ModelVersion | None: ...
    def by_version(self, name: str, version: str) -> ModelVersion | None: ...
    def create(self, name: str, artifact: Path, run_id: str, tags: Mapping[str, str]) -> ModelVersion:
        """Register the packed artifact (model.tar.gz) as a new version that MLflow can load and serve."""

    def tag(self, model: ModelVersion, tags: Mapping[str, str]) -> None: ...
    def set_alias(self, name: str, alias: str, version: str) -> None: ...
    def drop_alias(self, name: str, alias: str) -> None: ...
    def fetch(self, model: ModelVersion, folder: Path) -> Path:
        """The model.tar.gz of `model`, digest checked, in `folder`."""

    def fetch_predictions(self, model: ModelVersion, folder: Path) -> Path:
        """The test-set predictions (predictions.jsonl) that `model` was judged by."""


@dataclass(frozen=True)
class Variant:
    """One production variant as it is live."""

    name: str
    weight: float
    model_version: str
    digest: str


@dataclass(frozen=True)
class EndpointState:
    name: str
    status: str
    config: str | None
    variants: Sequence[Variant] = ()
    failure: str | None = None


@dataclass(frozen=True)
class Answer:
    """What the endpoint said, and which variant said it."""

    variant: str
    body: Mapping[str, Any]


class Endpoint(Protocol):
    """A SageMaker endpoint with production variants. Implementations: boto3; the fake of the tests."""

    def state(self, name: str) -> EndpointState | None: ...
    def live(self, name: str, digests: Sequence[str] = ()) -> Live:
        """Everything that there is of the endpoint; which of `digests` have their artifact stored."""

    def settle(self, name: str, wait_s: int) -> None:
        """Wait until nobody is changing it."""

    def carry_out(
        self, name: str, steps: Sequence[Step], artifacts: Mapping[str, tuple[Path, str]], wait_s: int
    ) -> None:
        """Do the steps of a plan, in order; `artifacts` maps a digest to its file and version."""

    def health(self, name: str, variants: Sequence[str], since: float, until: float) -> Mapping[str, Health]:
        """How variants fared between two times, in seconds since the epoch."""

    def captured(self, name: str) -> int:
        """How many objects of captured data there are."""

    def invoke(self, name: str, image: bytes, content_type: str, variant: str | None = None) -> Answer: ...


class Runtime(Protocol):
    """An endpoint to be asked, by whoever changes nothing. Implementations: boto3; the fake of the tests."""

    def status(self, name: str) -> str | None:
        """The endpoint's status, None when there is no such endpoint."""

    def invoke(
        self, name: str, image: bytes, content_type: str, variant: str | None = None, inference_id: str | None = None
    ) -> Answer: ...


@dataclass(frozen=True)
class Document:
    """A JSON document as it was read, and the tag that tells this version of it from others."""

    value: Any
    tag: str


class Documents(Protocol):
    """Small shared JSON documents, written by whoever is first. Implementations: S3; the fake of the tests."""

    def read(self, key: str) -> Document | None: ...
    def create(self, key: str, value: Any) -> bool:
        """Write a new document; False when there is one already."""

    def replace(self, key: str, value: Any, tag: str) -> bool:
        """Write over the version with `tag`; False when it is another by now."""

    def keys(self, prefix: str) -> list[str]:
        """The keys that start with `prefix`, sorted."""


class Events(Protocol):
    """Append-only logs of JSON lines, many writers. Implementations: S3; the fake of the tests."""

    def write(self, kind: str, name: str, lines: Sequence[Mapping[str, Any]]) -> str:
        """Write `lines` as one new object of the log `kind` of `name`; durable when this returns. Returns its key."""

    def keys(self, kind: str, name: str, since: datetime) -> list[str]:
        """The keys of what was written from `since` on, and a little before, oldest first. An object never changes."""

    def lines(self, keys: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
        """The lines of each of these objects."""


@dataclass(frozen=True)
class LiveModel:
    """The SageMaker model behind a variant. What is not known is "", `exists` says whether the model is still there."""

    variant: str
    model: str
    exists: bool
    image: str
    url: str
    version: str
    digest: str


@dataclass(frozen=True)
class Captured:
    """One inference as data capture kept it; `answer` is None when no output was captured, or when it is no JSON."""

    inference_id: str
    variant: str
    at: str  # UTC, ISO 8601
    place: str
    answer: Mapping[str, Any] | None


@dataclass(frozen=True)
class CapturedRequest:
    """What one inference asked for: the body as the endpoint got it."""

    inference_id: str
    content_type: str
    body: bytes


class Served(Protocol):
    """What stands behind an endpoint, for whoever traces it. Implementations: boto3; the fake of the tests."""

    def models(self, endpoint: str) -> Sequence[LiveModel]: ...
    def captured(self, endpoint: str, inference_id: str) -> Captured | None: ...
    def requests(self, endpoint: str, inference_ids: Collection[str]) -> Iterator[CapturedRequest]: ...
    def archive(self, digest: str) -> str | None:
        """Where the artifact with this digest is stored, None when it is not."""
