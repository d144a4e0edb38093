"""A local AWS for tests: a real `python -m captioner.emulator`, real boto3 clients, and short cuts."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from captioner.adapters.aws import LOCAL_BUCKET, LOCAL_REGION, LOCAL_ROLE, Account
from captioner.emulator.children import free_port

TINY = Path(__file__).with_name("tiny_container.py")
DEADLINE_S = 60.0


def until(what: Callable[[], Any], said: str, seconds: float = DEADLINE_S) -> Any:
    """Wait for a true value of `what`: the API has states, and no events."""
    deadline = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {said}"
        time.sleep(0.05)
    return value


def model_archive(files: Mapping[str, bytes]) -> bytes:
    """A model.tar.gz with these files."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


class LocalAws:
    """One emulator process on `home`."""

    def __init__(self, home: Path, startup_s: float = 30, options: Sequence[str] = ()) -> None:
        self.home, self.startup_s, self.options = home, startup_s, options
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.account = Account(self.url, LOCAL_REGION, LOCAL_ROLE, "local/captioner:latest", LOCAL_BUCKET)
        self.process: subprocess.Popen[bytes] | None = None
        self._clients: dict[str, Any] = {}

    def start(self) -> LocalAws:
        home = self.home
        home.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "captioner.emulator", "--port", str(self.port), "--home", str(home)]
        with (home / "emulator.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--startup-timeout", str(self.startup_s), "--allow-local-exec", *self.options],
                stdout=log,
                stderr=log,
                env=dict(os.environ),
            )
        until(self._answers, "the emulator to answer")
        return self

    def stop(self, kill: bool = False) -> int:
        assert self.process
        self.process.kill() if kill else self.process.terminate()
        return self.process.wait(60)

    def _answers(self) -> bool:
        assert self.process
        assert self.process.poll() is None, (self.home / "emulator.log").read_text()
        try:
            self.health()
        except OSError:
            return False
        return True

    def health(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/_captioner/health", timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def client(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = self.account.client(service)
        return self._clients[service]

    # Short cuts
    def image(self) -> str:
        """The name of an image that runs the tiny container."""
        program = self.home / "tiny"
        if not program.exists():
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{TINY}" "$@"\n')
            program.chmod(0o755)
        return f"local-exec:{program}"

    def put_model(self, key: str = "tiny/model.tar.gz", files: Mapping[str, bytes] | None = None) -> str:
        s3 = self.client("s3")
        if LOCAL_BUCKET not in [one["Name"] for one in s3.list_buckets()["Buckets"]]:
            s3.create_bucket(Bucket=LOCAL_BUCKET)
        s3.put_object(Bucket=LOCAL_BUCKET, Key=key, Body=model_archive(files or {"1/saved_model.pb": b"tiny"}))
        return f"s3://{LOCAL_BUCKET}/{key}"

    def model(self, name: str, version: str = "1", **environment: str) -> str:
        container = {
            "Image": self.image(),
            "ModelDataUrl": self.put_model(),
            "Environment": {"CAPTIONER_MODEL_VERSION": version, **environment},
        }
        self.client("sagemaker").create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=LOCAL_ROLE)
        return name

    def config(self, name: str, variants: Mapping[str, tuple[str, float]], instances: int = 1, **more: Any) -> str:
        """An endpoint config; `variants` maps a name to (model, weight), `more` is passed on."""
        production = [
            {
                "VariantName": variant,
                "ModelName": model,
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": instances,
                "InitialVariantWeight": weight,
            }
            for variant, (model, weight) in variants.items()
        ]
        self.client("sagemaker").create_endpoint_config(EndpointConfigName=name, ProductionVariants=production, **more)
        return name

    def endpoint(self, name: str, config: str) -> dict[str, Any]:
        self.client("sagemaker").create_endpoint(EndpointName=name, EndpointConfigName=config)
        return self.steady(name)

    def describe(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client("sagemaker").describe_endpoint(EndpointName=name)
        return found

    def steady(self, name: str) -> dict[str, Any]:
        """The endpoint's description once it is InService or Failed."""
        client = self.client("sagemaker")

        def look() -> dict[str, Any] | None:
            found: dict[str, Any] = client.describe_endpoint(EndpointName=name)
            return found if found["EndpointStatus"] in ("InService", "Failed") else None

        steady: dict[str, Any] = until(look, f"{name} to be steady")
        return steady

    def instances(self, endpoint: str, variant: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.health()["endpoints"][endpoint]["variants"][variant]["instances"]
        return found


@pytest.fixture(scope="session")
def local_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    """One emulator for the session; tests use names of their own."""
    aws = LocalAws(tmp_path_factory.mktemp("aws"), startup_s=60).start()
    yield aws
    assert aws.stop() == 0


def processes_of(home: Path) -> list[int]:
    """Processes whose command line names `home`: what an emulator left behind."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(home).encode() in entry.read_bytes():
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]
