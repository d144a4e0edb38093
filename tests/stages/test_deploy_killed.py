"""`deploy apply`, killed with SIGKILL before each API call that finds another state, then run again; on the local AWS.

The end state must be that of a deployment that nobody interrupted: models, configs, endpoint, alarms, tags, objects.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from captioner.adapters.sagemaker import SageMakerEndpoint
from captioner.params import DeployParams
from captioner.paths import Paths
from captioner.settings import Settings
from captioner.stages import removal
from tests.local_aws import LocalAws, model_archive

PARAMS: dict[str, Any] = {
    "instance_type": "ml.m5.large",
    "instances": 1,
    "challenger_share": 0.25,
    "tags": {"team": "x"},
    "alarms": {},
    "bake_s": 0,
}
NAME = "killed"
TIMES = ("CreationTime", "LastModifiedTime", "ResolutionTime", "StartTime", "ResponseMetadata")  # new each time


class Driver:
    """Runs deployments of one project in processes that can be told when to die."""

    def __init__(self, aws: LocalAws, project: Path, artifacts: Sequence[Path]) -> None:
        self._aws, self._project, self._artifacts = aws, project, artifacts
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", "tests.dying"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def deploy(self, aliases: Mapping[str, str], die: int | None = None) -> tuple[int, list[str]]:
        """Exit code (-9: killed) and the calls that were sent."""
        account = dataclasses.asdict(dataclasses.replace(self._aws.account, image=self._aws.image()))
        order = {
            "root": str(self._project),
            "log": str(self._project / "calls.log"),
            "name": NAME,
            "artifacts": [str(one) for one in self._artifacts],
            "aliases": aliases,
            "params": PARAMS,
            "account": account,
            "die": die,
        }
        assert self._zygote.stdin
        assert self._zygote.stdout
        self._zygote.stdin.write(json.dumps(order) + "\n")
        self._zygote.stdin.flush()
        answer = json.loads(self._zygote.stdout.readline())
        return answer["rc"], answer["calls"]

    def close(self) -> None:
        self._zygote.communicate()
        assert self._zygote.returncode == 0


@pytest.fixture
def driver(local_aws: LocalAws, project: Path, tmp_path: Path) -> Iterator[Driver]:
    artifacts = []
    for content in (b"one", b"two", b"three"):
        artifacts.append(tmp_path / f"{content.decode()}.tar.gz")
        artifacts[-1].write_bytes(model_archive({"1/saved_model.pb": content}))
    driver = Driver(local_aws, project, artifacts)
    yield driver
    driver.close()


def everything(aws: LocalAws) -> dict[str, Any]:
    """All that there is of the endpoint, without times."""
    sagemaker = aws.client("sagemaker")
    configs = sagemaker.list_endpoint_configs(NameContains=NAME, MaxResults=100)["EndpointConfigs"]
    models = sagemaker.list_models(NameContains=NAME, MaxResults=100)["Models"]
    endpoint = aws.describe(NAME)
    return without_times(
        {
            "endpoint": endpoint,
            "tags": sorted(sagemaker.list_tags(ResourceArn=endpoint["EndpointArn"])["Tags"], key=str),
            "configs": [
                sagemaker.describe_endpoint_config(EndpointConfigName=one["EndpointConfigName"]) for one in configs
            ],
            "models": sorted((sagemaker.describe_model(ModelName=one["ModelName"]) for one in models), key=str),
            "alarms": [
                {key: value for key, value in one.items() if not key.startswith("State") and "Timestamp" not in key}
                for one in aws.client("cloudwatch").describe_alarms(AlarmNamePrefix=NAME)["MetricAlarms"]
            ],
            "objects": objects(aws),
        }
    )


def objects(aws: LocalAws) -> list[tuple[str, str]]:
    found = aws.client("s3").list_objects_v2(Bucket=aws.account.bucket, Prefix="models/").get("Contents", [])
    return sorted((one["Key"], one["ETag"]) for one in found)


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(one) for key, one in value.items() if key not in TIMES}
    return [without_times(one) for one in value] if isinstance(value, list) else value


def forget(aws: LocalAws, endpoint: SageMakerEndpoint, paths: Paths, keep: Sequence[tuple[str, str]]) -> None:
    """As if nothing had ever been deployed; objects that are not ours stay."""
    removal.run(DeployParams(**PARAMS), paths, endpoint, NAME, captured=True)
    for key, tag in objects(aws):
        if (key, tag) not in keep:
            aws.client("s3").delete_object(Bucket=aws.account.bucket, Key=key)


def reads(call: str) -> bool:
    return call.startswith(("Describe", "Head", "List", "Invoke"))


def deaths(calls: Sequence[str]) -> list[int]:
    """The calls to die before: each that finds something else than the one before it did.

    Reading changes nothing: two deaths with only that between them leave the same. The first call, and the first
    question to a model, are tried all the same.
    """
    first = {0, calls.index("InvokeEndpoint")}
    return [n for n, call in enumerate(calls) if n in first or not (reads(call) and reads(calls[n - 1]))]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("updates", [False, True], ids=["the first deployment", "an update"])
def test_killed_before_any_call_it_goes_on(
    updates: bool, driver: Driver, local_aws: LocalAws, settings: Settings, paths: Paths
) -> None:
    local_aws.put_model()  # the bucket is there: its making is tried elsewhere
    others = objects(local_aws)
    endpoint = SageMakerEndpoint(settings, paths, local_aws.account)
    before = {"champion": "1", "challenger": "3"}
    wish = {"champion": "2", "challenger": "1"} if updates else {"champion": "1", "challenger": "2"}

    def prepare() -> None:
        forget(local_aws, endpoint, paths, others)
        if updates:
            assert driver.deploy(before)[0] == 0

    prepare()
    code, calls = driver.deploy(wish)
    assert code == 0
    whole = everything(local_aws)
    assert len(calls) > 40
    assert len(whole["alarms"]) == 6
    for death in deaths(calls):
        prepare()
        code, sent = driver.deploy(wish, death)
        # Waiting may have taken fewer looks this time: then it was done before it could die.
        assert code == -9 or len(sent) <= death, f"{code} before call {death} of {calls}"
        assert driver.deploy(wish)[0] == 0, f"not taken up again after a death before call {death}, {sent[-3:]}"
        assert everything(local_aws) == whole, f"another end after a death before call {death}, {sent[-3:]}"
    forget(local_aws, endpoint, paths, others)
