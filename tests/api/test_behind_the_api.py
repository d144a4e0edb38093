"""The whole way, over HTTP: a real API process, a real local AWS, real model processes behind the endpoint."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from captioner.adapters.s3_documents import S3Documents
from captioner.adapters.s3_events import S3Events
from captioner.emulator.children import free_port
from captioner.experimentparams import ExperimentParams
from captioner.experiments import Experiments
from captioner.ledger import CHALLENGER, CHAMPION, Model
from captioner.paths import Paths
from captioner.settings import Settings
from tests.local_aws import LocalAws, until

ROOT = Path(__file__).resolve().parents[2]
ARMS = {CHAMPION: Model("1", "1" * 64), CHALLENGER: Model("2", "2" * 64)}


class Api:
    """`captioner api` as a process, in a project whose local AWS is the tests' own."""

    def __init__(self, folder: Path, aws: LocalAws, endpoint: str) -> None:
        self.endpoint, self.port = endpoint, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        settings = Settings.from_env(folder, {})
        paths = Paths.of(folder, settings)
        paths.services.parent.mkdir(parents=True)
        paths.services.write_text(json.dumps({"aws": {"url": aws.url}}), encoding="utf-8")
        self.experiments = Experiments(
            S3Documents(settings, paths, aws.account), S3Events(settings, paths, aws.account), endpoint
        )
        self.events = S3Events(settings, paths, aws.account)
        self.log = (folder / "api.log").open("w+", encoding="utf-8")
        env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "CAPTIONER_API_ENDPOINT": endpoint}
        command = [sys.executable, "-m", "captioner", "api", "--port", str(self.port)]
        self.process = subprocess.Popen(
            command, cwd=folder, env=env | {"CAPTIONER_API_RATE": "5000"}, stdout=self.log, stderr=self.log
        )
        until(self.answers, "the API to answer")

    def answers(self) -> bool:
        assert self.process.poll() is None, Path(self.log.name).read_text(encoding="utf-8")
        try:
            return bool(self.ask("/openapi.json"))
        except OSError:
            return False

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> Any:
        request = urllib.request.Request(self.url + path, body, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def caption(self, user: str, **headers: str) -> Any:
        return self.ask("/v1/captions", PICTURE, **{"Content-Type": "image/jpeg", "X-User-Id": user, **headers})

    def logged(self) -> list[dict[str, Any]]:
        since = datetime.now(UTC) - timedelta(hours=2)
        keys = self.events.keys("exposures", self.endpoint, since)
        return [line for lines in self.events.lines(keys) for line in lines]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self.log.close()
        return code


def _picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 48), "red").save(out, "JPEG")
    return out.getvalue()


PICTURE = _picture()


@pytest.fixture(scope="module")
def endpoint(local_aws: LocalAws) -> str:
    """Champion and challenger, each a process of its own."""
    name = f"captioner-{uuid.uuid4().hex[:8]}"
    for version in ("1", "2"):
        said = {"CAPTIONER_MODEL_DIGEST": version * 64, "CAPTION": f"version {version}", "LOG_PROBABILITY": "-1"}
        local_aws.model(f"{name}-{version}", version, **said)
    local_aws.config(name, {CHAMPION: (f"{name}-1", 0.5), CHALLENGER: (f"{name}-2", 0.5)})
    assert local_aws.endpoint(name, name)["EndpointStatus"] == "InService"
    return name


@pytest.fixture
def api(tmp_path: Path, local_aws: LocalAws, endpoint: str) -> Iterator[Api]:
    found = Api(tmp_path, local_aws, endpoint)
    yield found
    if found.process.poll() is None:
        found.stop()
    running = found.experiments.current()
    if running and running.running:
        found.experiments.end("stopped", "the test is over")


def test_from_a_picture_to_the_experiment(api: Api) -> None:
    assert api.ask("/v1/health")["status"] == "ok"
    running = api.experiments.start(ARMS, ExperimentParams(), 0.5)
    until(lambda: api.caption("somebody")["experiment"] == running.id, "the router to see the experiment")
    met: dict[str, str] = {}
    for number in range(30):
        found = api.caption(f"user-{number}")
        assert found["model"]["digest"] == ARMS[found["assigned"]].digest
        assert found["variant"] == found["assigned"]
        met[f"user-{number}"] = found["variant"]
        rated = json.dumps({"rating": 5 if found["variant"] == CHALLENGER else 3}).encode()
        path = f"/v1/captions/{found['inference_id']}/feedback"
        assert api.ask(path, rated, **{"Content-Type": "application/json"})["rating"] in (3, 5)
    assert set(met.values()) == {CHAMPION, CHALLENGER}
    assert {user: api.caption(user)["variant"] for user in met} == met

    def told() -> Any:
        arms = api.ask("/v1/experiment")["analysis"]["arms"]
        return arms if sum(arm["ratings"] for arm in arms.values()) == 30 else None

    arms = until(told, "the experiment to show what was said")
    assert (arms[CHAMPION]["rating"], arms[CHALLENGER]["rating"]) == (3.0, 5.0)


def test_sigterm_under_load_loses_no_exposure(api: Api) -> None:
    api.experiments.start(ARMS, ExperimentParams(), 0.5)
    before = {line["inference_id"] for line in api.logged()}
    answered: list[str] = []
    enough = threading.Event()

    def client(number: int) -> None:
        while True:
            try:
                answered.append(api.caption(f"client-{number}")["inference_id"])
            except (OSError, urllib.error.URLError):
                return  # the API has gone
            if len(answered) >= 300:
                enough.set()

    with ThreadPoolExecutor(16) as pool:
        for number in range(16):
            pool.submit(client, number)
        assert enough.wait(60)
        api.process.send_signal(signal.SIGTERM)
        assert api.process.wait(60) == 0
    lines = [line["inference_id"] for line in api.logged() if line["inference_id"] not in before]
    assert len(lines) == len(set(lines))
    # An answer may be lost on its way when the API ends; an exposure of an answer that arrived is not.
    assert set(answered) <= set(lines)


def test_while_the_challenger_is_gone_the_champion_answers(api: Api, local_aws: LocalAws, endpoint: str) -> None:
    running = api.experiments.start(ARMS, ExperimentParams(), 0.5)
    until(lambda: api.caption("somebody")["experiment"] == running.id, "the router to see the experiment")
    users = (f"u{number}" for number in range(100))
    user = next(user for user in users if api.caption(user)["assigned"] == CHALLENGER)
    (instance,) = local_aws.instances(endpoint, CHALLENGER)
    os.kill(instance["pid"], signal.SIGKILL)
    found = api.caption(user)
    # Either the dead one was noticed and the champion answered in its place, or a new one was up already.
    assert found["variant"] in (CHAMPION, CHALLENGER)
    assert found["fallback"] == (found["variant"] == CHAMPION)
    until(lambda: api.caption(user)["variant"] == CHALLENGER, "the challenger to be back")
