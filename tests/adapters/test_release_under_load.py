"""Releases under steady load: real boto3, the local SageMaker, a real registry; no request of the champion is lost."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

from captioner.adapters.mlflow_registry import MlflowRegistry
from captioner.adapters.mlflow_store import database_uri
from captioner.adapters.s3_documents import S3Documents
from captioner.adapters.sagemaker import SageMakerEndpoint
from captioner.book import Book
from captioner.errors import BadEnvironment, GateFailed
from captioner.ledger import Cause
from captioner.params import DeployParams
from captioner.paths import Paths
from captioner.settings import Settings
from captioner.stages import promote, ramp, reconcile, rollback
from captioner.stages.moving import Release
from captioner.stages.recorded import RecordedEndpoint
from tests.adapters.conftest import registered
from tests.local_aws import LocalAws, model_archive, until

CLIENTS = 16
STARTUP_S = 8
PACE_S = 0.05  # between two requests of a client: steady, and the machine has time for what is tested
CHALLENGERS_FAULT = "one of many"  # what a model says that fails now and then; the champion never does
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

    Every second one asks the champion by name, the others whoever the weights say. With `tolerant`, an error of the
    challenger's own model is no loss: the errors of the champion's model say who they are of.
    """

    def __init__(self, url: str, name: str, tolerant: bool = False) -> None:
        self.url, self.name, self.tolerant = url, name, tolerant
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
        while not self._stop.wait(PACE_S):
            began = time.monotonic()
            try:
                answer = client.invoke_endpoint(
                    EndpointName=self.name, Body=b"a picture", ContentType="image/png", **target
                )
                version = json.loads(answer["Body"].read())["model"]["version"]
                # Of the champion's traffic the version matters; the challenger is another one by design.
                seen = version if answer["InvokedProductionVariant"] == "champion" else None
                self.done.append(Request(began, seen))
            except client.exceptions.ModelError as error:
                fault = "" if self.tolerant and not by_name and CHALLENGERS_FAULT in str(error) else str(error)
                self.done.append(Request(began, None, fault))
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

    def answered(self, more: int) -> None:
        """Waits until as many `more` requests have their answers."""
        before = len(self.done)
        until(lambda: len(self.done) >= before + more, f"{more} requests", seconds=300)

    def champions_since(self, moment: float) -> set[str]:
        """The versions that answered as champion what was asked after `moment`; waits for 50 such requests."""
        until(lambda: len([one for one in self.done if one.began > moment]) >= 50, "50 requests")
        return {one.version for one in self.done if one.began > moment and one.version}


Ports = tuple[DeployParams, Paths, MlflowRegistry, SageMakerEndpoint, Book]


def register(registry: MlflowRegistry, name: str, folder: Path, behaviour: Mapping[str, str]) -> None:
    """A version whose container behaves as its archive says, and that the gate let through."""
    artifact = folder / "model.tar.gz"
    artifact.write_bytes(model_archive({"1/saved_model.pb": b"tiny", "behaviour.json": json.dumps(behaviour).encode()}))
    version = registered(registry, artifact, name)
    registry.tag(version, {"captioner.gate": "passed"})
    assert version.digest == hashlib.sha256(artifact.read_bytes()).hexdigest()


def world(
    aws: LocalAws, name: str, params: DeployParams, mlflow: Paths, folder: Path, *behaviours: Mapping[str, str]
) -> Ports:
    """A version for each of `behaviours`; champion 1 and challenger 2 serve."""
    settings = Settings.from_env(mlflow.root, {"CAPTIONER_PROGRESS": "none"})
    paths = Paths(folder, folder / "home")
    registry = MlflowRegistry(database_uri(mlflow), mlflow)
    where = dataclasses.replace(aws.account, image=aws.image())
    for behaviour in behaviours:
        register(registry, name, folder, behaviour)
    registry.set_alias(name, "champion", "1")
    registry.set_alias(name, "challenger", "2")
    book = Book(S3Documents(settings, paths, where), registry, paths, name)
    ports = (params, paths, registry, SageMakerEndpoint(settings, paths, where), book)
    reconcile.run(*ports, ADA)
    return ports


def test_no_request_is_lost_over_a_promotion_and_a_rollback(
    local_aws: LocalAws, mlflow_paths: Paths, tmp_path: Path
) -> None:
    ports = world(local_aws, NAME, PARAMS, mlflow_paths, tmp_path, {"CAPTION": "one"}, {"CAPTION": "two"})
    registry, book = ports[2], ports[-1]
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
    version = registry.by_version(NAME, "2")
    assert version is not None
    assert version.tags["captioner.ledger.00000003"].startswith("promote by ada@host")
    assert version.aliases == ("challenger",)
    local_aws.client("sagemaker").delete_endpoint(EndpointName=NAME)


@pytest.fixture
def hurried_aws(tmp_path: Path) -> Iterator[LocalAws]:
    """Its minutes are a second, so that a step of a ramp is measured while somebody waits."""
    aws = LocalAws(tmp_path / "aws", startup_s=STARTUP_S, options=("--time-scale", "0.02")).start()
    yield aws
    assert aws.stop() == 0


def test_whatever_happens_to_the_challenger_or_an_instance_the_champion_answers(
    hurried_aws: LocalAws, mlflow_paths: Paths, tmp_path: Path
) -> None:
    """A ramp, an instance killed, a challenger that is never healthy, one that fails a twentieth of its requests."""
    name, sound = "load-mishaps", {"CAPTION": "sound"}
    params = PARAMS.model_copy(update={"challenger_share": 0.1})
    never, failing = {"START_AFTER": str(2 * STARTUP_S)}, {"FAIL_EVERY": "20"}  # never: as far as SageMaker waits
    ports = world(hurried_aws, name, params, mlflow_paths, tmp_path, {"CAPTION": "one"}, sound, never, failing)
    _, paths, registry, endpoint, book = ports
    release = Release(*ports)
    documents = S3Documents(Settings.from_env(tmp_path, {}), paths, hurried_aws.account)

    def ramp_up(*percents: float, requests: int = 0) -> ramp.RampReport:
        """Each step three seconds long, and at least `requests`: a busy machine answers few in three seconds."""
        recorded = RecordedEndpoint(release, "ramp", ADA)

        def pause(seconds: float) -> None:
            load.answered(requests)
            time.sleep(seconds)

        return ramp.run(params, paths, recorded, documents, name, percents, wait_s=3, pause=pause)

    def shares() -> list[float]:
        return [round(one.weight, 3) for one in endpoint.live(name).variants]

    with Load(hurried_aws.url, name, tolerant=True) as load:
        assert ramp_up(25, 50).share == 0.5
        assert shares() == [0.5, 0.5]

        killed = hurried_aws.instances(name, "champion")[0]
        os.kill(killed["pid"], signal.SIGKILL)
        until(lambda: hurried_aws.instances(name, "champion")[0]["restarts"] > killed["restarts"], "a restart")
        until(lambda: all(one["healthy"] for one in hurried_aws.instances(name, "champion")), "both to be healthy")

        registry.set_alias(name, "challenger", "3")
        with pytest.raises(BadEnvironment, match="old variants still answer"):
            reconcile.run(*ports, ADA)
        assert {one.name: one.version for one in endpoint.live(name).production} == {
            "champion": "1",
            "challenger": "2",
        }

        registry.set_alias(name, "challenger", "4")
        reconcile.run(*ports, ADA)
        before = shares()
        with pytest.raises(GateFailed, match=r"challenger answered .* with 5xx"):
            # A quarter of the requests are the challenger's, a twentieth of those fails; metrics come by the second.
            ramp_up(50, requests=800)
        assert shares() == before
        assert load.champions_since(time.monotonic()) == {"1"}
    assert load.lost == []
    assert len(load.done) > 200
    told = [(one.action, bool(one.failed)) for one in book.entries()]
    assert told[-2:] == [("ramp", False), ("ramp", False)]  # to a half, and back
    hurried_aws.client("sagemaker").delete_endpoint(EndpointName=name)
