"""What is logged of an experiment, one JSON line each: what users were shown, and what they said of it.

The lines lie in S3 under ``exposures/ENDPOINT/`` and ``feedback/ENDPOINT/``, by the hour that they were written in.
Both are joined by the inference id. Users are pseudonyms: a keyed hash of whatever told them apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from captioner.errors import BadData

EXPOSURES, FEEDBACK = "exposures", "feedback"


@dataclass(frozen=True)
class Exposure:
    """One picture that a user sent, and what came back. `at` is UTC, ISO 8601, to the millisecond.

    `experiment` is "" where none was running, `assigned` then too. `share` is the challenger's at that moment.
    `variant` answered ("" when nobody did: `status` says how it failed); it is not the assigned one when that was
    down (`fallback`: an error of the assigned one) or when a tester asked for another (`override`: not counted).
    `latency_ms` is the endpoint's, as the router measured it. `facts` are what slices are made of: {"type": "jpeg"}.
    """

    inference_id: str
    at: str
    user: str
    variant: str
    status: int
    latency_ms: float
    experiment: str = ""
    assigned: str = ""
    share: float = 0.0
    fallback: bool = False
    override: bool = False
    version: str = ""  # of the model that answered
    digest: str = ""
    caption: str = ""
    log_probability: float | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Feedback:
    """What a user said of one caption: a rating from 1 to 5, a better caption, or both.

    The last word of each counts.
    """

    inference_id: str
    at: str
    user: str
    rating: int | None = None
    correction: str | None = None


Event = TypeVar("Event", Exposure, Feedback)


def as_line(event: Exposure | Feedback) -> dict[str, Any]:
    """What is logged."""
    return asdict(event)


def event_of(kind: type[Event], line: Any) -> Event:
    """What was logged; members of a later version are left out. Raises BadData for what is no such event."""
    known = {one.name for one in fields(kind)}
    try:
        return kind(**{name: value for name, value in line.items() if name in known})
    except (AttributeError, TypeError):
        raise BadData(f"A line of the log is no {kind.__name__.lower()}.") from None


def last_words(feedback: Iterable[Feedback]) -> dict[str, Feedback]:
    """By inference id: the last rating and the last correction that were given, whichever order they came in."""
    found: dict[str, Feedback] = {}
    for one in sorted(feedback, key=lambda each: (each.at, each.inference_id)):
        before = found.get(one.inference_id)
        rating = one.rating if one.rating is not None or before is None else before.rating
        correction = one.correction if one.correction is not None or before is None else before.correction
        found[one.inference_id] = Feedback(one.inference_id, one.at, one.user, rating, correction)
    return found
