"""The API in this process: the real application, over fakes of S3 and the endpoint."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

from captioner.api.application import Parts, create_app
from captioner.api.fetching import fetch
from captioner.api.journal import Journal
from captioner.api.limits import Keys, Rates
from captioner.api.pages import Pages
from captioner.api.router import Current, Router
from captioner.api.service import Service
from captioner.experiment.document import Experiment
from captioner.experiment.events import EXPOSURES, FEEDBACK
from captioner.experimentparams import ExperimentParams
from captioner.experiments import Experiments
from captioner.ledger import CHALLENGER, CHAMPION, Model
from tests.fakes import FakeDocuments, FakeEvents, FakeRuntime

NAME, SECRET = "captioner-sample", "a secret of the tests"
ARMS = {CHAMPION: Model("1", "1" * 64), CHALLENGER: Model("2", "2" * 64)}


def picture(kind: str = "JPEG", size: tuple[int, int] = (48, 32), **more: Any) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, (200, 30, 60)).save(out, kind, **more)
    return out.getvalue()


@dataclass
class World:
    """Everything behind the API, to be set and looked into. `now`: seconds since the epoch."""

    runtime: FakeRuntime = field(default_factory=FakeRuntime)
    documents: FakeDocuments = field(default_factory=FakeDocuments)
    events: FakeEvents = field(default_factory=FakeEvents)
    now: float = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()
    keys: dict[str, str] = field(default_factory=dict)
    rate: float = 1000.0

    def __post_init__(self) -> None:
        self.events = FakeEvents(lambda: datetime.fromtimestamp(self.now, UTC))
        self.experiments = Experiments(self.documents, self.events, NAME, lambda: datetime.fromtimestamp(self.now, UTC))

    def app(self) -> FastAPI:
        router = Router(self.runtime, NAME, pause=lambda seconds: None)
        self.journal = Journal(self.events, NAME, gather_s=0.01)
        current = Current(self.experiments.current, clock=lambda: self.now)
        service = Service(NAME, SECRET, router, self.journal, current, clock=lambda: self.now)
        pages = Pages(self.experiments, self.documents, clock=lambda: self.now)
        rates = Rates(self.rate, self.rate)
        return create_app(Parts(service, pages, self.runtime, Keys(self.keys), rates, fetch, ("https://page.example",)))

    def start(self, share: float = 0.5, **params: Any) -> Experiment:
        return self.experiments.start(ARMS, ExperimentParams(**params), share)

    def logged(self, kind: str) -> list[dict[str, Any]]:
        """The lines of a log; call it when the application has ended, or for feedback after its answer."""
        return [line for key, lines in sorted(self.events.kept.items()) if key.startswith(kind) for line in lines]

    def exposures(self) -> list[dict[str, Any]]:
        self.journal.flush()
        return self.logged(EXPOSURES)

    def feedback(self) -> list[dict[str, Any]]:
        return self.logged(FEEDBACK)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def client(world: World) -> Iterator[TestClient]:
    with TestClient(world.app(), raise_server_exceptions=False) as found:
        yield found
