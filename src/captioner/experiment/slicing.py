"""The difference by day, for novelty that wears off, and by slice, corrected for looking at many.

Each is compared as a whole experiment is, from its own ratings only. By day nothing is corrected: it is a picture, and
no verdict reads it. Slices have intervals that hold for all of them together (Bonferroni), and always-valid p-values
that are adjusted (Holm), so a slice is not believed for being the worst of twenty.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from captioner.experiment.contrast import Floats, Path, Values, path
from captioner.experiment.joined import Joined
from captioner.experiment.sequences import Sequence

_DAY = 86400.0
_VALUES = 20  # of one fact: rarer ones are not shown


def by_day(ratings: Values, sequence: Sequence, fewest: int) -> list[Mapping[str, Any]]:
    """One row for each day (UTC) with ratings of both arms: what was said on that day alone."""
    days = np.floor(ratings.at / _DAY)
    found: list[Mapping[str, Any]] = []
    for day in np.unique(days):
        own = path(ratings.where(days == day), [np.inf])
        if np.isfinite(own.difference[0]):
            name = datetime.fromtimestamp(float(day * _DAY), UTC).date().isoformat()
            found.append({"day": name, **_row(own, sequence, fewest)})
    return found


def by_fact(data: Joined, facts: Iterable[str], sequence: Sequence, fewest: int) -> list[Mapping[str, Any]]:
    """One row for each value of each of `facts`; `adjusted` is the p-value after Holm, None with too few users."""
    rated = np.flatnonzero(np.isfinite(data.rating))
    ratings = data.ratings
    parts: list[tuple[str, str, Path]] = []
    for fact in facts:
        said = np.array([data.facts[row].get(fact, "") for row in rated], dtype=object)
        names, counts = np.unique(said.astype(str), return_counts=True)
        common = names[np.argsort(-counts, kind="stable")][:_VALUES]
        for name in sorted(common[common != ""]):
            own = path(ratings.where(said == name), [np.inf])
            if np.isfinite(own.difference[0]):
                parts.append((fact, str(name), own))
    tested = [number for number, (_, _, own) in enumerate(parts) if own.users[0].min() >= fewest]
    strict = sequence.at(sequence.alpha / max(1, len(tested)))
    p_values = [float(sequence.p_value(parts[one][2].difference[0], parts[one][2].information[0])) for one in tested]
    adjusted = dict(zip(tested, holm(np.array(p_values)), strict=True))
    return [
        {"slice": fact, "value": name, **_row(own, strict, fewest), "adjusted": adjusted.get(number)}
        for number, (fact, name, own) in enumerate(parts)
    ]


def holm(p_values: Floats) -> list[float]:
    """Holm's (1979) adjusted p-values, in the order given."""
    order = np.argsort(p_values, kind="stable")
    steps = np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1))
    found = np.empty(len(order))
    found[order] = np.minimum(steps, 1.0)
    return [float(one) for one in found]


def _row(own: Path, sequence: Sequence, fewest: int) -> dict[str, Any]:
    difference, users = float(own.difference[0]), own.users[0]
    radius = float(sequence.radius(own.information[0])) if users.min() >= fewest else None
    return {
        "users": int(users.sum()),
        "difference": difference,
        "low": None if radius is None else difference - radius,
        "high": None if radius is None else difference + radius,
    }
