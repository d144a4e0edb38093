"""Taking an endpoint down: all that has its name, nothing else, and what is left is shown."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from captioner.adapters.sagemaker import SageMakerEndpoint
from captioner.params import DeployParams
from captioner.paths import Paths
from captioner.release.removal import Remains
from captioner.settings import Settings
from captioner.stages import deploy, removal
from tests.fakes import FakeRegistry
from tests.local_aws import LocalAws, model_archive, until

PARAMS = DeployParams(
    instance_type="ml.m5.large", instances=1, challenger_share=0.5, max_wait_s=60, alarms={}, capture={}
)


@pytest.fixture
def endpoint(local_aws: LocalAws, settings: Settings, paths: Paths) -> SageMakerEndpoint:
    return SageMakerEndpoint(settings, paths, dataclasses.replace(local_aws.account, image=local_aws.image()))


def deployed(endpoint: SageMakerEndpoint, paths: Paths, folder: Path, name: str) -> None:
    registry = FakeRegistry()
    for number, alias in enumerate(("champion", "challenger"), start=1):
        artifact = folder / f"{name}-{alias}.tar.gz"
        artifact.write_bytes(model_archive({"1/saved_model.pb": alias.encode()}))
        registry.create(name, artifact, "run", {"captioner.gate": "passed"})
        registry.set_alias(name, alias, str(number))
    deploy.run(PARAMS, paths, registry, endpoint, name)


def captured(local_aws: LocalAws, name: str) -> list[str]:
    found = local_aws.client("s3").list_objects_v2(Bucket=local_aws.account.bucket, Prefix=f"capture/{name}/")
    return [one["Key"] for one in found.get("Contents", [])]


def written(local_aws: LocalAws, name: str) -> int:
    """Requests that are captured so far, a line each."""
    s3, bucket = local_aws.client("s3"), local_aws.account.bucket
    return sum(s3.get_object(Bucket=bucket, Key=key)["Body"].read().count(b"\n") for key in captured(local_aws, name))


def answered(local_aws: LocalAws, name: str) -> int:
    variants = local_aws.health()["endpoints"][name]["variants"]
    return sum(one["invocations"] for one in variants.values())


def test_nothing_is_left_but_what_was_captured_and_that_goes_when_it_is_asked(
    endpoint: SageMakerEndpoint, local_aws: LocalAws, paths: Paths, tmp_path: Path
) -> None:
    deployed(endpoint, paths, tmp_path, "down-one")
    deployed(endpoint, paths, tmp_path, "down-one-b")
    # Captured data is written late: all of it, so that none comes after what is looked at here.
    until(lambda: written(local_aws, "down-one") == answered(local_aws, "down-one") > 0, "what the smoke test asked")
    key = "capture/down-one/champion/2030/01/01/00/x.jsonl"
    local_aws.client("s3").put_object(Bucket=local_aws.account.bucket, Key=key, Body=b"{}\n")
    report = removal.run(PARAMS, paths, endpoint, "down-one", captured=False)
    assert report.deleted.endpoint == "down-one"
    assert [len(one) for one in (report.deleted.configs, report.deleted.models, report.deleted.alarms)] == [1, 2, 6]
    assert (report.left.endpoint, report.left.models, report.left.alarms) == (None, (), ())
    assert report.left.captured >= 1
    assert "objects of captured data" in report.render()
    assert "goes with --with-captured-data" in report.render()
    emptied = removal.run(PARAMS, paths, endpoint, "down-one", captured=True)
    assert emptied.left.captured == 0
    assert captured(local_aws, "down-one") == []
    again = removal.run(PARAMS, paths, endpoint, "down-one", captured=True)
    assert again.render() == "down-one: there was nothing to delete\nleft: nothing"
    # The other one, whose name begins the same, has kept everything.
    other = endpoint.live("down-one-b")
    assert (other.status, len(other.models), len(other.alarms)) == ("InService", 2, 6)
    removal.run(PARAMS, paths, endpoint, "down-one-b", captured=False)


def test_captured_data_that_came_meanwhile_goes_with_the_same_command() -> None:
    report = removal.RemovalReport("one", Remains("one", captured=5), Remains(captured=2))
    assert report.render().splitlines()[-1] == f"({report.note})"
    assert "written late: the same command again" in report.note
