"""Each strategy of a deployment against a local SageMaker whose minutes are a second: guardrails that really act."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest

from captioner.adapters.sagemaker import SageMakerEndpoint
from captioner.errors import BadEnvironment, GateFailed
from captioner.params import DeployParams
from captioner.paths import Paths
from captioner.settings import Settings
from captioner.stages import deploy, ramp
from tests.fakes import FakeDocuments, FakeRegistry
from tests.local_aws import LocalAws, model_archive, until

FAST = ("--time-scale", "0.02")  # a minute is 1.2 s


@pytest.fixture(scope="module")
def fast_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    aws = LocalAws(tmp_path_factory.mktemp("fast"), startup_s=60, options=FAST).start()
    yield aws
    assert aws.stop() == 0


class World:
    """Versions 1 to 3 in a registry, and one endpoint of the fast local SageMaker."""

    def __init__(self, aws: LocalAws, settings: Settings, paths: Paths, folder: Path, name: str) -> None:
        self.aws, self.paths, self.name = aws, paths, name
        self.registry = FakeRegistry()
        for content in (b"one", b"two", b"three"):
            artifact = folder / f"{content.decode()}.tar.gz"
            artifact.write_bytes(model_archive({"1/saved_model.pb": content}))
            self.registry.create(name, artifact, "run", {"captioner.gate": "passed"})
        self.endpoint = SageMakerEndpoint(settings, paths, dataclasses.replace(aws.account, image=aws.image()))

    def deploy(self, champion: str, challenger: str | None = None, **params: Any) -> deploy.DeployReport:
        self.registry.set_alias(self.name, "champion", champion)
        if challenger:
            self.registry.set_alias(self.name, "challenger", challenger)
        else:
            self.registry.drop_alias(self.name, "challenger")
        return deploy.run(self.params(**params), self.paths, self.registry, self.endpoint, self.name)

    def params(self, **values: Any) -> DeployParams:
        return DeployParams(
            **{"instance_type": "ml.m5.large", "instances": 1, "challenger_share": 0.5, "max_wait_s": 120, **values}
        )

    def versions(self) -> dict[str, str]:
        """Who answers under each variant's name."""
        state = self.endpoint.state(self.name)
        assert state
        return {
            one.name: self.endpoint.invoke(self.name, b"x", "image/png", one.name).body["model"]["version"]
            for one in state.variants
        }

    @contextmanager
    def traffic(self, body: bytes, variant: str | None = None) -> Iterator[None]:
        """Requests, one after the other, for as long as the block runs."""
        over = threading.Event()
        client = self.aws.account.client("sagemaker-runtime")
        target = {"TargetVariant": variant} if variant else {}

        def send() -> None:
            while not over.wait(0.02):
                with suppress(botocore.exceptions.ClientError):
                    client.invoke_endpoint(EndpointName=self.name, Body=body, ContentType="image/png", **target)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            yield
        finally:
            over.set()
            sender.join()


@pytest.fixture
def world(
    fast_aws: LocalAws, settings: Settings, paths: Paths, tmp_path: Path, request: pytest.FixtureRequest
) -> World:
    words = re.findall("[a-z0-9]+", request.node.name.removeprefix("test_"))
    name = "-".join(words)[-40:].strip("-")
    return World(fast_aws, settings, paths, tmp_path, name)


GUARDED = {"instances": 2, "alarms": {}, "bake_s": 60, "canary": {"size_percent": 50, "wait_s": 120}}


@pytest.mark.parametrize("strategy", ["canary", "linear", "all-at-once"])
def test_new_instances_take_over(world: World, strategy: str) -> None:
    shape = {**GUARDED, "strategy": strategy, "linear": {"step_percent": 50, "wait_s": 60}}
    world.deploy("1", **shape)
    with world.traffic(b"a picture"):
        assert world.deploy("2", **shape).changed
    assert world.versions() == {"champion": "2"}
    used = world.aws.describe(world.name)
    assert used["EndpointStatus"] == "InService"


def test_a_canary_that_alarms_is_rolled_back_and_said_to_be(world: World) -> None:
    world.deploy("1", strategy="canary", **GUARDED)
    with (
        world.traffic(b"status 500 out of luck"),
        pytest.raises(BadEnvironment, match=r"was not changed, its old variants still answer: .*[Aa]larm"),
    ):
        world.deploy("2", strategy="canary", **GUARDED)
    assert world.versions() == {"champion": "1"}
    until(lambda: not world.endpoint.live(world.name).alarming, "the alarm to clear")
    # The next one goes through, and the refused one's model and config are collected.
    world.deploy("3", strategy="canary", **GUARDED)
    assert world.versions() == {"champion": "3"}
    live = world.endpoint.live(world.name)
    assert [len(one) for one in (live.models, live.configs, live.alarms)] == [1, 1, 3]


def test_a_canary_of_one_instance_is_refused_before_anything_is_touched(world: World) -> None:
    world.deploy("1")
    before = world.endpoint.live(world.name)
    with pytest.raises(GateFailed, match="canary needs two instances"):
        world.deploy("2", strategy="canary")
    assert world.endpoint.live(world.name) == before


def test_a_shadow_answers_nobody_and_then_becomes_an_ab_test(world: World) -> None:
    world.deploy("1", "2", strategy="shadow")
    live = world.endpoint.live(world.name)
    assert [(one.name, one.version, one.shadow) for one in live.variants] == [
        ("champion", "1", False),
        ("challenger", "2", True),
    ]
    assert world.versions() == {"champion": "1"}
    assert not world.deploy("1", "2", strategy="shadow").changed
    world.deploy("1", "2")
    assert world.versions() == {"champion": "1", "challenger": "2"}


def test_a_serverless_endpoint_has_one_model(world: World) -> None:
    with pytest.raises(GateFailed, match="A serverless endpoint has one variant"):
        world.deploy("1", "2", serverless={})
    report = world.deploy("1", serverless={"memory_mb": 2048, "max_concurrency": 2})
    assert report.changed
    assert not world.deploy("1", serverless={"memory_mb": 2048, "max_concurrency": 2}).changed
    assert world.versions() == {"champion": "1"}


def test_capture_key_and_network_are_what_the_config_says(world: World) -> None:
    key = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"
    shape = {
        "capture": {"sampling_percent": 50},
        "vpc": {"subnets": ("subnet-0a1b2c3d",), "security_groups": ("sg-0a1b2c3d",)},
        "tags": {"team": "vision"},
        "ttl_hours": 4,
    }
    world.deploy("1", kms_key=key, **shape)
    assert not world.deploy("1", kms_key=key, **shape).changed
    live = world.endpoint.live(world.name)
    assert live.settings["KmsKeyId"] == key
    assert live.settings["DataCaptureConfig"]["InitialSamplingPercentage"] == 50
    assert (live.tags["team"], live.tags["captioner:ttl-hours"]) == ("vision", "4")
    assert world.deploy("1", kms_key=key, **{**shape, "capture": None}).changed


def test_a_count_is_changed_without_replacing_instances(world: World) -> None:
    world.deploy("1")
    first = world.aws.instances(world.name, "champion")
    world.deploy("1", instances=2)
    now = world.aws.instances(world.name, "champion")
    assert len(now) == 2
    assert first[0]["pid"] in [one["pid"] for one in now]


def test_a_ramp_is_guarded_by_what_the_endpoint_itself_measured(world: World) -> None:
    """Real requests, real metrics: the challenger that fails is found out, and the weights go back."""
    world.deploy("1", "2", challenger_share=0.1)
    params = world.params(challenger_share=0.1, ramp={"min_requests": 3})
    ports = (params, world.paths, world.endpoint, FakeDocuments(), world.name)
    with world.traffic(b"a picture", "champion"), world.traffic(b"a picture", "challenger"):
        report = ramp.run(*ports, [30], 4)
    assert {name: one.errors_5xx for name, one in report.steps[0].health.items()} == {"champion": 0, "challenger": 0}
    assert all(one.latency_ms is not None and one.latency_ms > 0 for one in report.steps[0].health.values())
    assert [one.weight for one in world.endpoint.live(world.name).variants] == pytest.approx([0.7, 0.3])
    with (
        world.traffic(b"a picture", "champion"),
        world.traffic(b"status 500 out of luck", "challenger"),
        pytest.raises(GateFailed, match=r"stopped at 60%: challenger answered .* with 5xx .* share is 30% again"),
    ):
        ramp.run(*ports, [60], 4)
    assert [one.weight for one in world.endpoint.live(world.name).variants] == pytest.approx([0.7, 0.3])
