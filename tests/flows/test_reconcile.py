"""Flows that move an endpoint, on a whole stack: after an alias that moved in MLflow, after a verdict."""

from __future__ import annotations

import json
import shutil
import tarfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from captioner import experimenting
from captioner.adapters.mlflow_registry import MlflowRegistry
from captioner.adapters.s3_documents import S3Documents
from captioner.adapters.s3_events import S3Events
from captioner.adapters.sagemaker import SageMakerEndpoint
from captioner.book import Book
from captioner.clock import stamp
from captioner.digests import pack_folder
from captioner.experiment.document import Experiment
from captioner.experiment.events import EXPOSURES, FEEDBACK, as_line
from captioner.ledger import CHALLENGER, CHAMPION, Cause
from captioner.params import load_params
from captioner.ports import EndpointState, ModelVersion
from captioner.stages import removal
from tests.adapters.conftest import registered
from tests.experiment.worlds import logs
from tests.flows.conftest import Standing
from tests.flows.projects import Api
from tests.flows.test_serve_deployments import deployment, finished, reconciled, wait_for

NAME = "captioner-sample"


def another(artifact: Path, folder: Path) -> Path:
    """The same model under another digest: one more file that TensorFlow does not read."""
    with tarfile.open(artifact) as archive:
        archive.extractall(folder, filter="data")
    extra = folder / "1" / "assets.extra" / "note.txt"
    extra.parent.mkdir(exist_ok=True)
    extra.write_text("another version", encoding="utf-8")
    packed = folder.with_name("model.tar.gz")
    packed.write_bytes(pack_folder(folder))
    shutil.rmtree(folder)
    return packed


def move_alias(mlflow: str, alias: str, version: str) -> None:
    """As MLflow's own UI does it: one call of its REST API."""
    body = json.dumps({"name": NAME, "alias": alias, "version": version}).encode()
    request = urllib.request.Request(
        f"{mlflow}/api/2.0/mlflow/registered-models/alias", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


@dataclass(frozen=True)
class Released:
    """Two versions of one model in the stack's registry, and what its flows move."""

    mlflow: str
    registry: MlflowRegistry
    endpoint: SageMakerEndpoint
    book: Book
    one: ModelVersion
    two: ModelVersion

    def serves(self) -> list[tuple[str, str, str]]:
        state = self.endpoint.state(NAME)
        assert isinstance(state, EndpointState)
        return [(state.status, one.name, one.digest) for one in state.variants]


@pytest.fixture(scope="module")
def unscheduled(standing: Standing) -> Iterator[None]:
    """What these tests move is moved and looked at by their own runs alone, not by one of the schedule's in between."""
    moving = [deployment(standing.api, name)["id"] for name in ("reconcile", "experiment")]
    for one in moving:
        standing.api.ask(f"/deployments/{one}/pause_deployment", {})
    yield
    for one in moving:
        standing.api.ask(f"/deployments/{one}/resume_deployment", {})


@pytest.fixture(scope="module")
def released(
    standing: Standing, unscheduled: None, tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Released]:
    services = json.loads(standing.paths.services.read_text(encoding="utf-8"))
    mlflow = services["mlflow"]["url"]
    registry = MlflowRegistry(mlflow, standing.paths)
    one = registered(registry, tiny_artifact, NAME)
    two = registered(registry, another(tiny_artifact, tmp_path_factory.mktemp("two") / "unpacked"), NAME)
    endpoint = SageMakerEndpoint(standing.settings, standing.paths)
    book = Book(S3Documents(standing.settings, standing.paths), registry, standing.paths, NAME)
    try:
        yield Released(mlflow, registry, endpoint, book, one, two)
    finally:
        # The other tests of this stack are about one that has released nothing.
        for alias in (CHAMPION, CHALLENGER):
            registry.drop_alias(NAME, alias)
        params = load_params(standing.paths.params).deploy
        removal.run(params, standing.paths, endpoint, NAME, captured=True)


@pytest.mark.timeout(900)
def test_an_alias_that_moves_in_mlflow_is_a_promotion(api: Api, released: Released) -> None:
    one, two = released.one, released.two
    move_alias(released.mlflow, "champion", one.version)
    assert reconciled(api)["state_name"] == "Completed"
    assert released.serves() == [("InService", "champion", one.digest)]

    move_alias(released.mlflow, "champion", two.version)
    ended = reconciled(api)
    assert ended["state_name"] == "Completed", ended["state"]
    assert released.serves() == [("InService", "champion", two.digest)]
    noticed, made = released.book.entries()[-2:]
    assert (noticed.action, noticed.before.version("champion"), noticed.after.version("champion")) == (
        "alias",
        one.version,
        two.version,
    )
    assert noticed.who.startswith("unknown, noticed by Prefect, reconcile ")
    assert (made.action, made.verified["champion"].digest) == ("reconcile", two.digest)
    assert made.who.startswith("Prefect, reconcile '")
    (artifact, *_) = api.artifacts("reconcile")
    assert "brought in line with the registry" in artifact["data"]

    # Nothing moved: nothing is written.
    assert reconciled(api)["state_name"] == "Completed"
    assert released.book.entries()[-1] == made


@pytest.mark.timeout(900)
def test_a_person_is_asked_once_a_day_and_the_looks_go_on(
    standing: Standing, api: Api, released: Released, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verdict waits for the answer that is given on the flow run's page, and for no hourly look."""
    root = standing.tiny.root
    params = (root / "params.yaml").read_text(encoding="utf-8")
    standing.tiny.write(
        params_yaml=params + "experiment: {human: true, min_hours: 0, step_hours: 0, min_users: 50, ramp: [50]}\n"
    )
    try:
        move_alias(released.mlflow, "champion", released.two.version)
        move_alias(released.mlflow, "challenger", released.one.version)
        assert reconciled(api)["state_name"] == "Completed"
        running = experimenting.start(Cause("the tests"), root).experiment
        rate(running, S3Events(standing.settings, standing.paths), better=-2.0)

        first, again = looked(api), looked(api)
        assert first["state_name"] == again["state_name"] == "A person is asked"
        (asked,) = [run for run in runs(api, "confirm") if running.id in run["name"]]
        assert asked["name"] == f"reject {running.id}"
        suspended = wait_for(
            api,
            lambda found: next(
                (one for one in found if one["id"] == asked["id"] and one["state_type"] == "PAUSED"), None
            ),
        )
        keys = suspended["state"]["state_details"]["run_input_keyset"]
        question = api.ask(f"/flow_runs/{asked['id']}/input/{keys['description']}")
        assert "The verdict is **reject**" in question
        assert experimenting.status(root).experiment.running

        answer = {"run_input": {"go_on": True, "reason": "the captions are worse"}}
        assert api.ask(f"/flow_runs/{asked['id']}/resume", answer)["status"] == "ACCEPT"
        ended = wait_for(api, finished(asked["id"]))
        assert ended["state_name"] == "Completed", ended["state"]
        over = experimenting.status(root).experiment
        assert (over.running, over.outcome) == (False, "reject")
        last = released.book.entries()[-1]
        assert last.who.startswith(f"Prefect, confirm 'reject {running.id}'")
        assert last.why.endswith("Confirmed by a person: the captions are worse.")
        assert looked(api)["state_name"] == "Nothing running"
    finally:
        standing.tiny.write(params_yaml=params)


def looked(api: Api) -> dict[str, Any]:
    """An hourly look that is made now, once it has ended."""
    run = api.ask(f"/deployments/{deployment(api, 'experiment')['id']}/create_flow_run", {})
    return wait_for(api, finished(run["id"]))


def runs(api: Api, flow: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.ask("/flow_runs/filter", {"flows": {"name": {"any_": [flow]}}})
    return found


def rate(running: Experiment, events: S3Events, better: float) -> None:
    """Three hundred users, all since the experiment began, rate the challenger's caption `better` points higher."""
    shown, said = logs(300, better)
    now = stamp(datetime.now(UTC))
    events.write(EXPOSURES, NAME, [as_line(replace(one, at=now, experiment=running.id)) for one in shown])
    events.write(FEEDBACK, NAME, [as_line(replace(one, at=now)) for one in said])
