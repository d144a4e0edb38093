"""`captioner emulator`: one URL for every API until SIGTERM, or one sentence why not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from captioner.adapters.aws import LOCAL_BUCKET, LOCAL_REGION, LOCAL_ROLE, Account
from captioner.emulator.children import free_port
from tests.local_aws import TINY, LocalAws, model_archive, processes_of, until


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "captioner", "emulator", *options]


@contextmanager
def running(folder: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The line that it prints when it is ready, and the process."""
    environment = {**os.environ, "TMPDIR": str(folder)}
    with subprocess.Popen(command(*options), stdout=subprocess.PIPE, text=True, env=environment, cwd=folder) as process:
        assert process.stdout
        try:
            line = process.stdout.readline().strip()
            assert line, "it ended without a word; why is on standard error"
            yield line, process
        finally:
            process.terminate()


def account(url: str) -> Account:
    return Account(url, LOCAL_REGION, LOCAL_ROLE, "local/captioner:latest", LOCAL_BUCKET)


def test_an_image_may_be_any_program_and_the_state_is_kept(tmp_path: Path) -> None:
    """The whole way with the verb: ready, S3, a model, an endpoint of a foreign image, an answer, SIGTERM, again."""
    port, state = free_port(), tmp_path / "state"
    program = tmp_path / "tiny"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{TINY}" "$@"\n')
    program.chmod(0o755)
    options = ("--port", str(port), "--state", str(state), "--image", f"registry.example/tiny={program}")
    url = f"http://127.0.0.1:{port}"
    with running(tmp_path, *options) as (line, process):
        assert line == f"The local AWS listens on {url}"
        s3, sagemaker = account(url).client("s3"), account(url).client("sagemaker")
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="model.tar.gz", Body=model_archive({"1/x": b"x"}))
        container = {"Image": "registry.example/tiny:7", "ModelDataUrl": "s3://bucket/model.tar.gz"}
        sagemaker.create_model(ModelName="m", PrimaryContainer=container)
        variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
        sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="c")
        sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="e", WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        answer = account(url).client("sagemaker-runtime").invoke_endpoint(EndpointName="e", Body=b"x")
        assert b"a tiny answer" in answer["Body"].read()
        (image,) = sagemaker.describe_endpoint(EndpointName="e")["ProductionVariants"][0]["DeployedImages"]
        assert image["ResolvedImage"].startswith("registry.example/tiny@sha256:")
        process.terminate()
        assert process.wait(60) == 0
    assert processes_of(state) == []
    assert (state / "sagemaker.json").exists()


def test_without_a_folder_nothing_is_left(tmp_path: Path) -> None:
    temporary = tmp_path / ("d" * 100)  # longer than the path of a Unix socket may be: 107 bytes
    temporary.mkdir()
    with running(temporary, "--port", "0") as (line, process):
        url = line.removeprefix("The local AWS listens on ")
        assert account(url).client("sts").get_caller_identity()["Account"] == "123456789012"
        account(url).client("s3").create_bucket(Bucket="bucket")
        assert len(list(temporary.iterdir())) == 1
        process.terminate()
        assert process.wait(60) == 0
    until(lambda: not list(temporary.iterdir()), "the temporary folder to be gone")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--port", "99999"), "99999 is not a port"),
        (("--port", "0", "--time-scale", "0"), "must be larger than 0"),
        (("--port", "0", "--image", "x=/no/such/program"), "--image takes NAME=PROGRAM"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    done = subprocess.run(command(*options), capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_taken_port_is_said_in_one_sentence(local_aws: LocalAws, tmp_path: Path) -> None:
    options = command("--port", str(local_aws.port), "--state", str(tmp_path / "state"))
    done = subprocess.run(options, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr.strip()
        == f"captioner: Port {local_aws.port} cannot be used: Address already in use; choose another."
    )
