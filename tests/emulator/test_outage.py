"""Instances that die, hang or are late: what the caller is told, and that the SDK's standard retries get through."""

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.local_aws import LocalAws, until

ANSWER_S = 2.0
SERVERLESS = {"MemorySizeInMB": 1024, "MaxConcurrency": 2}


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    """An emulator whose containers have two seconds for an answer, and one between SIGTERM and SIGKILL."""
    options = ["--answer-timeout", str(ANSWER_S), "--stop-timeout", "1"]
    found = LocalAws(tmp_path_factory.mktemp("outage"), options=options).start()
    yield found
    assert found.stop() == 0


def serverless(aws: LocalAws, name: str, **environment: str) -> None:
    aws.model(f"{name}-m", **environment)
    variant = {"VariantName": "only", "ModelName": f"{name}-m", "ServerlessConfig": SERVERLESS}
    aws.client("sagemaker").create_endpoint_config(EndpointConfigName=f"{name}-c", ProductionVariants=[variant])
    aws.endpoint(name, f"{name}-c")


def runtime(aws: LocalAws, attempts: int) -> Any:
    """A client that tries so often, and otherwise as boto3 has it."""
    retries: Any = {"mode": "standard", "total_max_attempts": attempts}
    keys = {"aws_access_key_id": "any", "aws_secret_access_key": "thing", "region_name": "us-east-1"}
    return boto3.client("sagemaker-runtime", endpoint_url=aws.url, config=Config(retries=retries), **keys)


def invoke(client: Any, endpoint: str, body: bytes = b"x") -> dict[str, Any]:
    answer = client.invoke_endpoint(EndpointName=endpoint, Body=body, ContentType="image/png")
    found: dict[str, Any] = json.loads(answer["Body"].read())
    return found


def test_one_of_two_is_killed_under_load_and_no_request_fails(aws: LocalAws) -> None:
    aws.model("two-m")
    aws.config("two-c", {"champion": ("two-m", 1)}, instances=2)
    aws.endpoint("two", "two-c")
    first, second = (one["pid"] for one in aws.instances("two", "champion"))
    answered: Counter[int] = Counter()
    enough, failures = threading.Event(), []

    def caller() -> None:
        client = runtime(aws, 3)
        while not enough.is_set():
            try:
                answered[invoke(client, "two", b"sleep 0.05")["pid"]] += 1
            except Exception as error:
                failures.append(error)

    callers = [threading.Thread(target=caller) for _ in range(16)]
    for one in callers:
        one.start()
    until(lambda: answered[first] > 20 and answered[second] > 20, "both to answer")
    os.kill(first, signal.SIGKILL)  # with eight requests in it
    until(lambda: all(one["healthy"] for one in aws.instances("two", "champion")), "the other to be back")
    until(lambda: len(answered) > 2, "the new process to answer")
    enough.set()
    for one in callers:
        one.join()
    assert failures == []
    assert sorted(one["restarts"] for one in aws.instances("two", "champion")) == [0, 1]
    # It was no idle kill: requests that were in it were answered with 500, and repeated by the client.
    assert aws.health()["endpoints"]["two"]["variants"]["champion"]["errors_5xx"] > 0


def test_a_request_in_a_killed_instance_is_an_internal_failure(aws: LocalAws) -> None:
    """The code and status that botocore's standard retries repeat; without retries it is seen."""
    aws.model("one-m")
    aws.config("one-c", {"champion": ("one-m", 1)})
    aws.endpoint("one", "one-c")
    (instance,) = aws.instances("one", "champion")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(invoke, runtime(aws, 1), "one", b"sleep 1.5")
        until(lambda: callers_of(instance["port"]), "the request to be in the container")
        os.kill(instance["pid"], signal.SIGKILL)
        with pytest.raises(ClientError) as error:
            asked.result(30)
    assert error.value.response["Error"]["Code"] == "InternalFailure"
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    until(lambda: aws.instances("one", "champion")[0]["healthy"], "the instance to be back")


def callers_of(port: int) -> int:
    """How many connections the container on `port` has."""
    wanted = f"0100007F:{port:04X}"
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1] == wanted and row[3] == "01" for row in rows)


def test_while_its_only_instance_is_away_a_variant_is_unavailable(aws: LocalAws, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    aws.model("away-m", START_FILE=str(gate))
    aws.config("away-c", {"champion": ("away-m", 1)})
    aws.endpoint("away", "away-c")
    gate.unlink()
    os.kill(aws.instances("away", "champion")[0]["pid"], signal.SIGKILL)
    until(lambda: not aws.instances("away", "champion")[0]["healthy"], "the crash to be seen", seconds=5)
    with pytest.raises(ClientError) as error:
        invoke(runtime(aws, 1), "away")
    assert error.value.response["Error"]["Code"] == "ServiceUnavailable"
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    gate.touch()
    until(lambda: aws.instances("away", "champion")[0]["healthy"], "the instance to be back")
    assert invoke(runtime(aws, 1), "away")["caption"]


@pytest.mark.parametrize("body", [b"sleep 30", b"drip"])
def test_an_answer_that_is_late_is_a_model_error_with_status_0(aws: LocalAws, body: bytes) -> None:
    """Also one that never falls silent: the limit is for the whole answer."""
    if not [one for one in aws.client("sagemaker").list_endpoints()["Endpoints"] if one["EndpointName"] == "late"]:
        aws.model("late-m")
        aws.config("late-c", {"champion": ("late-m", 1)})
        aws.endpoint("late", "late-c")
    started = time.monotonic()
    with pytest.raises(ClientError) as error:
        invoke(runtime(aws, 1), "late", body)
    assert ANSWER_S <= time.monotonic() - started < 9
    response = error.value.response
    assert response["Error"]["Code"] == "ModelError"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert response["OriginalStatusCode"] == 0
    assert "Your invocation timed out while waiting for a response from container primary." in str(error.value)


# Serverless


def test_over_its_concurrency_a_serverless_endpoint_throttles(aws: LocalAws) -> None:
    serverless(aws, "less")
    client = runtime(aws, 1)
    (instance,) = aws.instances("less", "only")
    with ThreadPoolExecutor(2) as pool:
        slow = [pool.submit(invoke, client, "less", b"sleep 1.5") for _ in range(2)]
        until(lambda: callers_of(instance["port"]) == 2, "both places to be taken")
        with pytest.raises(ClientError) as error:
            invoke(client, "less")
        assert error.value.response["Error"]["Code"] == "ThrottlingException"
        # The SDK's standard retries wait for a place.
        assert invoke(runtime(aws, 5), "less")["caption"]
        assert all(one.result()["caption"] for one in slow)
    assert invoke(client, "less")["caption"]


def test_a_serverless_body_has_four_megabytes(aws: LocalAws) -> None:
    serverless(aws, "small")
    assert invoke(runtime(aws, 1), "small", b"x" * (4 << 20))["bytes"] == 4 << 20
    with pytest.raises(ClientError) as error:
        invoke(runtime(aws, 1), "small", b"x" * ((4 << 20) + 1))
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413


def test_a_serverless_variant_on_its_way_is_not_ready(aws: LocalAws, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    serverless(aws, "cold", START_FILE=str(gate))
    gate.unlink()
    os.kill(aws.instances("cold", "only")[0]["pid"], signal.SIGKILL)
    until(lambda: not aws.instances("cold", "only")[0]["healthy"], "the crash to be seen", seconds=5)
    with pytest.raises(ClientError) as error:
        invoke(runtime(aws, 1), "cold")
    assert error.value.response["Error"]["Code"] == "ModelNotReadyException"
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429


def test_a_container_that_will_not_end_is_killed(aws: LocalAws) -> None:
    aws.model("stubborn-m", STOP="ignore")
    aws.config("stubborn-c", {"champion": ("stubborn-m", 1)})
    aws.endpoint("stubborn", "stubborn-c")
    pid = aws.instances("stubborn", "champion")[0]["pid"]
    started = time.monotonic()
    aws.client("sagemaker").delete_endpoint(EndpointName="stubborn")
    until(lambda: not Path(f"/proc/{pid}").exists(), "SIGKILL after SIGTERM", seconds=15)
    assert time.monotonic() - started >= 1
