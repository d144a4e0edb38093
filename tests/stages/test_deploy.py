"""The deploy stage: the registry's aliases become the endpoint's variants."""

import json
from pathlib import Path

import pytest

from captioner.errors import BadInput, GateFailed, ServiceUnavailable
from captioner.params import DeployParams
from captioner.paths import Paths
from captioner.stages import deploy
from tests.fakes import FakeEndpoint, FakeRegistry

NAME = "captioner-sample"
PARAMS = DeployParams(instance_type="ml.m5.large", instances=1, challenger_share=0.25)


@pytest.fixture
def registry(tmp_path: Path) -> FakeRegistry:
    """Three versions; version 1 is champion."""
    registry = FakeRegistry()
    for content in ("one", "two", "three"):
        artifact = tmp_path / f"{content}.tar.gz"
        artifact.write_text(content)
        registry.create(NAME, artifact, "run", {})
    registry.set_alias(NAME, "champion", "1")
    return registry


def variants(report: deploy.DeployReport) -> dict[str, tuple[str, float]]:
    return {one.name: (one.model_version, one.weight) for one in report.variants}


def test_champion_and_challenger_share_the_traffic(registry: FakeRegistry, paths: Paths) -> None:
    registry.set_alias(NAME, "challenger", "2")
    endpoint = FakeEndpoint()
    report = deploy.run(PARAMS, paths, registry, endpoint, NAME)
    assert report.changed
    assert variants(report) == {"champion": ("1", 0.75), "challenger": ("2", 0.25)}
    config = next(step.request for step in endpoint.done if step.operation == "CreateEndpointConfig")
    assert [(v["InstanceType"], v["InitialInstanceCount"]) for v in config["ProductionVariants"]] == [
        ("ml.m5.large", 1),
        ("ml.m5.large", 1),
    ]
    assert endpoint.invoke(NAME, b"x", "image/png", "challenger").body["model"]["version"] == "2"
    written = json.loads(deploy.report_path(paths).read_text())
    assert written["endpoint"] == NAME
    assert "| challenger | 0.25 | 2 |" in written["markdown"]


def test_a_champion_alone_gets_everything(registry: FakeRegistry, paths: Paths) -> None:
    assert variants(deploy.run(PARAMS, paths, registry, FakeEndpoint(), NAME)) == {"champion": ("1", 1.0)}


def test_the_second_time_nothing_changes_and_it_says_so(registry: FakeRegistry, paths: Paths) -> None:
    endpoint = FakeEndpoint()
    deploy.run(PARAMS, paths, registry, endpoint, NAME)
    again = deploy.run(PARAMS, paths, registry, endpoint, NAME)
    assert not again.changed
    assert "nothing changed" in again.render()
    assert len(endpoint.applied) == 1


def test_alarms_alone_are_said_to_be_no_change_of_variants(registry: FakeRegistry, paths: Paths) -> None:
    endpoint = FakeEndpoint()
    deploy.run(PARAMS, paths, registry, endpoint, NAME)
    report = deploy.run(DeployParams(**{**PARAMS.model_dump(), "alarms": {}}), paths, registry, endpoint, NAME)
    assert not report.changed
    assert "done beside them: PutMetricAlarm" in report.render()
    assert len(endpoint.live(NAME).alarms) == 3


def test_a_refused_plan_touches_nothing_and_says_every_reason(registry: FakeRegistry, paths: Paths) -> None:
    """On AWS, where the house's rules are not warnings."""
    endpoint = FakeEndpoint(local=False)
    registry.set_alias(NAME, "challenger", "2")
    with pytest.raises(GateFailed, match=r"Version 2, the challenger, was never judged by the gate\."):
        deploy.run(PARAMS, paths, registry, endpoint, NAME)
    assert endpoint.done == []
    assert deploy.plan(PARAMS, paths, registry, endpoint, NAME).refusals


def test_an_alias_set_in_the_registry_is_a_promotion(registry: FakeRegistry, paths: Paths) -> None:
    endpoint = FakeEndpoint()
    deploy.run(PARAMS, paths, registry, endpoint, NAME)
    registry.set_alias(NAME, "champion", "3")
    report = deploy.run(PARAMS, paths, registry, endpoint, NAME)
    assert report.changed
    assert variants(report) == {"champion": ("3", 1.0)}


def test_a_challenger_that_lost_its_alias_leaves_the_endpoint(registry: FakeRegistry, paths: Paths) -> None:
    registry.set_alias(NAME, "challenger", "2")
    endpoint = FakeEndpoint()
    deploy.run(PARAMS, paths, registry, endpoint, NAME)
    registry.drop_alias(NAME, "challenger")
    assert variants(deploy.run(PARAMS, paths, registry, endpoint, NAME)) == {"champion": ("1", 1.0)}


def test_no_champion_is_said_and_nothing_is_touched(paths: Paths) -> None:
    endpoint = FakeEndpoint()
    with pytest.raises(BadInput, match="no champion: run `captioner register`"):
        deploy.run(PARAMS, paths, FakeRegistry(), endpoint, NAME)
    assert not endpoint.applied


def test_an_endpoint_out_of_reach_is_said(registry: FakeRegistry, paths: Paths) -> None:
    endpoint = FakeEndpoint()
    endpoint.down = True
    with pytest.raises(ServiceUnavailable, match="captioner up"):
        deploy.run(PARAMS, paths, registry, endpoint, NAME)
