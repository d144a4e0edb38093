"""Endpoints of the local SageMaker through their states, over HTTP with boto3 and real processes."""

import json
import os
import re
import signal
import threading
from collections import Counter
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.local_aws import LocalAws, until


def ask(aws: LocalAws, endpoint: str, variant: str | None = None, body: bytes = b"picture") -> tuple[str, dict]:
    target = {"TargetVariant": variant} if variant else {}
    answer = aws.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=endpoint, Body=body, ContentType="image/jpeg", **target
    )
    return answer["InvokedProductionVariant"], json.loads(answer["Body"].read())


@pytest.fixture
def two(local_aws: LocalAws, request: pytest.FixtureRequest) -> str:
    """An endpoint with the variants champion (model version 1) and challenger (version 2)."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[-40:].strip("-")
    for version in ("1", "2"):
        local_aws.model(f"{name}-m{version}", version)
    local_aws.config(f"{name}-c", {"champion": (f"{name}-m1", 0.5), "challenger": (f"{name}-m2", 0.5)})
    assert local_aws.endpoint(name, f"{name}-c")["EndpointStatus"] == "InService"
    return name


def test_each_variant_is_a_process_with_its_model_and_environment(local_aws: LocalAws, two: str) -> None:
    champion, challenger = ask(local_aws, two, "champion"), ask(local_aws, two, "challenger")
    assert (champion[0], challenger[0]) == ("champion", "challenger")
    assert [answer["model"]["version"] for _, answer in (champion, challenger)] == ["1", "2"]
    assert champion[1]["files"] == ["1/saved_model.pb"]
    assert champion[1]["pid"] != challenger[1]["pid"]


def test_creating_is_seen_and_refuses_changes_until_in_service(local_aws: LocalAws, tmp_path: Path) -> None:
    gate = tmp_path / "go"
    local_aws.model("slow-m", START_FILE=str(gate))
    local_aws.config("slow-c", {"champion": ("slow-m", 1)})
    client = local_aws.client("sagemaker")
    client.create_endpoint(EndpointName="slow", EndpointConfigName="slow-c")
    assert local_aws.describe("slow")["EndpointStatus"] == "Creating"
    for change in (
        lambda: client.update_endpoint(EndpointName="slow", EndpointConfigName="slow-c"),
        lambda: client.delete_endpoint(EndpointName="slow"),
        lambda: client.update_endpoint_weights_and_capacities(
            EndpointName="slow", DesiredWeightsAndCapacities=[{"VariantName": "champion", "DesiredWeight": 1}]
        ),
    ):
        with pytest.raises(ClientError) as refused:
            change()
        assert refused.value.response["Error"]["Code"] == "ValidationException"
    with pytest.raises(ClientError, match="Creating, not InService"):
        ask(local_aws, "slow")
    gate.touch()
    assert local_aws.steady("slow")["EndpointStatus"] == "InService"


def test_a_container_that_crashes_makes_the_endpoint_failed_with_its_last_words(local_aws: LocalAws) -> None:
    local_aws.model("crash-m", START="crash")
    local_aws.config("crash-c", {"champion": ("crash-m", 1)})
    found = local_aws.endpoint("crash", "crash-c")
    assert found["EndpointStatus"] == "Failed"
    assert "did not pass the ping health check" in found["FailureReason"]
    assert "crashes on purpose" in found["FailureReason"]
    client = local_aws.client("sagemaker")
    with pytest.raises(ClientError, match="Cannot update Failed endpoint"):
        client.update_endpoint(EndpointName="crash", EndpointConfigName="crash-c")
    client.delete_endpoint(EndpointName="crash")
    until(lambda: "crash" not in local_aws.health()["endpoints"], "the endpoint to be gone")


def test_an_image_that_cannot_run_here_says_so(local_aws: LocalAws) -> None:
    client = local_aws.client("sagemaker")
    container = {"Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/other:1", "ModelDataUrl": local_aws.put_model()}
    client.create_model(ModelName="other-m", PrimaryContainer=container)
    local_aws.config("other-c", {"champion": ("other-m", 1)})
    found = local_aws.endpoint("other", "other-c")
    assert found["EndpointStatus"] == "Failed"
    assert "only knows */captioner:*" in found["FailureReason"]


def test_an_update_never_leaves_a_request_unanswered(local_aws: LocalAws, two: str, tmp_path: Path) -> None:
    """While the new instances start and the old ones stop, every request is answered by one or the other."""
    gate = tmp_path / "go"
    local_aws.model(f"{two}-m3", "3", START_FILE=str(gate))
    local_aws.config(f"{two}-c3", {"champion": (f"{two}-m3", 1)})
    versions: Counter[str] = Counter()
    failures: list[Exception] = []
    done = threading.Event()

    def keep_asking() -> None:
        while not done.is_set():
            try:
                versions[ask(local_aws, two)[1]["model"]["version"]] += 1
            except Exception as error:
                failures.append(error)

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        old = {one["pid"] for name in ("champion", "challenger") for one in local_aws.instances(two, name)}
        local_aws.client("sagemaker").update_endpoint(EndpointName=two, EndpointConfigName=f"{two}-c3")
        before = versions.total()
        until(lambda: versions.total() > before + 3, "answers during the update")
        assert (local_aws.describe(two)["EndpointStatus"], versions["3"]) == ("Updating", 0)
        gate.touch()
        found = local_aws.steady(two)
        before = versions["3"]
        until(lambda: versions["3"] > before, "an answer of the new model")
    finally:
        done.set()
        asking.join()
    assert not failures
    assert found["EndpointConfigName"] == f"{two}-c3"
    assert [one["VariantName"] for one in found["ProductionVariants"]] == ["champion"]
    assert versions["3"] > 0
    assert not any(os.path.exists(f"/proc/{pid}") for pid in old)


def test_a_failed_update_keeps_the_old_config_and_its_instances(local_aws: LocalAws, two: str) -> None:
    pid = ask(local_aws, two, "champion")[1]["pid"]
    local_aws.model(f"{two}-bad", START="crash")
    local_aws.config(f"{two}-cb", {"champion": (f"{two}-bad", 1)})
    local_aws.client("sagemaker").update_endpoint(EndpointName=two, EndpointConfigName=f"{two}-cb")
    found = local_aws.steady(two)
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", f"{two}-c")
    assert "crashes on purpose" in found["FailureReason"]
    assert ask(local_aws, two, "champion")[1]["pid"] == pid


def test_weights_change_in_place_zero_included(local_aws: LocalAws, two: str) -> None:
    pid = ask(local_aws, two, "champion")[1]["pid"]
    weights = [{"VariantName": "champion", "DesiredWeight": 0}, {"VariantName": "challenger", "DesiredWeight": 3}]
    client = local_aws.client("sagemaker")
    client.update_endpoint_weights_and_capacities(EndpointName=two, DesiredWeightsAndCapacities=weights)
    found = local_aws.steady(two)
    assert {one["VariantName"]: one["CurrentWeight"] for one in found["ProductionVariants"]} == {
        "champion": 0.0,
        "challenger": 3.0,
    }
    assert found["EndpointConfigName"] == f"{two}-c"
    assert {ask(local_aws, two)[0] for _ in range(20)} == {"challenger"}
    assert ask(local_aws, two, "champion")[1]["pid"] == pid


@pytest.mark.parametrize(("retain", "weight"), [(True, 4.0), (False, 0.5)])
def test_an_update_resets_live_weights_unless_they_are_retained(
    local_aws: LocalAws, retain: bool, weight: float
) -> None:
    name = f"retain-{str(retain).lower()}"
    local_aws.model(f"{name}-m")
    for config in ("a", "b"):
        local_aws.config(f"{name}-{config}", {"champion": (f"{name}-m", 0.5)})
    local_aws.endpoint(name, f"{name}-a")
    client = local_aws.client("sagemaker")
    desired = [{"VariantName": "champion", "DesiredWeight": 4}]
    client.update_endpoint_weights_and_capacities(EndpointName=name, DesiredWeightsAndCapacities=desired)
    local_aws.steady(name)
    client.update_endpoint(EndpointName=name, EndpointConfigName=f"{name}-b", RetainAllVariantProperties=retain)
    found = local_aws.steady(name)
    assert found["EndpointConfigName"] == f"{name}-b"
    assert found["ProductionVariants"][0]["CurrentWeight"] == weight


def test_capacity_goes_up_and_down(local_aws: LocalAws, two: str) -> None:
    client = local_aws.client("sagemaker")
    for count in (2, 1):
        desired = [{"VariantName": "champion", "DesiredInstanceCount": count}]
        client.update_endpoint_weights_and_capacities(EndpointName=two, DesiredWeightsAndCapacities=desired)
        found = local_aws.steady(two)
        assert found["ProductionVariants"][0]["CurrentInstanceCount"] == count
        assert {ask(local_aws, two, "champion")[1]["pid"] for _ in range(6)} == {
            one["pid"] for one in local_aws.instances(two, "champion")
        }
        assert len(local_aws.instances(two, "champion")) == count


def test_an_instance_that_is_killed_is_started_again(local_aws: LocalAws, two: str) -> None:
    (before,) = local_aws.instances(two, "champion")
    os.kill(before["pid"], signal.SIGKILL)

    def back() -> bool:
        (now,) = local_aws.instances(two, "champion")
        return now["pid"] != before["pid"] and now["healthy"]

    until(back, "the instance to be back")
    assert ask(local_aws, two, "champion")[1]["model"]["version"] == "1"
    assert local_aws.instances(two, "champion")[0]["restarts"] == 1


def test_delete_ends_the_processes(local_aws: LocalAws, two: str) -> None:
    pids = [one["pid"] for variant in ("champion", "challenger") for one in local_aws.instances(two, variant)]
    local_aws.client("sagemaker").delete_endpoint(EndpointName=two)
    until(lambda: two not in local_aws.health()["endpoints"], "the endpoint to be gone")
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    with pytest.raises(ClientError, match="Could not find endpoint"):
        local_aws.describe(two)
    with pytest.raises(ClientError, match="not found"):
        ask(local_aws, two)


def statuses(aws: LocalAws, name: str) -> list[str]:
    """Every status that is seen until the endpoint is steady."""
    seen: list[str] = []

    def look() -> bool:
        found = aws.describe(name)["EndpointStatus"]
        seen.extend([found] if [found] != seen[-1:] else [])
        return found in ("InService", "Failed")

    until(look, f"{name} to be steady")
    return seen


def test_what_takes_no_time_is_seen_all_the_same(local_aws: LocalAws, two: str) -> None:
    """A change of weights is done at once; AWS shows Updating, so a client that does not wait fails here too."""
    client = local_aws.client("sagemaker")
    weights = [{"VariantName": "champion", "DesiredWeight": 2}]
    client.update_endpoint_weights_and_capacities(EndpointName=two, DesiredWeightsAndCapacities=weights)
    (champion, challenger) = local_aws.describe(two)["ProductionVariants"]
    assert [one["Status"] for one in champion["VariantStatus"]] == ["Updating"]
    assert "VariantStatus" not in challenger
    with pytest.raises(ClientError, match="Cannot update in-progress endpoint"):
        client.update_endpoint_weights_and_capacities(EndpointName=two, DesiredWeightsAndCapacities=weights)
    assert statuses(local_aws, two) == ["Updating", "InService"]
    client.delete_endpoint(EndpointName=two)
    found = local_aws.describe(two)
    assert found["EndpointStatus"] == "Deleting"
    assert found["ProductionVariants"][0]["VariantStatus"][0]["Status"] == "Deleting"
    with pytest.raises(ClientError, match="while it is Deleting"):
        client.delete_endpoint(EndpointName=two)


def test_delays_can_be_chosen(tmp_path: Path) -> None:
    """Long enough that only the chosen delay explains what is seen; ended, not waited for."""
    aws = LocalAws(tmp_path / "aws", options=("--create-delay", "600")).start()
    try:
        aws.model("m")
        aws.config("c", {"v": ("m", 1)})
        aws.client("sagemaker").create_endpoint(EndpointName="e", EndpointConfigName="c")
        # Its process is healthy long before the endpoint is said to be.
        log = tmp_path / "aws" / "logs"
        until(lambda: list(log.glob("e-v-*.log")), "the instance to start")
        found = aws.describe("e")
        assert found["EndpointStatus"] == "Creating"
        assert found["ProductionVariants"][0]["VariantStatus"][0]["Status"] == "Creating"
    finally:
        assert aws.stop() == 0


def test_an_endpoint_outlives_its_config_and_model_but_cannot_be_changed(local_aws: LocalAws, two: str) -> None:
    """As on AWS: nothing refuses the deletion, the endpoint goes on answering, and then only its end is left."""
    client = local_aws.client("sagemaker")
    local_aws.config(f"{two}-next", {"champion": (f"{two}-m1", 1), "challenger": (f"{two}-m2", 1)})
    client.delete_model(ModelName=f"{two}-m2")
    assert ask(local_aws, two, "challenger")[1]["model"]["version"] == "2"
    with pytest.raises(ClientError, match=f"Could not find model .*{two}-m2"):
        client.update_endpoint(EndpointName=two, EndpointConfigName=f"{two}-next")
    local_aws.config(f"{two}-good", {"champion": (f"{two}-m1", 1)})
    client.delete_endpoint_config(EndpointConfigName=f"{two}-c")
    assert ask(local_aws, two, "champion")[1]["model"]["version"] == "1"
    assert local_aws.describe(two)["EndpointConfigName"] == f"{two}-c"
    weights = [{"VariantName": "champion", "DesiredWeight": 2}]
    for change in (
        lambda: client.update_endpoint(EndpointName=two, EndpointConfigName=f"{two}-good"),
        lambda: client.update_endpoint_weights_and_capacities(EndpointName=two, DesiredWeightsAndCapacities=weights),
    ):
        with pytest.raises(ClientError, match=f"Could not find endpoint config .*{two}-c"):
            change()
    assert local_aws.describe(two)["EndpointStatus"] == "InService"
    client.delete_endpoint(EndpointName=two)
    until(lambda: two not in local_aws.health()["endpoints"], "the endpoint to be gone")


def test_what_is_retained_can_be_chosen(local_aws: LocalAws, two: str) -> None:
    client = local_aws.client("sagemaker")
    desired = [{"VariantName": "champion", "DesiredWeight": 0.9, "DesiredInstanceCount": 2}]
    client.update_endpoint_weights_and_capacities(EndpointName=two, DesiredWeightsAndCapacities=desired)
    local_aws.steady(two)
    local_aws.config(f"{two}-n", {"champion": (f"{two}-m1", 0.5), "challenger": (f"{two}-m2", 0.5)})
    client.update_endpoint(
        EndpointName=two,
        EndpointConfigName=f"{two}-n",
        RetainAllVariantProperties=True,
        ExcludeRetainedVariantProperties=[{"VariantPropertyType": "DesiredWeight"}],
    )
    champion = local_aws.steady(two)["ProductionVariants"][0]
    assert (champion["CurrentWeight"], champion["CurrentInstanceCount"]) == (0.5, 2)


def test_a_capacity_that_cannot_be_reached_is_taken_back_whole(local_aws: LocalAws) -> None:
    """Of two variants the second cannot grow: the first is what it was as well, and the description is true."""
    client = local_aws.client("sagemaker")
    local_aws.model("grow-m1")
    own = {"Image": local_aws.image(), "ModelDataUrl": local_aws.put_model("grow/model.tar.gz")}
    client.create_model(ModelName="grow-m2", PrimaryContainer=own)
    local_aws.config("grow-c", {"a": ("grow-m1", 1), "b": ("grow-m2", 1)})
    local_aws.endpoint("grow", "grow-c")
    # An archive that is gone: no further instance can start, those that run do not need it.
    local_aws.client("s3").delete_object(Bucket="captioner", Key="grow/model.tar.gz")
    desired = [{"VariantName": name, "DesiredInstanceCount": 2} for name in ("a", "b")]
    client.update_endpoint_weights_and_capacities(EndpointName="grow", DesiredWeightsAndCapacities=desired)
    assert statuses(local_aws, "grow")[-2:] == ["RollingBack", "InService"]
    found = local_aws.describe("grow")
    assert "Could not find model data" in found["FailureReason"]
    assert [(one["CurrentInstanceCount"], one["DesiredInstanceCount"]) for one in found["ProductionVariants"]] == [
        (1, 1),
        (1, 1),
    ]
    assert len(local_aws.instances("grow", "a")) == 1


def test_tags_of_an_endpoint_are_listed_and_stay(local_aws: LocalAws) -> None:
    local_aws.model("tagged-m")
    local_aws.config("tagged-c", {"champion": ("tagged-m", 1)})
    client, tags = local_aws.client("sagemaker"), [{"Key": "ttl", "Value": "1h"}]
    made = client.create_endpoint(EndpointName="tagged", EndpointConfigName="tagged-c", Tags=tags)
    local_aws.steady("tagged")
    client.update_endpoint(EndpointName="tagged", EndpointConfigName="tagged-c")
    local_aws.steady("tagged")
    assert client.list_tags(ResourceArn=made["EndpointArn"])["Tags"] == tags
