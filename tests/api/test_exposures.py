"""The exposure buffer: everything once, in order, whatever the log does meanwhile."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from captioner.api.exposures import BATCH, Exposures
from captioner.experiment.events import Exposure
from tests.api.conftest import NAME, UnsureEvents, until


class Told:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    def names(self) -> list[str]:
        return [name for name, _ in self.events]


def exposure(number: int) -> Exposure:
    return Exposure(f"id-{number}", "2026-11-26T10:00:00.000Z", "user", "champion", 200, 1.0)


def ids(events: UnsureEvents) -> list[str]:
    return [line["inference_id"] for line in events.all("exposures")]


def made(events: UnsureEvents, told: Told | None = None, **options: Any) -> Exposures:
    return Exposures(events, NAME, told or Told(), **{"wait_s": 0.01, "retry_s": 0.01, **options})


def test_a_thread_writes_what_has_waited_long_enough() -> None:
    events = UnsureEvents()
    buffer = made(events)
    buffer.start()
    buffer.add(exposure(1))
    until(lambda: ids(events) == ["id-1"])
    for number in range(2, 5):
        buffer.add(exposure(number))
    until(lambda: ids(events) == [f"id-{n}" for n in range(1, 5)])
    buffer.close()
    assert ids(events) == [f"id-{n}" for n in range(1, 5)]


def test_many_are_a_few_objects() -> None:
    events = UnsureEvents()
    buffer = made(events)
    for number in range(2 * BATCH + 1):
        buffer.add(exposure(number))
    assert buffer.flush()
    assert events.writes == 3
    assert ids(events) == [f"id-{n}" for n in range(2 * BATCH + 1)]
    assert buffer.flush()
    assert events.writes == 3  # nothing is no object


def test_size_is_not_waited_for() -> None:
    events = UnsureEvents()
    buffer = made(events, wait_s=3600)
    buffer.start()
    for number in range(BATCH):
        buffer.add(exposure(number))
    until(lambda: len(ids(events)) == BATCH)
    buffer.close()


def test_a_log_that_cannot_be_written_to_costs_nothing() -> None:
    events, told = UnsureEvents(), Told()
    events.down = True
    buffer = made(events, told)
    buffer.start()
    buffer.add(exposure(1))
    until(lambda: events.writes >= 2)
    buffer.add(exposure(2))
    events.down = False
    until(lambda: ids(events) == ["id-1", "id-2"])
    buffer.close()
    assert ids(events) == ["id-1", "id-2"]
    assert set(told.names()) == {"exposures_kept"}


def test_memory_is_bounded_and_what_is_lost_is_said() -> None:
    events, told = UnsureEvents(), Told()
    events.down = True
    buffer = made(events, told, most=10)
    for number in range(13):
        buffer.add(exposure(number))
    assert [fields["count"] for name, fields in told.events if name == "exposures_lost"] == [1, 1, 1]
    events.down = False
    assert buffer.flush()
    assert ids(events) == [f"id-{n}" for n in range(3, 13)]


def test_what_cannot_be_written_at_the_end_is_delivered_by_the_next_process(tmp_path: Path) -> None:
    events, told = UnsureEvents(), Told()
    events.down = True
    buffer = made(events, told, outbox=tmp_path)
    for number in range(3):
        buffer.add(exposure(number))
    buffer.close(patience_s=0.05)
    assert told.names()[-1] == "exposures_left"
    assert ids(events) == []

    again = made(events, told, outbox=tmp_path)  # the log is still down
    again.start()
    until(lambda: "exposures_kept" in told.names()[-1:])
    events.down = False
    again.add(exposure(3))  # the first that can be written brings the others
    until(lambda: len(ids(events)) == 4)
    again.close()
    assert sorted(ids(events)) == [f"id-{n}" for n in range(4)]
    assert list(tmp_path.iterdir()) == []


def test_two_processes_deliver_it_once(tmp_path: Path) -> None:
    events = UnsureEvents()
    events.down = True
    first = made(events, outbox=tmp_path)
    first.add(exposure(1))
    first.close(patience_s=0.05)
    events.down = False
    both = [made(events, outbox=tmp_path) for _ in range(4)]
    for one in both:
        one.start()
    for one in both:
        one.close()
    assert ids(events) == ["id-1"]


def test_without_an_outbox_the_loss_is_said() -> None:
    events, told = UnsureEvents(), Told()
    events.down = True
    buffer = made(events, told)
    buffer.add(exposure(1))
    buffer.close(patience_s=0.05)
    assert told.events[-1][0] == "exposures_lost"
    assert told.events[-1][1]["count"] == 1


def test_adding_from_many_threads_while_it_is_written_loses_and_doubles_nothing() -> None:
    events = UnsureEvents()
    buffer = made(events, wait_s=0.0)
    buffer.start()
    threads = [
        threading.Thread(target=lambda at=at: [buffer.add(exposure(1000 * at + n)) for n in range(300)])
        for at in range(8)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    buffer.close()
    assert sorted(ids(events)) == sorted(f"id-{1000 * at + n}" for at in range(8) for n in range(300))
