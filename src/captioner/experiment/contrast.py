"""Challenger minus champion: the difference of users' means within shares, and how much is known of it, look by look.

A user's ratings are averaged first, so that one who rates a hundred times counts as one. Arms are compared within the
users who came under one share, and these differences are averaged: what was rated while the challenger had 5 % is never
set against what was rated when it had 50 %, so neither a ramp nor ratings that drift can pass for an effect. A user who
comes under several shares has a mean in each, also when a ramp moves them in between; the variance is that of users'
sums over all their means (as in a survey with clusters), so nobody counts as two. Knows nothing of verdicts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
_FEWEST = 2  # users in each arm under one share: with one there is no variance


@dataclass(frozen=True)
class Values:
    """What is compared, one row for each rating (or request): all arrays are [rows].

    `user` and `stratum` (the share it was given under) are small integers, `arm` is 0 for the champion and 1 for the
    challenger, `at` is in seconds. `span`: how far apart two values can be.
    """

    user: Integers
    arm: Integers
    stratum: Integers
    value: Floats
    at: Floats
    span: float

    def where(self, chosen: npt.NDArray[np.bool_] | Integers) -> Values:
        """Some of the rows."""
        return Values(
            self.user[chosen], self.arm[chosen], self.stratum[chosen], self.value[chosen], self.at[chosen], self.span
        )

    def __len__(self) -> int:
        return len(self.value)


@dataclass(frozen=True)
class Path:
    """What was known at each look: all arrays are [looks]; NaN, and no information, before there is a comparison.

    `users`: who are in it, by arm [looks, 2]: one who moved is in both. `means` [looks, 2] are averaged over shares
    with the same weights, so that they differ by `difference`.
    """

    difference: Floats
    information: Floats
    means: Floats
    users: Integers


def path(values: Values, looks: npt.ArrayLike) -> Path:
    """The comparison at each of `looks` (times, rising), from the rows until then. Each row is looked at once."""
    moments = np.asarray(looks, np.float64)
    rows = values.where(np.argsort(values.at, kind="stable"))
    strata = int(rows.stratum.max()) + 1 if len(rows) else 1
    cell, first = _numbered((rows.user * 2 + rows.arm) * strata + rows.stratum)
    user, group = _numbered(rows.user[first])[0], (rows.arm * strata + rows.stratum)[first]
    arm_of_user = rows.user[first] * 2 + rows.arm[first]
    fresh = _first_time(arm_of_user)  # cells that bring a user into an arm
    known, running = np.zeros(len(first)), _running_means(rows.value, cell)
    cells = np.maximum.accumulate(cell) + 1 if len(cell) else cell
    found = Path(
        np.full(len(moments), np.nan),
        np.zeros(len(moments)),
        np.full((len(moments), 2), np.nan),
        np.zeros((len(moments), 2), np.int64),
    )
    done = 0
    for look, until in enumerate(np.searchsorted(rows.at, moments, side="right")):
        if not until:
            continue
        known[cell[done:until]] = running[done:until]  # of several, the last counts
        done, count = int(until), int(cells[until - 1])
        new = fresh[:count]
        found.users[look] = np.bincount(group[:count][new] // strata, minlength=2)
        found.difference[look], found.information[look], found.means[look] = _compared(
            known[:count], user[:count], group[:count], strata, values.span
        )
    return found


def _compared(known: Floats, user: Integers, group: Integers, strata: int, span: float) -> tuple[float, float, Floats]:
    """Difference, information and both means, from the users' means [cells] and their groups (arm * strata + stratum).

    Within a share the weight is n0 n1 / (n0 + n1), the information of equally variable users; it depends on numbers of
    users only, not on what they said.
    """
    n = np.bincount(group, minlength=2 * strata).reshape(2, strata).astype(np.float64)
    total = np.bincount(group, known, minlength=2 * strata).reshape(2, strata)
    usable = (n >= _FEWEST).all(axis=0)
    if not usable.any():
        with np.errstate(invalid="ignore"):
            return np.nan, 0.0, total.sum(axis=1) / n.sum(axis=1)
    safe = np.maximum(n, 1.0)
    weight = np.where(usable, n[0] * n[1] / np.maximum(n[0] + n[1], 1.0), 0.0)
    weight /= weight.sum()
    mean = total / safe
    means = mean @ weight
    share = weight / safe  # of one user in the mean of an arm [2, strata]
    # Each user's part in the error of the difference; n / (n - 1) makes up for means that are estimated.
    scale = share * np.sqrt(safe / np.maximum(safe - 1, 1.0)) * np.array([[-1.0], [1.0]])
    part = scale.reshape(-1)[group] * (known - mean.reshape(-1)[group])
    by_user = np.bincount(user, part)
    # As if each arm had one user more at either end: few users who all say the same do not make the variance nothing.
    floor = (span**2 / 2 * (share * weight).sum(axis=1) ** 2).sum()
    return float(means[1] - means[0]), float(1 / (by_user @ by_user + floor)), means


def _numbered(keys: Integers) -> tuple[Integers, Integers]:
    """Keys as numbers in the order of their first appearance [rows], and where that was [different keys]."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[inverse.reshape(-1)].astype(np.int64), first[order].astype(np.int64)


def _first_time(keys: Integers) -> npt.NDArray[np.bool_]:
    found = np.zeros(len(keys), bool)
    found[np.unique(keys, return_index=True)[1]] = True
    return found


def _running_means(value: Floats, cell: Integers) -> Floats:
    """For each row, in order of time: the mean of its cell's rows until and with it."""
    order = np.argsort(cell, kind="stable")
    within = np.cumsum(value[order])
    starts = np.flatnonzero(np.diff(cell[order], prepend=-1))
    lengths = np.diff(np.append(starts, len(cell)))
    before = np.repeat(within[starts] - value[order][starts], lengths) if len(cell) else within
    position = np.arange(len(cell)) - np.repeat(starts, lengths) + 1
    found = np.empty_like(value)
    found[order] = (within - before) / position
    return found
