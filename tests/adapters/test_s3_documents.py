"""Shared documents in the S3 of a running local AWS, and in the fake: the same contract."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from captioner.adapters.s3_documents import S3Documents
from captioner.errors import BadData
from captioner.paths import Paths
from captioner.ports import Documents
from captioner.settings import Settings
from tests.fakes import FakeDocuments
from tests.local_aws import LocalAws


@pytest.fixture(params=["s3", "fake"])
def documents(request: pytest.FixtureRequest, tmp_path: Path) -> Documents:
    if request.param == "fake":
        return FakeDocuments()
    aws: LocalAws = request.getfixturevalue("local_aws")
    settings = Settings.from_env(tmp_path, {})
    return S3Documents(settings, Paths.of(tmp_path, settings), aws.account)


@pytest.fixture
def key() -> str:
    return f"documents/{uuid.uuid4().hex}.json"


def test_a_document_is_read_as_it_was_written(documents: Documents, key: str) -> None:
    value = {"shares": {"champion": 0.9}, "note": "für später"}
    assert documents.read(key) is None
    assert documents.create(key, value)
    found = documents.read(key)
    assert found is not None
    assert found.value == value


def test_only_the_first_writer_creates(documents: Documents, key: str) -> None:
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(lambda number: documents.create(key, {"writer": number}), range(16)))
    assert won.count(True) == 1
    found = documents.read(key)
    assert found is not None
    assert found.value == {"writer": won.index(True)}


def test_a_document_that_changed_meanwhile_is_not_written_over(documents: Documents, key: str) -> None:
    documents.create(key, 1)
    seen = documents.read(key)
    assert seen is not None
    assert documents.replace(key, 2, seen.tag)
    assert not documents.replace(key, 3, seen.tag)
    found = documents.read(key)
    assert found is not None
    assert found.value == 2


def test_what_is_not_there_is_not_replaced(documents: Documents, key: str) -> None:
    assert not documents.replace(key, 1, '"0123456789abcdef0123456789abcdef"')
    assert documents.read(key) is None


def test_keys_come_sorted(documents: Documents, key: str) -> None:
    folder = key.removesuffix(".json")
    for name in ("00000002", "00000010", "00000001"):
        documents.create(f"{folder}/{name}.json", {})
    assert documents.keys(f"{folder}/") == [f"{folder}/{name}.json" for name in ("00000001", "00000002", "00000010")]
    assert documents.keys(f"{folder}-none/") == []


def test_what_is_not_json_is_said(local_aws: LocalAws, tmp_path: Path, key: str) -> None:
    settings = Settings.from_env(tmp_path, {})
    documents = S3Documents(settings, Paths.of(tmp_path, settings), local_aws.account)
    documents.create(key, 1)
    local_aws.client("s3").put_object(Bucket=local_aws.account.bucket, Key=key, Body=b"<html>")
    with pytest.raises(BadData, match="is not JSON"):
        documents.read(key)
