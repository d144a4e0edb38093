"""A real `captioner api` for tests: uvicorn in a process of its own, before an endpoint of the local SageMaker."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from captioner.adapters.aws import LOCAL_BUCKET
from captioner.adapters.s3_documents import S3Documents
from captioner.emulator.children import free_port
from captioner.experiment.document import RUNNING, Experiment, as_document
from captioner.ledger import Model
from captioner.paths import Paths
from captioner.records import write_json
from captioner.release.names import experiment_key
from captioner.settings import Settings
from tests.local_aws import LocalAws, until

ARMS = {"champion": Model("1", "aa"), "challenger": Model("2", "bb")}


def picture(size: tuple[int, int] = (64, 48)) -> bytes:
    """A JPEG."""
    out = io.BytesIO()
    Image.new("RGB", size, (90, 140, 60)).save(out, "JPEG")
    return out.getvalue()


def two_variants(aws: LocalAws, name: str, **challenger: str) -> None:
    """The endpoint `name` with champion 1 and challenger 2, half and half; `challenger` is more of its environment."""
    aws.model(f"{name}-1", "1", CAPTION="as the champion says", CAPTIONER_MODEL_DIGEST="aa")
    aws.model(f"{name}-2", "2", CAPTION="as the challenger says", CAPTIONER_MODEL_DIGEST="bb", **challenger)
    aws.config(f"{name}-c", {"champion": (f"{name}-1", 1.0), "challenger": (f"{name}-2", 1.0)})
    assert aws.endpoint(name, f"{name}-c")["EndpointStatus"] == "InService"


class RunningApi:
    """One API process in `folder`, before the endpoint `name` of `aws`."""

    def __init__(self, aws: LocalAws, folder: Path, name: str, **environ: str) -> None:
        self.aws, self.folder, self.name = aws, folder, name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        home = folder / "home"
        write_json(home / "services.json", {"aws": {"url": aws.url}})
        self.environ = {"CAPTIONER_HOME": str(home), "CAPTIONER_ENDPOINT": name, **environ}
        settings = Settings.from_env(folder, self.environ)
        self.documents = S3Documents(settings, Paths.of(folder, settings), aws.account)
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / "api.log"

    def start(self) -> RunningApi:
        command = [sys.executable, "-m", "captioner", "api", "--port", str(self.port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env={**os.environ, **self.environ}, stdout=log, stderr=log
            )
        until(self._answers, "the API to answer")
        return self

    def _answers(self) -> bool:
        assert self.process
        assert self.process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.url}/v1/health/live", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> int:
        assert self.process
        self.process.terminate()
        return self.process.wait(60)

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, trust_env=False, timeout=60, **options)

    def run_experiment(self, share: float) -> Experiment:
        """The running experiment, or its new share: what `captioner experiment` and a ramp write."""
        shares = {"champion": 1 - share, "challenger": share}
        one = Experiment(f"{self.name}-e", self.name, "salt", RUNNING, shares, ARMS, "2026-11-26T00:00:00Z")
        key, found = experiment_key(self.name), self.documents.read(experiment_key(self.name))
        written = (
            self.documents.replace(key, as_document(one), found.tag)
            if found
            else self.documents.create(key, as_document(one))
        )
        assert written
        return one

    def logged(self, kind: str) -> list[dict[str, Any]]:
        """Every line of the log `kind` of this endpoint."""
        s3, found = self.aws.client("s3"), []
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=LOCAL_BUCKET, Prefix=f"{kind}/{self.name}/")
        for page in pages:
            for one in page.get("Contents") or []:
                body = s3.get_object(Bucket=LOCAL_BUCKET, Key=one["Key"])["Body"].read()
                found += [json.loads(line) for line in body.splitlines()]
        return found

    def said(self, event: str) -> list[dict[str, Any]]:
        """The lines of the process's own log of one kind."""
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [one for one in map(json.loads, lines) if one["event"] == event]


class Clients:
    """`count` clients, each with a user of its own, one request after the other until told to stop."""

    def __init__(self, api: RunningApi, count: int = 16) -> None:
        self.answers: list[dict[str, Any]] = []
        self.statuses: Counter[int] = Counter()
        self.broken: list[str] = []  # requests that had begun when the connection went
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(api, str(n))) for n in range(count)]

    def _ask(self, api: RunningApi, user: str) -> None:
        body, headers = picture(), {"x-user-id": user}
        with api.client(headers=headers) as client:
            while not self._stop.is_set():
                try:
                    answer = client.post("/v1/captions", content=body)
                except httpx.TransportError as error:
                    self.broken.append(repr(error))
                    return
                self.statuses[answer.status_code] += 1
                if answer.status_code == 200:
                    self.answers.append({**answer.json(), "user": user})

    def __enter__(self) -> Clients:
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for one in self._threads:
            one.join(60)


def by_user(answers: list[Mapping[str, Any]]) -> dict[str, list[str]]:
    """user → the variants that they met, in order."""
    found: dict[str, list[str]] = {}
    for one in answers:
        found.setdefault(one["user"], []).append(one["variant"])
    return found
