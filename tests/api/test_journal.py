"""The journal: nothing is lost, whatever S3 does meanwhile; and no more memory than was agreed."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from captioner.api import journal as module
from captioner.api.journal import Journal
from captioner.errors import ServiceUnavailable
from captioner.experiment.events import EXPOSURES, FEEDBACK, Exposure, Feedback
from tests.fakes import FakeEvents


class Broken(FakeEvents):
    """S3 that can be away."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.tried = threading.Event()

    def write(self, kind: str, name: str, lines: Sequence[Mapping[str, Any]]) -> str:
        self.tried.set()
        if self.away:
            raise ServiceUnavailable("S3 is away.")
        return super().write(kind, name, lines)

    def ids(self, kind: str) -> list[str]:
        return [line["inference_id"] for key, lines in self.kept.items() if key.startswith(kind) for line in lines]


def shown(number: int) -> Exposure:
    return Exposure(f"i{number}", "2026-01-01T00:00:00.000Z", "u", "champion", 200, 1.0)


def test_what_gathers_is_written_together_and_at_the_end() -> None:
    events = Broken()
    journal = Journal(events, "captioner-sample", gather_s=3600)
    for number in range(2500):
        journal.show(shown(number))
    journal.close()
    assert events.ids(EXPOSURES) == [f"i{number}" for number in range(2500)]
    assert max(len(lines) for lines in events.kept.values()) == module.OBJECT


def test_what_could_not_be_written_is_written_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.01)
    events = Broken()
    events.away = True
    journal = Journal(events, "captioner-sample", gather_s=0.01)
    journal.show(shown(1))
    assert events.tried.wait(10)
    journal.show(shown(2))
    events.away = False
    journal.close()
    assert events.ids(EXPOSURES) == ["i1", "i2"]


def test_a_flush_that_fails_keeps_what_waits_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    events = Broken()
    events.away = True
    journal = Journal(events, "captioner-sample", gather_s=3600)
    journal.show(shown(1))
    assert not journal.try_flush()  # as in Lambda, where it comes before the answer, which must not fail of it
    assert json.loads(capsys.readouterr().err)["waiting"] == 1
    events.away = False
    assert journal.try_flush()
    assert events.ids(EXPOSURES) == ["i1"]
    journal.close()


def test_feedback_is_answered_when_it_is_durable_and_many_go_together() -> None:
    events = Broken()
    journal = Journal(events, "captioner-sample", gather_s=3600)

    def say(number: int) -> None:
        journal.say(Feedback(f"i{number}", "2026-01-01T00:00:00.000Z", "u", 5))
        assert f"i{number}" in events.ids(FEEDBACK)

    threads = [threading.Thread(target=say, args=(number,)) for number in range(20)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(20)
    journal.close()
    assert sorted(events.ids(FEEDBACK)) == sorted(f"i{number}" for number in range(20))


def test_feedback_that_cannot_be_stored_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEEDBACK_S", 0.05)
    monkeypatch.setattr(module, "PAUSE_S", 0.01)
    events = Broken()
    events.away = True
    journal = Journal(events, "captioner-sample", gather_s=0.01)
    with pytest.raises(ServiceUnavailable, match="send it again"):
        journal.say(Feedback("i1", "2026-01-01T00:00:00.000Z", "u", 5))
    events.away = False
    journal.close()
    assert events.ids(FEEDBACK) == []


def test_memory_has_a_limit_and_what_is_dropped_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    monkeypatch.setattr(module, "CLOSE_S", 0.0)
    events = Broken()
    events.away = True
    journal = Journal(events, "captioner-sample", gather_s=3600)
    for number in range(5):
        journal.show(shown(number))
    assert journal.dropped == 2
    journal.close()
    assert journal.dropped == 5
    said = capsys.readouterr().err
    assert "exposure dropped" in said
    assert "exposures dropped" in said
