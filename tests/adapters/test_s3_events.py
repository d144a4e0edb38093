"""Logs of JSON lines in the S3 of a running local AWS, and in the fake: the same contract."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from captioner.adapters.s3_events import S3Events
from captioner.paths import Paths
from captioner.ports import Events
from captioner.settings import Settings
from tests.fakes import FakeEvents
from tests.local_aws import LocalAws

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["s3", "fake"])
def events(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Events:
    if request.param == "fake":
        return FakeEvents(clock)
    aws: LocalAws = request.getfixturevalue("local_aws")
    settings = Settings.from_env(tmp_path, {})
    return S3Events(settings, Paths.of(tmp_path, settings), aws.account, clock)


@pytest.fixture
def name() -> str:
    return f"captioner-{uuid.uuid4().hex}"


def test_lines_are_read_as_they_were_written(events: Events, name: str) -> None:
    lines = [{"id": "1", "said": "schön"}, {"id": "2", "said": 'a "line"\nand another'}]
    key = events.write("exposures", name, lines)
    assert events.keys("exposures", name, NOON) == [key]
    assert list(events.lines([key])) == [lines]


def test_keys_begin_a_little_before_what_is_asked_for(events: Events, name: str, clock: Clock) -> None:
    keys = []
    for hour in range(3):
        clock.now = NOON + timedelta(hours=hour)
        keys.append(events.write("feedback", name, [{"hour": hour}]))
    assert events.keys("feedback", name, NOON) == keys
    assert events.keys("feedback", name, NOON + timedelta(hours=1)) == keys[1:]
    assert events.keys("feedback", name, NOON + timedelta(minutes=4)) == keys
    assert events.keys("feedback", name, NOON + timedelta(minutes=6)) == keys[1:]
    for earlier in (timedelta(hours=1), timedelta(days=40), timedelta(days=400)):
        assert events.keys("feedback", name, NOON - earlier) == keys
    assert events.keys("feedback", name, NOON + timedelta(days=1)) == []
    assert events.keys("exposures", name, NOON) == []


def test_many_writers_lose_nothing(events: Events, name: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: events.write("exposures", name, [{"number": number}]), range(40)))
    read = [line["number"] for lines in events.lines(events.keys("exposures", name, NOON)) for line in lines]
    assert sorted(read) == list(range(40))
