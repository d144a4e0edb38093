"""The verbs of releasing as a person uses them: real MLflow, real boto3, the local SageMaker and a tiny container."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from captioner.adapters.mlflow_registry import MlflowRegistry
from captioner.adapters.mlflow_store import database_uri
from captioner.cli import main
from captioner.paths import Paths
from tests.evaluated import good, write_candidate, write_test_set
from tests.local_aws import LocalAws, until

NAME = "captioner-sample"
Run = Callable[..., str]


@pytest.fixture
def run(
    project: Path, local_aws: LocalAws, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Runs a verb in the project and gives what it printed. "AWS itself" is the local one, under its URL."""
    local_aws.put_model()  # there is a bucket
    environment = {
        "CAPTIONER_AWS": "real",
        "CAPTIONER_AWS_ROLE": local_aws.account.role,
        "CAPTIONER_AWS_IMAGE": local_aws.image(),
        "CAPTIONER_AWS_BUCKET": local_aws.account.bucket,
        "CAPTIONER_PROGRESS": "none",
        "AWS_ENDPOINT_URL": local_aws.url,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(project)

    def verb(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        found = main(words)
        printed = capsys.readouterr()
        assert found == code, printed.out + printed.err
        return printed.err if code else printed.out

    yield verb
    client = local_aws.client("sagemaker")
    if any(one["EndpointName"] == NAME for one in client.list_endpoints()["Endpoints"]):
        client.delete_endpoint(EndpointName=NAME)
    s3, bucket = local_aws.client("s3"), local_aws.account.bucket
    for one in s3.list_objects_v2(Bucket=bucket, Prefix="ledger").get("Contents") or []:
        s3.delete_object(Bucket=bucket, Key=one["Key"])


def candidates(paths: Paths) -> tuple[str, str]:
    """Two evaluated candidates, the second one better. Gives their digests."""
    write_test_set(paths)
    worse = write_candidate(paths, "merge", lambda n: f"a yellow car {n % 7}" if n % 6 == 0 else good(n))
    return worse, write_candidate(paths, "attention")


def test_a_release_from_registration_to_rollback(
    run: Run, paths: Paths, local_aws: LocalAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    worse, better = candidates(paths)
    assert "The ledger is empty" in run("ledger")
    run("register", "--reason", "the first two")
    run("deploy")
    assert run("reconcile").startswith(f"{NAME}: already as the registry wants it, nothing changed")

    promoted = json.loads(run("promote", "--reason", "CIDEr", "--json"))["entry"]
    assert promoted["evidence"]["challenger"]["gate"] == "passed"
    checks = promoted["evidence"]["gate report"]["2"]["checks"]
    assert {one["name"] for one in checks} >= {"parity", "non-inferiority"}
    assert promoted["verified"]["champion"]["digest"] == better
    assert invoked(local_aws) == better

    entries = json.loads(run("ledger", "--json"))
    assert [one["action"] for one in entries] == ["register", "deploy", "promote"]
    assert [one["why"] for one in entries] == ["the first two", "", "CIDEr"]
    assert [one["number"] for one in entries] == [1, 2, 3]
    table = run("ledger", "-n", "1").splitlines()
    assert len(table) == 2
    assert "champion 1 → 2" in table[1]

    assert "has no challenger to promote" in run("promote", code=2)
    assert "verified: champion was asked" in run("rollback", "--reason", "it lies")
    assert invoked(local_aws) == worse
    assert "no entry 40; it has 1 to 4" in run("rollback", "--to", "40", code=2)

    traced = json.loads(run("trace", "champion", "--json"))["traces"][0]
    links = {one["what"]: one for one in traced["links"]}
    assert links["artifact"]["known"]["sha256"] == worse
    assert links["released"]["known"]["why"] == "it lies"
    assert "no git repository" in links["commit"]["broken"]
    line = json.dumps({"image": "a.jpg", "caption": "a dog", "model": {"version": "2", "digest": better}})
    monkeypatch.setattr("sys.stdin", io.StringIO(line + "\n"))
    assert better in run("trace", "-")


def test_a_promotion_that_is_killed_is_finished_by_reconcile(run: Run, paths: Paths, local_aws: LocalAws) -> None:
    """SIGKILL, to the real process, as soon as the registry has the new champion and the endpoint does not."""
    _, better = candidates(paths)
    run("register")
    run("deploy")
    command = [sys.executable, "-m", "captioner", "promote", "--reason", "before lunch"]
    registry = MlflowRegistry(database_uri(paths), paths)
    with subprocess.Popen(command, cwd=paths.root) as promotion:

        def moved() -> bool:
            champion = registry.by_alias(NAME, "champion")
            return champion is not None and champion.version == "2"

        until(moved, "the alias to move")
        promotion.kill()
    assert promotion.returncode == -9
    assert "unfinished: promote by" in run("reconcile", "--dry-run")
    assert "promote by" in run("reconcile")
    entry = json.loads(run("ledger", "--json"))[-1]
    assert (entry["action"], entry["why"]) == ("promote", "before lunch")
    assert entry["verified"]["champion"]["digest"] == better
    assert invoked(local_aws) == better
    assert "nothing changed" in run("reconcile")


def invoked(aws: LocalAws) -> str:
    """The digest of whoever answers as champion."""
    answer: Any = aws.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=NAME, Body=b"a picture", ContentType="image/png", TargetVariant="champion"
    )
    digest: str = json.loads(answer["Body"].read())["model"]["digest"]
    return digest


def test_a_registration_without_aws_waits_and_is_delivered(
    run: Run, paths: Paths, monkeypatch: pytest.MonkeyPatch, local_aws: LocalAws
) -> None:
    candidates(paths)
    monkeypatch.setenv("CAPTIONER_AWS", "local")  # and it is not up
    run("register", "--reason", "on a train")
    said = run("ledger", code=2)
    assert "captioner up" in said
    assert "wait on this machine" in said
    monkeypatch.setenv("CAPTIONER_AWS", "real")
    (entry,) = [one for one in json.loads(run("ledger", "--json")) if one["why"] == "on a train"]
    assert entry["number"] >= 1
    assert entry["after"]["endpoint"] is None


def test_bad_words_are_refused_in_a_sentence(run: Run) -> None:
    assert "1 or more" in run("ledger", "-n", "0", code=2)
    assert "There is nothing to trace" in run("trace", " ", code=2)
    assert "no line of a caption log" in run("trace", "{oops", code=2)
