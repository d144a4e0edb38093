"""What each user of an experiment met and said: the log, one row a user, because the user is the unit of a verdict.

A user belongs to the arm of the first exposure, and counts by firsts: the first request, the first caption, the first
rating, the first correction. Who moves on to the challenger in a ramp stays what they were, and what they are shown
after the move is left out, counted. (What comes later would come from the challenger's users only, and a mood or a load
that changes with time would look like a difference.) A request that the assigned variant could not answer is an error
of that variant, whoever answered instead; testers' overrides count nowhere.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import attrgetter

from captioner.experiment.document import Experiment
from captioner.experiment.events import Exposure, Feedback, last_words
from captioner.ledger import CHALLENGER

TOO_MANY = 429


@dataclass
class User:
    """One user: the arm, the challenger's share when they came, and what of theirs came first. Times are as logged."""

    challenger: bool
    share: float
    since: str
    facts: dict[str, str]
    failed: float | None = None  # 1 or 0: the first request, unless that was wrong itself
    log_ms: float | None = None  # of the first caption
    corrected: float | None = None  # 1 or 0: the first caption
    distance: float | None = None  # of the first correction
    rating: float | None = None  # of the first caption that they rated
    first_rated: str = ""
    ratings: int = 0


@dataclass
class Log:
    """Everybody who met the experiment, in the order in which they came, and what was left out, by reason."""

    users: dict[str, User] = field(default_factory=dict)
    exposures: Counter[bool] = field(default_factory=Counter)  # by whether they were the challenger's
    excluded: Counter[str] = field(default_factory=Counter)


def collect(experiment: Experiment, exposures: Iterable[Exposure], feedback: Iterable[Feedback]) -> Log:
    """Join the logs by inference id. One that comes twice counts once."""
    log, said = Log(), last_words(feedback)
    seen: set[str] = set()
    for shown in sorted(exposures, key=attrgetter("at", "inference_id")):
        if shown.experiment != experiment.id:
            continue
        if experiment.closed and shown.at > experiment.closed:
            log.excluded["after the verdict"] += 1
            continue
        if shown.inference_id in seen:
            log.excluded["logged twice"] += 1
            continue
        seen.add(shown.inference_id)
        _count(log, shown, said.pop(shown.inference_id, None))
    return log


def _count(log: Log, shown: Exposure, said: Feedback | None) -> None:
    if shown.override:
        log.excluded["a tester chose the variant"] += 1
        return
    challenger = shown.assigned == CHALLENGER
    user = log.users.get(shown.user)
    if user is None:
        user = log.users[shown.user] = User(challenger, shown.share, shown.at, dict(shown.facts))
    if user.challenger != challenger:
        log.excluded["after the user had moved on in a ramp"] += 1
        return
    log.exposures[challenger] += 1
    if shown.fallback or shown.status >= 500 or shown.status == TOO_MANY:
        user.failed = 1.0 if user.failed is None else user.failed
        if shown.fallback:
            log.excluded["answered by the champion in the challenger's place"] += 1
        return
    if shown.status != 200:
        log.excluded["the request was wrong"] += 1
        return
    user.failed = 0.0 if user.failed is None else user.failed
    corrected = said is not None and said.correction is not None
    if user.log_ms is None:
        user.log_ms, user.corrected = math.log(max(shown.latency_ms, 1.0)), float(corrected)
    if said is None:
        return
    if said.rating is not None:
        if user.rating is None:
            user.rating, user.first_rated = float(said.rating), said.at
        user.ratings += 1
    if said.correction is not None and user.distance is None:
        user.distance = word_distance(shown.caption, said.correction)


def word_distance(one: str, other: str) -> float:
    """Levenshtein's distance in words, over the longer one's number of words: 0 the same, 1 nothing in common."""
    first, second = one.lower().split(), other.lower().split()
    row = list(range(len(second) + 1))
    for number, word in enumerate(first, 1):
        left, row[0] = row[0], number
        for place, against in enumerate(second, 1):
            left, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, left + (word != against))
    return row[-1] / max(len(first), len(second), 1)
