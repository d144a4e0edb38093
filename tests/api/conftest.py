"""The API in this process, over fakes of its ports, and pictures for it."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from captioner.api.opening import Opened, opened
from captioner.api.wiring import Routing
from captioner.errors import ModelUnavailable, ServiceUnavailable
from captioner.experiment.document import RUNNING, Experiment, as_document
from captioner.ledger import Model
from captioner.paths import Paths
from captioner.ports import Answer, Question
from captioner.release.names import experiment_key
from captioner.settings import Settings
from tests.fakes import FakeDocuments, FakeEvents

NAME = "captioner-try"
SECRET = "not much of a secret"
ARMS = {"champion": Model("1", "aa" * 32), "challenger": Model("2", "bb" * 32)}


def picture(kind: str = "JPEG", size: tuple[int, int] = (12, 8), **options: Any) -> bytes:
    """A small picture whose four corners differ."""
    drawn = Image.new("RGB", size, (200, 30, 30))
    for at, colour in (((0, 0), (0, 0, 255)), ((size[0] - 1, 0), (0, 255, 0)), ((0, size[1] - 1), (255, 255, 0))):
        drawn.putpixel(at, colour)
    out = io.BytesIO()
    drawn.save(out, kind, **options)
    return out.getvalue()


class FakeInference:
    """`ports.Inference`: variants that answer by name. `faults` maps a variant to what it raises next, in order."""

    def __init__(self, variants: Sequence[str] = ("champion", "challenger")) -> None:
        self.variants = list(variants)
        self.asked: list[Question] = []
        self.faults: dict[str | None, list[Exception]] = {}
        self.down: set[str] = set()
        self.hangs: set[str] = set()
        self.let_go = threading.Event()
        self.attention: Any = None
        self.state: str | None = "InService"

    def ask(self, name: str, question: Question) -> Answer:
        assert name == NAME
        self.asked.append(question)
        variant = question.variant or self.variants[0]
        if self.faults.get(question.variant):
            raise self.faults[question.variant].pop(0)
        if variant in self.down or variant not in self.variants:
            raise ModelUnavailable(f"The variant {variant} is down.")
        if variant in self.hangs:
            assert self.let_go.wait(30)
        best = {"caption": f"the {variant} says", "log_probability": -1.0}
        others = [{"caption": "something else", "log_probability": -2.0}]
        model = dataclasses.asdict(ARMS[variant])
        return Answer(variant, {**best, "alternatives": others, "model": model, "attention": self.attention})

    def status(self, name: str) -> str | None:
        if self.state == "unknown":
            raise ServiceUnavailable("AWS does not answer.")
        return self.state


class UnsureEvents(FakeEvents):
    """A log that cannot be written to while `down`."""

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.writes = 0

    def write(self, kind: str, name: str, lines: Sequence[Mapping[str, Any]]) -> str:
        self.writes += 1
        if self.down:
            raise ServiceUnavailable("The log does not answer.")
        return super().write(kind, name, lines)

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [line for key in self.kept if key.startswith(kind) for line in self.kept[key]]


class World:
    """One API and what stands behind it. `ask` sends a request and returns the answer."""

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None, **options: Any) -> None:
        settings = Settings.from_env(folder, {"CAPTIONER_API_SECRET": SECRET, **(environ or {})})
        self.inference, self.documents, self.events = FakeInference(), FakeDocuments(), UnsureEvents()
        self.said: list[dict[str, Any]] = []
        self.routing = Routing(NAME, settings, Paths.of(folder, settings), self.inference, self.documents, self.events)
        self.api: Opened = opened(self.routing, self._say, **options)

    def _say(self, event: str, **fields: Any) -> None:
        self.said.append({"event": event, **fields})

    def ask(self, path: str = "/v1/captions", method: str = "POST", **request: Any) -> httpx.Response:
        async def one() -> httpx.Response:
            async with self.client() as client:
                return await client.request(method, path, **request)

        return asyncio.run(one())

    def client(self, **options: Any) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.api.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://api", **options)

    def exposures(self) -> list[dict[str, Any]]:
        """Every exposure so far."""
        assert self.api.exposures.flush()
        return self.events.all("exposures")

    def run_experiment(self, share: float = 0.5, **changes: Any) -> Experiment:
        """An experiment that this API's router will know of from its first request on."""
        shares = {"champion": 1 - share, "challenger": share}
        one = Experiment("e1", NAME, "salt", RUNNING, shares, ARMS, "2026-11-26T00:00:00Z")
        one = dataclasses.replace(one, **changes)
        found = self.documents.read(experiment_key(NAME))
        if found is None:
            self.documents.create(experiment_key(NAME), as_document(one))
        else:
            self.documents.replace(experiment_key(NAME), as_document(one), found.tag)
        return one


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def fault(answer: httpx.Response) -> tuple[int, str]:
    """(status, code) of an error, whose form is checked."""
    body = answer.json()
    assert list(body) == ["error"]
    assert set(body["error"]) == {"code", "message"}
    assert body["error"]["message"].strip().endswith((".", "…"))
    return answer.status_code, body["error"]["code"]


def until(what: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Wait for what a thread does of its own accord."""
    deadline = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return value
