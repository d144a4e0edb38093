"""Exposures and feedback joined into columns, one row for each exposure that counts; the others are counted by reason.

What counts, and as whose:

- An exposure counts for the arm that its user was assigned to, once for each inference id (logs may repeat lines).
- A tester's (override) does not; nor does a picture that was refused (4xx), which is no variant's fault.
- One that failed (5xx), or that the champion answered because the challenger was down (fallback), is a failure of the
  assigned arm, for the guardrail on errors; its latency and what users said of it belong to no arm.
- Of several ratings, or corrections, of one caption the last counts. A correction that changes no word is none.
- A user whom a ramp moved counts in both arms, each with what was shown there (`contrast.py` says why that is fair).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from captioner.experiment.contrast import Floats, Integers, Values
from captioner.experiment.document import Experiment
from captioner.experiment.editing import edit_distance
from captioner.experiment.events import Exposure, Feedback, last_words
from captioner.ledger import CHALLENGER

RATING_SPAN = 4.0  # from 1 to 5
_REFUSED, _FAILED = 400, 500
_COLUMNS = ("user", "arm", "share", "at", "said_at", "failed", "latency_ms", "rating", "distance")


@dataclass(frozen=True)
class Joined:
    """Columns [exposures], in order of time; `shares` [strata] are the challenger's shares that `stratum` points to.

    NaN: not rated, not corrected (`distance`), not answered by its arm (`latency_ms`). `said_at` is when the rating or
    the correction came, or that of the exposure.
    """

    user: Integers
    arm: Integers
    stratum: Integers
    at: Floats
    said_at: Floats
    failed: npt.NDArray[np.bool_]
    latency_ms: Floats
    rating: Floats
    distance: Floats
    facts: list[Mapping[str, str]]
    shares: Floats
    excluded: Mapping[str, int]

    def values(self, column: Floats, span: float, at: Floats | None = None) -> Values:
        """The rows in which `column` is known, to be compared."""
        times = self.at if at is None else at
        whole = Values(self.user, self.arm, self.stratum, column, times, span)
        return whole.where(np.isfinite(column))

    @property
    def ratings(self) -> Values:
        return self.values(self.rating, RATING_SPAN, self.said_at)

    def __len__(self) -> int:
        return len(self.user)


def joined(
    experiment: Experiment, exposures: Iterable[Exposure], feedback: Iterable[Feedback], now: datetime
) -> Joined:
    """What `experiment` has seen until `now`."""
    until, excluded = now.timestamp(), Counter[str]()
    said = _said(feedback, until, excluded)
    shown = list(exposures)
    for one in shown:
        if one.experiment != experiment.id:  # of another experiment, or of none: not ours to count
            said.pop(one.inference_id, None)
    kept = _counted([one for one in shown if one.experiment == experiment.id], until, excluded)
    users: dict[str, int] = {}
    columns: dict[str, list[float]] = {name: [] for name in _COLUMNS}
    for moment, one in kept:
        word = said.pop(one.inference_id, None)
        broken = one.fallback or one.status >= _FAILED
        if word is not None and broken:
            excluded["feedback on an answer that was not the assigned variant's"] += 1
            word = None
        far = 0.0 if word is None or word.correction is None else edit_distance(one.caption, word.correction)
        row = (
            users.setdefault(one.user, len(users)),
            one.assigned == CHALLENGER,
            one.share,
            moment,
            moment if word is None else max(moment, seconds(word.at)),
            broken,
            np.nan if broken else one.latency_ms,
            np.nan if word is None or word.rating is None else word.rating,
            far or np.nan,
        )
        for name, value in zip(_COLUMNS, row, strict=True):
            columns[name].append(value)
    if said:
        excluded["feedback without an exposure that counts"] += len(said)
    shares, stratum = np.unique(np.array(columns["share"], np.float64), return_inverse=True)
    return Joined(
        user=np.array(columns["user"], np.int64),
        arm=np.array(columns["arm"], np.int64),
        stratum=stratum.reshape(-1).astype(np.int64),
        at=np.array(columns["at"], np.float64),
        said_at=np.array(columns["said_at"], np.float64),
        failed=np.array(columns["failed"], bool),
        latency_ms=np.array(columns["latency_ms"], np.float64),
        rating=np.array(columns["rating"], np.float64),
        distance=np.array(columns["distance"], np.float64),
        facts=[one.facts for _, one in kept],
        shares=shares,
        excluded=dict(sorted(excluded.items())),
    )


def seconds(at: str) -> float:
    """A time in UTC, ISO 8601, as seconds since 1970."""
    return datetime.fromisoformat(at).timestamp()


def _counted(exposures: Iterable[Exposure], until: float, excluded: Counter[str]) -> list[tuple[float, Exposure]]:
    """The exposures that count, in order of time."""
    found: list[tuple[float, Exposure]] = []
    met: set[str] = set()
    for one in sorted(exposures, key=lambda each: each.at):
        moment = seconds(one.at)
        why = ""
        if moment > until:
            why = "later than this look"
        elif one.inference_id in met:
            why = "repeated inference id"
        elif one.override:
            why = "asked for by a tester"
        elif _REFUSED <= one.status < _FAILED:
            why = "refused picture or request"
        elif one.variant != one.assigned and not (one.fallback or one.status >= _FAILED):
            why = "answered by another variant"
        met.add(one.inference_id)
        if why:
            excluded[why] += 1
        else:
            found.append((moment, one))
    return found


def _said(feedback: Iterable[Feedback], until: float, excluded: Counter[str]) -> dict[str, Feedback]:
    """The last words by inference id."""
    fit = []
    for one in feedback:
        if one.rating is not None and not 1 <= one.rating <= 5:
            excluded["rating outside 1 to 5"] += 1
        elif seconds(one.at) <= until:
            fit.append(one)
    return last_words(fit)
