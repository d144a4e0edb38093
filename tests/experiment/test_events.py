"""Events: lines of a log and back, and which word of a user is the last."""

from __future__ import annotations

import json

import pytest

from captioner.errors import BadData
from captioner.experiment.events import Exposure, Feedback, as_line, event_of, last_words

SHOWN = Exposure("i1", "2026-01-01T00:00:00.000Z", "u1", "champion", 200, 12.5, facts={"type": "jpeg"})


def test_a_line_is_read_as_it_was_written() -> None:
    assert event_of(Exposure, json.loads(json.dumps(as_line(SHOWN)))) == SHOWN
    assert event_of(Exposure, {**as_line(SHOWN), "of a later version": 1}) == SHOWN


@pytest.mark.parametrize("line", [None, "text", [], {}, {"inference_id": "i1"}])
def test_what_is_no_event_is_refused(line: object) -> None:
    with pytest.raises(BadData, match="no exposure"):
        event_of(Exposure, line)


def test_the_last_rating_and_the_last_correction_count_whatever_their_order() -> None:
    said = [
        Feedback("i1", "2026-01-01T00:00:02.000Z", "u1", rating=2),
        Feedback("i1", "2026-01-01T00:00:01.000Z", "u1", rating=5),
        Feedback("i1", "2026-01-01T00:00:03.000Z", "u1", correction="a dog"),
        Feedback("i2", "2026-01-01T00:00:01.000Z", "u2", rating=4),
    ]
    found = last_words(said)
    assert (found["i1"].rating, found["i1"].correction, found["i1"].at) == (2, "a dog", "2026-01-01T00:00:03.000Z")
    assert found["i2"].rating == 4
    assert last_words(reversed(said)) == found
