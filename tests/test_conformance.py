"""The conformance suite, as somebody else would run it: over HTTP, by plain boto3, in a process that has none of us."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local_aws import LOCAL_ROLE, LocalAws, until

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "tests" / "conformance").glob("test_*.py"))
ANSWER_S = 6


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    found = LocalAws(tmp_path_factory.mktemp("conformance"), options=["--answer-timeout", str(ANSWER_S)]).start()
    yield found
    assert found.stop() == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem.removeprefix("test_"))
def test_the_local_sagemaker_conforms(aws: LocalAws, page: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "--confcutdir=tests/conformance", "-p", "no:cacheprovider"]
    to = ["--endpoint-url", aws.url, "--image", aws.image(), "--role", LOCAL_ROLE]
    done = subprocess.run(
        [*command, str(page), *to, "--answer-seconds", str(ANSWER_S)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout
    # It leaves nothing behind.
    client = aws.client("sagemaker")
    assert client.list_endpoints(NameContains="conformance")["Endpoints"] == []
    assert client.list_endpoint_configs(NameContains="conformance")["EndpointConfigs"] == []
    assert client.list_models(NameContains="conformance")["Models"] == []


def test_whoever_stops_it_is_left_with_nothing_that_costs(aws: LocalAws) -> None:
    """Ctrl-C while an endpoint is being made."""
    command = [sys.executable, "-m", "pytest", "-q", "--confcutdir=tests/conformance", "-p", "no:cacheprovider"]
    to = ["--endpoint-url", aws.url, "--image", aws.image()]
    page = "tests/conformance/test_endpoints.py"
    client = aws.client("sagemaker")
    with subprocess.Popen([*command, page, *to], cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        until(lambda: client.list_endpoints(NameContains="conformance")["Endpoints"], "its first endpoint")
        running.send_signal(signal.SIGINT)
        said, _ = running.communicate(timeout=120)
    # 2 says interrupted; pytest itself sometimes trips over the traceback of it, with 1.
    assert running.returncode in (1, 2), said
    assert "passed" not in said
    assert client.list_endpoints(NameContains="conformance")["Endpoints"] == []
    assert client.list_endpoint_configs(NameContains="conformance")["EndpointConfigs"] == []
    assert client.list_models(NameContains="conformance")["Models"] == []


def test_aws_itself_is_not_met_by_accident() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "--confcutdir=tests/conformance", "tests/conformance"]
    done = subprocess.run([*command, "--aws", "-k", "described"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "--aws needs --image, --role, --bucket" in done.stdout + done.stderr
