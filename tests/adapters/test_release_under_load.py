"""A promotion and a rollback under steady load: real boto3, the local SageMaker, a real registry, no request lost."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from captioner.adapters.mlflow_registry import MlflowRegistry
from captioner.adapters.mlflow_store import database_uri
from captioner.adapters.s3_documents import S3Documents
from captioner.adapters.sagemaker import SageMakerEndpoint
from captioner.book import Book
from captioner.ledger import Cause
from captioner.params import DeployParams
from captioner.paths import Paths
from captioner.settings import Settings
from captioner.stages import promote, reconcile, rollback
from tests.adapters.conftest import registered
from tests.local_aws import LocalAws, model_archive, until

CLIENTS = 16
NAME = "load-release"
PARAMS = DeployParams(instance_type="ml.m5.large", instances=2, challenger_share=0.25, max_wait_s=120)
ADA = Cause("ada@host", "a test of patience")


@dataclasses.dataclass(frozen=True)
class Request:
    """One request: when it began, and the version that answered, or what went wrong."""

    began: float
    version: str | None
    fault: str = ""


class Load:
    """16 clients with botocore's standard retries, one request after the other until told to stop.

    Every second one asks the champion by name, the others whoever the weights say.
    """

    def __init__(self, url: str, name: str) -> None:
        self.url, self.name = url, name
        self.done: list[Request] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n % 2 == 0,)) for n in range(CLIENTS)]

    def _ask(self, by_name: bool) -> None:
        client = boto3.session.Session().client(
            "sagemaker-runtime",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=Config(retries={"mode": "standard"}, proxies={}),
        )
        target = {"TargetVariant": "champion"} if by_name else {}
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                answer = client.invoke_endpoint(
                    EndpointName=self.name, Body=b"a picture", ContentType="image/png", **target
                )
                version = json.loads(answer["Body"].read())["model"]["version"]
                # Of the champion's traffic the version matters; the challenger is another one by design.
                seen = version if answer["InvokedProductionVariant"] == "champion" else None
                self.done.append(Request(began, seen))
            except Exception as error:  # whatever it is, it is a lost request
                self.done.append(Request(began, None, f"{type(error).__name__}: {error}"))

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    @property
    def lost(self) -> list[str]:
        return [one.fault for one in self.done if one.fault]

    def champions_since(self, moment: float) -> set[str]:
        """The versions that answered as champion what was asked after `moment`; waits for 50 such requests."""
        until(lambda: len([one for one in self.done if one.began > moment]) >= 50, "50 requests")
        return {one.version for one in self.done if one.began > moment and one.version}


@pytest.fixture
def ports(local_aws: LocalAws, mlflow_paths: Paths, tmp_path: Path) -> Iterator[tuple[Any, ...]]:
    """Registry, endpoint and ledger: champion 1 and challenger 2 serve."""
    settings = Settings.from_env(mlflow_paths.root, {"CAPTIONER_PROGRESS": "none"})
    paths = Paths(tmp_path, tmp_path / "home")
    registry = MlflowRegistry(database_uri(mlflow_paths), mlflow_paths)
    where = dataclasses.replace(local_aws.account, image=local_aws.image())
    endpoint = SageMakerEndpoint(settings, paths, where)
    for content in (b"one", b"two"):
        artifact = tmp_path / "model.tar.gz"
        artifact.write_bytes(model_archive({"1/saved_model.pb": content}))
        version = registered(registry, artifact, NAME)
        registry.tag(version, {"captioner.gate": "passed"})
        assert version.digest == hashlib.sha256(artifact.read_bytes()).hexdigest()
    registry.set_alias(NAME, "champion", "1")
    registry.set_alias(NAME, "challenger", "2")
    found = (PARAMS, paths, registry, endpoint, Book(S3Documents(settings, paths, where), registry, paths, NAME))
    reconcile.run(*found, ADA)
    yield found
    local_aws.client("sagemaker").delete_endpoint(EndpointName=NAME)


def test_no_request_is_lost_over_a_promotion_and_a_rollback(ports: tuple[Any, ...], local_aws: LocalAws) -> None:
    book: Book = ports[-1]
    with Load(local_aws.url, NAME) as load:
        assert load.champions_since(0) == {"1"}
        promoted = promote.run(*ports, ADA)
        assert load.champions_since(time.monotonic()) == {"2"}
        restored = rollback.run(*ports, Cause("bob@host"))
        assert load.champions_since(time.monotonic()) == {"1"}
    assert load.lost == []
    assert promoted.entry.verified["champion"].version == "2"
    assert {name: one.version for name, one in restored.entry.verified.items()} == {"champion": "1", "challenger": "2"}
    assert [one.action for one in book.entries()] == ["alias", "reconcile", "promote", "rollback"]
    # In the registry, too, for whoever looks at a version there.
    version = ports[2].by_version(NAME, "2")
    assert version.tags["captioner.ledger.00000003"].startswith("promote by ada@host")
    assert version.aliases == ("challenger",)
