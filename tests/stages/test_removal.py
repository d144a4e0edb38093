"""Taking an endpoint down: all that has its name, nothing else, and what is left is shown."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from captioner.adapters.sagemaker import SageMakerEndpoint
from captioner.params import DeployParams
from captioner.paths import Paths
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


def test_nothing_is_left_but_what_was_captured_and_that_goes_when_it_is_asked(
    endpoint: SageMakerEndpoint, local_aws: LocalAws, paths: Paths, tmp_path: Path
) -> None:
    deployed(endpoint, paths, tmp_path, "down-one")
    deployed(endpoint, paths, tmp_path, "down-one-b")
    # What SageMaker writes late, and in its own time: here one object of it is enough.
    key = "capture/down-one/champion/2030/01/01/00/x.jsonl"
    local_aws.client("s3").put_object(Bucket=local_aws.account.bucket, Key=key, Body=b"{}\n")
    report = removal.run(PARAMS, paths, endpoint, "down-one", captured=False)
    assert report.deleted.endpoint == "down-one"
    assert [len(one) for one in (report.deleted.configs, report.deleted.models, report.deleted.alarms)] == [1, 2, 6]
    assert (report.left.endpoint, report.left.models, report.left.alarms) == (None, (), ())
    assert report.left.captured >= 1
    assert "objects of captured data" in report.render()
    assert "goes with --with-captured-data" in report.render()

    def emptied() -> bool:
        # Captured data is written late, also of an endpoint that is gone: the command says so, and is given again.
        report = removal.run(PARAMS, paths, endpoint, "down-one", captured=True)
        assert report.left.captured == 0 or "written late" in report.render()
        return report.left.captured == 0

    until(emptied, "the captured data to be gone")
    assert captured(local_aws, "down-one") == []
    again = removal.run(PARAMS, paths, endpoint, "down-one", captured=True)
    assert again.render() == "down-one: there was nothing to delete\nleft: nothing"
    # The other one, whose name begins the same, has kept everything.
    other = endpoint.live("down-one-b")
    assert (other.status, len(other.models), len(other.alarms)) == ("InService", 2, 6)
    removal.run(PARAMS, paths, endpoint, "down-one-b", captured=False)
