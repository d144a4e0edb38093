"""An API before an endpoint with two variants, as a stack of its own: what the benchmark of the API asks, and reads."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.processes import free_port, process

NAME = "captioner-benchmark"


@contextmanager
def emulator(home: Path) -> Iterator[Any]:
    """A local AWS of its own; gives its account."""
    from captioner.adapters.aws import LOCAL_BUCKET, LOCAL_IMAGE, LOCAL_REGION, LOCAL_ROLE, Account

    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "captioner.emulator", "--port", str(port), "--home", str(home / "aws")]
    with process(command, f"{url}/_captioner/health", {}, home):
        yield Account(url, LOCAL_REGION, LOCAL_ROLE, LOCAL_IMAGE, LOCAL_BUCKET)


@contextmanager
def api(aws: Any, home: Path) -> Iterator[str]:
    """`captioner api`; gives its address."""
    from captioner.records import write_json

    write_json(home / "state" / "services.json", {"aws": {"url": aws.url}})
    url = f"http://127.0.0.1:{(port := free_port())}"
    environ = {
        "CAPTIONER_HOME": str(home / "state"),
        "CAPTIONER_API_ENDPOINT": NAME,
        "CAPTIONER_API_RATE": "60000",  # the load comes from one address
    }
    command = [sys.executable, "-m", "captioner", "api", "--port", str(port)]
    with process(command, f"{url}/openapi.json", environ, home):
        yield url


def deploy(aws: Any, archive: Path) -> None:
    """Champion and challenger, both `archive`, half and half."""
    s3, sagemaker = aws.client("s3"), aws.client("sagemaker")
    s3.create_bucket(Bucket=aws.bucket)
    s3.upload_file(str(archive), aws.bucket, "models/benchmark/model.tar.gz")
    variants = []
    for number, variant in enumerate(("champion", "challenger"), start=1):
        container = {
            "Image": aws.image,
            "ModelDataUrl": f"s3://{aws.bucket}/models/benchmark/model.tar.gz",
            "Environment": {"CAPTIONER_MODEL_VERSION": str(number), "CAPTIONER_MODEL_DIGEST": f"{number:064x}"},
        }
        sagemaker.create_model(ModelName=f"m{number}", PrimaryContainer=container, ExecutionRoleArn=aws.role)
        shape = {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1, "InitialVariantWeight": 1.0}
        variants.append({"VariantName": variant, "ModelName": f"m{number}", **shape})
    sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=variants)
    sagemaker.create_endpoint(EndpointName=NAME, EndpointConfigName="c")
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=NAME, WaiterConfig={"Delay": 1, "MaxAttempts": 180})


def experiment() -> Any:
    from captioner.experiment.document import RUNNING, Experiment
    from captioner.ledger import Model

    arms = {"champion": Model("1", f"{1:064x}"), "challenger": Model("2", f"{2:064x}")}
    shares = {"champion": 0.5, "challenger": 0.5}
    return Experiment("benchmark", NAME, "salt", RUNNING, shares, arms, "2026-11-26T00:00:00Z")


def start_experiment(aws: Any) -> None:
    from captioner.experiment.document import as_document
    from captioner.release.names import experiment_key

    body = json.dumps(as_document(experiment())).encode()
    aws.client("s3").put_object(Bucket=aws.bucket, Key=experiment_key(NAME), Body=body)


def exposures(aws: Any) -> list[str]:
    """The inference ids of all captions in the log, a line each."""
    s3, found = aws.client("s3"), []
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=aws.bucket, Prefix=f"exposures/{NAME}/"):
        for one in page.get("Contents") or []:
            lines = s3.get_object(Bucket=aws.bucket, Key=one["Key"])["Body"].read().splitlines()
            found += [line["inference_id"] for line in map(json.loads, lines) if line["status"] == 200]
    return found
