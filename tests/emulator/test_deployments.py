"""Deployment guardrails over HTTP: traffic that really shifts between real fleets, baking, alarms, and the way back."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local_aws import LocalAws, processes_of, until

LONG, SHORT = 3600, 120  # seconds of AWS's clock; here 18 and 0.6


def ask(aws: LocalAws, endpoint: str) -> str:
    """The version of the model that answered."""
    answer = aws.client("sagemaker-runtime").invoke_endpoint(EndpointName=endpoint, Body=b"x", ContentType="image/png")
    return str(json.loads(answer["Body"].read())["model"]["version"])


def alarm(aws: LocalAws, name: str, endpoint: str, metric: str = "InvocationModelErrors", config: str = "") -> str:
    """An alarm on more than a tenth of a minute's requests going wrong."""
    dimensions = [{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": "champion"}]
    dimensions += [{"Name": "EndpointConfigName", "Value": config}] if config else []
    aws.client("cloudwatch").put_metric_alarm(
        AlarmName=name,
        Namespace="AWS/SageMaker",
        MetricName=metric,
        Dimensions=dimensions,
        Statistic="Average",
        Period=60,
        EvaluationPeriods=1,
        Threshold=0.1,
        ComparisonOperator="GreaterThanThreshold",
        TreatMissingData="notBreaching",
    )
    return name


def guarded(kind: str, wait: int, size: int = 50, alarms: tuple[str, ...] = (), **more: int) -> dict[str, Any]:
    sizes = {"CANARY": "CanarySize", "LINEAR": "LinearStepSize"}
    routing: dict[str, Any] = {"Type": kind, "WaitIntervalInSeconds": wait}
    if kind in sizes:
        routing[sizes[kind]] = {"Type": "CAPACITY_PERCENT", "Value": size}
    found: dict[str, Any] = {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing, **more}}
    if alarms:
        found["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": name} for name in alarms]}
    return found


@pytest.fixture
def live(quick_aws: LocalAws, request: pytest.FixtureRequest) -> str:
    """An endpoint `NAME` with two instances of model 1 by the config NAME-c1; the config NAME-c2 has model 2."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[-40:].strip("-")
    for version in ("1", "2"):
        quick_aws.model(f"{name}-m{version}", version)
        quick_aws.config(f"{name}-c{version}", {"champion": (f"{name}-m{version}", 1)}, instances=2)
    assert quick_aws.endpoint(name, f"{name}-c1")["EndpointStatus"] == "InService"
    return name


def update(aws: LocalAws, name: str, config: str, deployment: dict[str, Any] | None = None, **more: Any) -> None:
    given = {"DeploymentConfig": deployment} if deployment else {}
    aws.client("sagemaker").update_endpoint(EndpointName=name, EndpointConfigName=config, **given, **more)


def pending_status(aws: LocalAws, name: str) -> str | None:
    summary = aws.describe(name).get("PendingDeploymentSummary")
    return summary["ProductionVariants"][0]["VariantStatus"][0]["Status"] if summary else None


def baking(aws: LocalAws, name: str) -> dict[str, Any]:
    until(lambda: pending_status(aws, name) == "Baking", f"{name} to bake")
    return aws.describe(name)


@contextmanager
def asked(aws: LocalAws, name: str, callers: int = 4) -> Iterator[tuple[Counter[str], list[Exception]]]:
    """Ask all the time; the versions that answered, and what went wrong."""
    versions: Counter[str] = Counter()
    failures: list[Exception] = []
    done = threading.Event()
    aws.client("sagemaker-runtime")

    def keep_asking() -> None:
        while not done.is_set():
            try:
                versions[ask(aws, name)] += 1
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=keep_asking) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield versions, failures
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_a_canary_shares_the_traffic_bakes_and_takes_over(quick_aws: LocalAws, live: str) -> None:
    name = alarm(quick_aws, f"{live}-a", live)
    before = quick_aws.describe(live)
    old = {one["pid"] for one in quick_aws.instances(live, "champion")}
    config = guarded("CANARY", 600, alarms=(name,), TerminationWaitInSeconds=SHORT)
    with asked(quick_aws, live) as (versions, failures):
        update(quick_aws, live, f"{live}-c2", config)
        first = quick_aws.describe(live)
        found = baking(quick_aws, live)
        versions.clear()
        until(lambda: versions.total() >= 100, "a hundred answers while baking")
        assert pending_status(quick_aws, live) == "Baking"
        shared = Counter(versions)
        after = quick_aws.steady(live)
        versions.clear()
        until(lambda: versions["2"] >= 10, "answers of the new model")
    assert not failures
    assert set(versions) == {"2"}
    # Half of the traffic: 100 of a fair coin lie within 30 and 70 but for one run in 20,000.
    assert 0.3 < shared["2"] / shared.total() < 0.7

    assert first["EndpointStatus"] == "Updating"
    assert first["EndpointConfigName"] == found["EndpointConfigName"] == before["EndpointConfigName"]
    pending = found["PendingDeploymentSummary"]
    assert (pending["EndpointConfigName"], pending["StartTime"].year > 2000) == (f"{live}-c2", True)
    (variant,) = pending["ProductionVariants"]
    assert (variant["CurrentInstanceCount"], variant["InstanceType"]) == (2, "ml.m5.large")
    assert variant["VariantStatus"][0]["StatusMessage"].startswith("Watching 1 alarms for 600 s at 50 percent")
    assert variant["VariantStatus"][0]["StartTime"] >= pending["StartTime"]

    assert after["EndpointStatus"] == "InService"
    assert after["EndpointConfigName"] == f"{live}-c2"
    assert after["LastDeploymentConfig"] == config
    assert "PendingDeploymentSummary" not in after
    assert "FailureReason" not in after
    assert "VariantStatus" not in after["ProductionVariants"][0]
    assert not any(os.path.exists(f"/proc/{pid}") for pid in old)


def test_an_alarm_that_is_set_while_baking_brings_the_old_config_back(quick_aws: LocalAws, live: str) -> None:
    name = alarm(quick_aws, f"{live}-a", live)
    with asked(quick_aws, live) as (versions, failures):
        update(quick_aws, live, f"{live}-c2", guarded("CANARY", LONG, alarms=(name,)))
        baking(quick_aws, live)
        until(lambda: versions["2"] > 0, "an answer of the canary")
        quick_aws.client("cloudwatch").set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="a test")
        until(lambda: quick_aws.describe(live)["EndpointStatus"] == "RollingBack", "the rollback")
        found = quick_aws.steady(live)
        versions.clear()
        until(lambda: versions.total() >= 20, "answers after the rollback")
    assert not failures
    assert set(versions) == {"1"}
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", f"{live}-c1")
    assert f"The CloudWatch alarm {name} was in ALARM" in found["FailureReason"]
    assert "PendingDeploymentSummary" not in found
    assert "coming" not in quick_aws.health()["endpoints"][live]
    # What the waiter calls success must be told apart by the config's name; the next update starts anew.
    update(quick_aws, live, f"{live}-c2")
    again = quick_aws.steady(live)
    assert (again["EndpointConfigName"], again.get("FailureReason")) == (f"{live}-c2", None)


@pytest.mark.parametrize("only_new", [True, False])
def test_a_bad_model_trips_the_alarm_by_its_own_metrics(quick_aws: LocalAws, live: str, only_new: bool) -> None:
    """No hand on the alarm: the data plane counts, metrics are published, the alarm is judged, the update goes back."""
    live_config = f"{live}-c3"
    quick_aws.model(f"{live}-m3", "3", ANSWER="500")
    quick_aws.config(live_config, {"champion": (f"{live}-m3", 1)}, instances=2)
    name = alarm(quick_aws, f"{live}-a", live, config=live_config if only_new else "")
    with asked(quick_aws, live) as (versions, failures):
        update(quick_aws, live, live_config, guarded("CANARY", LONG, alarms=(name,)))
        found = quick_aws.steady(live)
        versions.clear()
        until(lambda: versions.total() >= 20, "answers after the rollback")
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", f"{live}-c1")
    assert name in found["FailureReason"]
    assert failures
    for error in failures:
        assert isinstance(error, ClientError)
        assert error.response["Error"]["Code"] == "ModelError"
    if only_new:
        # Its metrics stay as they were; nothing answers with that config any more, and missing data is no breach.
        until(lambda: state(quick_aws, name) == "OK", "the alarm to calm down")


def state(aws: LocalAws, name: str) -> str:
    (found,) = aws.client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"]
    return str(found["StateValue"])


def test_an_alarm_that_is_on_already_stops_the_update_before_any_traffic(quick_aws: LocalAws, live: str) -> None:
    name = alarm(quick_aws, f"{live}-a", live)
    # Always breaching, so that no tick calms it.
    quick_aws.client("cloudwatch").put_metric_alarm(
        AlarmName=name,
        Namespace="nothing",
        MetricName="nothing",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
        TreatMissingData="breaching",
    )
    until(lambda: state(quick_aws, name) == "ALARM", "the alarm")
    with asked(quick_aws, live, callers=1) as (versions, failures):
        update(quick_aws, live, f"{live}-c2", guarded("ALL_AT_ONCE", 0, alarms=(name,)))
        found = quick_aws.steady(live)
    assert (found["EndpointConfigName"], set(versions), failures) == (f"{live}-c1", {"1"}, [])


def test_linear_moves_in_steps_without_a_lost_request(quick_aws: LocalAws, live: str) -> None:
    shares: list[float] = []
    with asked(quick_aws, live) as (versions, failures):
        update(quick_aws, live, f"{live}-c2", guarded("LINEAR", SHORT, TerminationWaitInSeconds=SHORT))

        def moved() -> bool:
            coming = quick_aws.health()["endpoints"][live].get("coming")
            shares.extend([coming["share"]] if coming and coming["share"] not in (0.0, *shares[-1:]) else [])
            return quick_aws.describe(live)["EndpointStatus"] == "InService"

        until(moved, "the end of the update")
    assert not failures
    assert shares == [0.5, 1.0]
    assert versions["1"] > 0
    assert versions["2"] > 0
    assert quick_aws.describe(live)["EndpointConfigName"] == f"{live}-c2"


def test_a_fleet_that_never_gets_healthy_leaves_the_old_one(quick_aws: LocalAws, live: str) -> None:
    quick_aws.model(f"{live}-m3", "3", START="crash")
    quick_aws.config(f"{live}-c3", {"champion": (f"{live}-m3", 1)}, instances=2)
    pids = {one["pid"] for one in quick_aws.instances(live, "champion")}
    update(quick_aws, live, f"{live}-c3", guarded("CANARY", LONG))
    assert pending_status(quick_aws, live) == "Creating"
    found = quick_aws.steady(live)
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", f"{live}-c1")
    assert "did not pass the ping health check" in found["FailureReason"]
    assert {one["pid"] for one in quick_aws.instances(live, "champion")} == pids


def test_a_rollback_without_an_old_fleet_fails_and_says_so(quick_aws: LocalAws, tmp_path: Path) -> None:
    gate, name = tmp_path / "go", "no-way-back"
    gate.touch()
    quick_aws.model(f"{name}-m1", "1", START_FILE=str(gate))
    quick_aws.model(f"{name}-m2", "2")
    for version in ("1", "2"):
        quick_aws.config(f"{name}-c{version}", {"champion": (f"{name}-m{version}", 1)}, instances=2)
    quick_aws.endpoint(name, f"{name}-c1")
    watched = alarm(quick_aws, f"{name}-a", name)
    update(quick_aws, name, f"{name}-c2", guarded("CANARY", LONG, alarms=(watched,)))
    baking(quick_aws, name)
    gate.unlink()
    for one in quick_aws.instances(name, "champion"):
        os.kill(one["pid"], signal.SIGKILL)
    until(lambda: not any(one["healthy"] for one in quick_aws.instances(name, "champion")), "the old fleet to be gone")
    quick_aws.client("cloudwatch").set_alarm_state(AlarmName=watched, StateValue="ALARM", StateReason="a test")
    until(lambda: quick_aws.describe(name)["EndpointStatus"] == "UpdateRollbackFailed", "the failure of the rollback")
    found = quick_aws.describe(name)
    assert "The rollback failed too: variant champion has no healthy instance" in found["FailureReason"]
    client = quick_aws.client("sagemaker")
    weights = [{"VariantName": "champion", "DesiredWeight": 2}]
    with pytest.raises(ClientError, match="Cannot update UpdateRollbackFailed endpoint"):
        client.update_endpoint_weights_and_capacities(EndpointName=name, DesiredWeightsAndCapacities=weights)
    # A new update is the way out.
    update(quick_aws, name, f"{name}-c2")
    assert quick_aws.steady(name)["EndpointConfigName"] == f"{name}-c2"
    assert {ask(quick_aws, name) for _ in range(5)} == {"2"}
    assert "coming" not in quick_aws.health()["endpoints"][name]


def test_a_kill_in_the_middle_comes_back_with_the_old_config(tmp_path: Path) -> None:
    aws = LocalAws(tmp_path / "aws", options=("--time-scale", "0.005")).start()
    try:
        for version in ("1", "2"):
            aws.model(f"m{version}", version)
            aws.config(f"c{version}", {"champion": (f"m{version}", 1)}, instances=2)
        aws.endpoint("cut", "c1")
        update(aws, "cut", "c2", guarded("CANARY", LONG))
        baking(aws, "cut")
        aws.stop(kill=True)
        aws.start()
        found = aws.steady("cut")
        assert (found["EndpointConfigName"], "PendingDeploymentSummary" in found) == ("c1", False)
        assert {ask(aws, "cut") for _ in range(6)} == {"1"}
        update(aws, "cut", "c2", guarded("CANARY", LONG))
        baking(aws, "cut")
    finally:
        # An orderly end while it bakes waits for nothing and leaves no process.
        assert aws.stop() == 0
    assert processes_of(aws.home) == []


def test_the_last_deployment_config_is_used_again(quick_aws: LocalAws, live: str) -> None:
    config = guarded("CANARY", SHORT)
    update(quick_aws, live, f"{live}-c2", config)
    assert quick_aws.steady(live)["EndpointConfigName"] == f"{live}-c2"
    update(quick_aws, live, f"{live}-c1", RetainDeploymentConfig=True)
    baking(quick_aws, live)
    assert quick_aws.steady(live)["LastDeploymentConfig"] == config


def refused(call: Callable[..., Any], **request: Any) -> str:
    with pytest.raises(ClientError) as error:
        call(**request)
    assert error.value.response["Error"]["Code"] == "ValidationException"
    return str(error.value.response["Error"]["Message"])


def test_refusals_leave_the_endpoint_as_it_is(quick_aws: LocalAws, live: str) -> None:
    def attempt(deployment: dict[str, Any], config: str = f"{live}-c2", **more: Any) -> str:
        call = quick_aws.client("sagemaker").update_endpoint
        return refused(call, EndpointName=live, EndpointConfigName=config, DeploymentConfig=deployment, **more)

    quick_aws.config(f"{live}-one", {"champion": (f"{live}-m2", 1)}, instances=1)
    quick_aws.config(f"{live}-other", {"new-name": (f"{live}-m2", 1)}, instances=2)
    assert "CanarySize must be at most 50 percent" in attempt(guarded("CANARY", 0), f"{live}-one")
    assert "same variant names" in attempt(guarded("ALL_AT_ONCE", 0), f"{live}-other")
    assert "no CloudWatch alarm nobody" in attempt(guarded("CANARY", 0, alarms=("nobody",)))
    assert "not both" in attempt(guarded("CANARY", 0), RetainDeploymentConfig=True)
    too_long = guarded("CANARY", 600, TerminationWaitInSeconds=600, MaximumExecutionTimeoutInSeconds=1200)
    assert "larger than the total waiting time" in attempt(too_long)
    assert "less than or equal to 3600" in attempt(guarded("CANARY", 3601))
    many = tuple(f"a{n}" for n in range(11))
    assert "less than or equal to 10" in attempt(guarded("CANARY", 0, alarms=many))
    rolling = {"MaximumBatchSize": {"Type": "INSTANCE_COUNT", "Value": 1}, "WaitIntervalInSeconds": 0}
    assert "does not have RollingUpdatePolicy" in attempt({"RollingUpdatePolicy": rolling})
    found = quick_aws.describe(live)
    assert (found["EndpointStatus"], "LastDeploymentConfig" in found) == ("InService", False)


def test_images_are_described_by_digest_with_the_time_of_their_resolution(quick_aws: LocalAws, live: str) -> None:
    found = quick_aws.describe(live)
    (image,) = found["ProductionVariants"][0]["DeployedImages"]
    assert image["SpecifiedImage"] == quick_aws.image()
    assert "@sha256:" in image["ResolvedImage"]
    assert abs((image["ResolutionTime"] - found["CreationTime"]).total_seconds()) < 5
