"""Sample ratio mismatch: do as many users meet the challenger as were meant to, checked at every look.

A test of Lindon & Malek (2022, "Anytime-valid inference for multinomial count data") for one share that changes: given
the share under which a user came first, the arm is a coin of that probability. The alternative moves the log odds of
every coin by the same amount, with a normal mixture over amounts on a grid: a product of likelihood ratios, so exact at
any number of users, and a ramp does not trip it. Knows nothing of what users said.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_SHIFTS = np.linspace(-3.0, 3.0, 121)
_SPREAD = 0.5  # of the log odds: 50 % meant and 62 % met is one of it


@dataclass(frozen=True)
class Ratio:
    """The challenger's share of users, expected and observed; `p_value` holds at any look."""

    expected: float | None
    observed: float | None
    p_value: float
    ok: bool


def sample_ratio(share: npt.ArrayLike, challenger: npt.ArrayLike, alpha: float, looks: int = 200) -> Ratio:
    """Check users in the order in which they came: `share` (the challenger's at that moment) and whether they met it.

    Both are [users]. Who came while the share was 0 or 1 tells nothing. A mismatch that was once shown stays shown.
    """
    meant, met = np.asarray(share, np.float64), np.asarray(challenger, bool)
    inside = (meant > 0) & (meant < 1)
    meant, met = meant[inside], met[inside]
    if not len(meant):
        return Ratio(None, None, 1.0, True)
    largest = float(log_evidence(meant, met, looks).max())
    p_value = float(np.exp(-max(largest, 0.0)))
    return Ratio(float(meant.mean()), float(met.mean()), p_value, p_value > alpha)


def log_evidence(share: Floats, challenger: npt.NDArray[np.bool_], looks: int) -> Floats:
    """Log of the evidence against the meant shares, after each of `looks` equal portions of the users."""
    shares, stratum = np.unique(share, return_inverse=True)
    ends = np.unique(np.linspace(0, len(share), min(looks, len(share)) + 1).astype(np.int64))[1:]
    column = np.searchsorted(ends, np.arange(len(share)), side="right")
    counts = np.zeros((2, len(ends), len(shares)))
    np.add.at(counts, (challenger.astype(np.int64), column, stratum.reshape(-1)), 1.0)
    met = np.cumsum(counts, axis=1)  # [arm, looks, shares]
    odds = np.log(shares / (1 - shares))[:, None] + _SHIFTS
    to_challenger = -np.logaddexp(0.0, -odds) - np.log(shares)[:, None]  # log of probability over meant probability
    to_champion = -np.logaddexp(0.0, odds) - np.log1p(-shares)[:, None]
    likelihood = met[1] @ to_challenger + met[0] @ to_champion  # [looks, shifts]
    weight = -0.5 * (_SHIFTS / _SPREAD) ** 2
    weight -= np.logaddexp.reduce(weight)
    return np.asarray(np.logaddexp.reduce(likelihood + weight, axis=1))
