"""Sample ratio mismatch: do as many users meet the challenger as the shares say? Valid at every look.

More or fewer means that something is broken (assignment, logging, a variant that loses users), and then no comparison
of the arms can be trusted. The test is a likelihood ratio against "the odds are exp(t) times those that they should
be", t mixed over a normal distribution: a martingale when nothing is wrong, so that it ever exceeds 1/alpha with
probability alpha at most (Ville). It is the sequential multinomial test of Lindon and Malek, "Anytime-Valid
Inference for Multinomial Count Data" (2022), with a tilt in place of a Dirichlet: the expected share may change in a
ramp.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

WIDTH = 0.25  # of the tilt's distribution: 50/50 against 56/44 is one standard deviation
_TILTS = np.linspace(-4.0, 4.0, 161) * WIDTH
_LOG_WEIGHTS = -0.5 * (_TILTS / WIDTH) ** 2  # up to a constant


@dataclass(frozen=True)
class SampleRatio:
    """How many users met the challenger, how many were expected to, and how surprising that is at any look."""

    expected: float
    observed: int
    p_value: float


def sample_ratio(counts: Mapping[float, tuple[int, int]]) -> SampleRatio:
    """`counts`: the challenger's share at a user's first exposure → (users, of them with the challenger)."""
    evidence = np.array(_LOG_WEIGHTS)
    expected, observed = 0.0, 0
    for share, (users, met) in counts.items():
        expected, observed = expected + share * users, observed + met
        if 0.0 < share < 1.0:
            evidence += met * _TILTS - users * np.log1p(share * np.expm1(_TILTS))
        elif met != round(share * users):
            return SampleRatio(expected, observed, 0.0)  # cannot be
    # Both sums in the same way: without evidence the ratio is 1 on every processor, not nearly.
    log_ratio = np.logaddexp.reduce(evidence) - np.logaddexp.reduce(_LOG_WEIGHTS)
    return SampleRatio(expected, observed, float(np.exp(-max(log_ratio, 0.0))))
