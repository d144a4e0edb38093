"""Where to: `--endpoint-url URL`, `--aws`, or neither, for a local SageMaker that is started for the run."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.place import Place

LOCAL_ROLE = "arn:aws:iam::123456789012:role/conformance"
CONTAINER = Path(__file__).parents[1] / "tiny_container.py"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--endpoint-url", help="a SageMaker (and S3) that listens there")
    group.addoption("--aws", action="store_true", help="AWS itself: costs about a dollar; needs the next three")
    group.addoption("--image", help="URI of the image of tests/conformance/Dockerfile")
    group.addoption("--role", help="ARN of the execution role")
    group.addoption("--bucket", help="bucket for the model and for captured data")
    group.addoption("--instance-type", default="ml.m5.large")
    group.addoption("--answer-seconds", type=float, default=60, help="the limit for a container's answer there")


@pytest.fixture(scope="session")
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The account under test; whatever the tests make in it is deleted, however they end."""
    option = request.config.getoption
    url, image, answer_s, started = option("--endpoint-url"), option("--image"), option("--answer-seconds"), None
    if option("--aws"):
        missing = [name for name in ("--image", "--role", "--bucket") if not option(name)]
        if missing or url:
            pytest.exit(f"--aws needs {', '.join(missing) or 'no --endpoint-url'}.", returncode=2)
    elif not url:
        url, answer_s, started = start(tmp_path_factory.mktemp("local"))
    role, bucket = option("--role") or LOCAL_ROLE, option("--bucket") or "conformance"
    kind, wait_s = option("--instance-type"), 60 if url else 1800
    found = Place(url, image or local_image(tmp_path_factory), role, bucket, kind, answer_s, wait_s)
    try:
        yield found
    finally:
        left = found.clean_up()
        if started:
            started.terminate()
            started.wait(60)
    assert not left, left


def start(home: Path) -> tuple[str, float, subprocess.Popen[str]]:
    """A local SageMaker on a free port, whose containers have three seconds for an answer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "captioner.emulator", "--port", str(port), "--home", str(home)]
    process = subprocess.Popen(
        [*command, "--allow-local-exec", "--answer-timeout", "3"],
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    assert process.stdout
    ready = process.stdout.readline()
    assert "listens on" in ready, ready
    return f"http://127.0.0.1:{port}", 3.0, process


def local_image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of an image that is the container of this suite, as a program."""
    program = tmp_path_factory.mktemp("image") / "container"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{CONTAINER}" "$@"\n')
    program.chmod(0o755)
    return f"local-exec:{program}"


@pytest.fixture(scope="session")
def ab(place: Place) -> str:
    """An endpoint with two variants, 90 to 10."""
    first, second = place.model("ab-1", CAPTIONER_MODEL_VERSION="1"), place.model("ab-2", CAPTIONER_MODEL_VERSION="2")
    config = place.config("ab", place.variant(first, "champion", 9), place.variant(second, "challenger", 1))
    return place.in_service("ab", config)
