"""Intervals that hold at every look: an asymptotic confidence sequence for a difference between two arms.

A user i, who meets the challenger with probability p_i and brings the outcome Y_i, counts as

    phi_i = A_i (Y_i - m_i) / p_i - (1 - A_i) (Y_i - m_i) / (1 - p_i)

whose expectation is the difference between the arms whatever p_i was and whatever m_i, a guess made before user i came
(the mean so far: it only takes variance away). So a ramp, in which p grows while ratings drift, biases nothing. This is
the design-based estimator of Ham, Bojinov, Lindon and Tingley, "Design-Based Confidence Sequences" (2022); the interval
around its running mean is theorem 2.2 of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central limit
theory and asymptotic confidence sequences" (Annals of Statistics, 2024). "Asymptotic" as a t-test is: the first users
must not be looked at alone, which is what a minimum of users is for.

Arrays are [..., users], in the order in which users came: simulations bring many experiments at once.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def contributions(
    outcomes: npt.ArrayLike, challenger: npt.ArrayLike, shares: npt.ArrayLike, start: float = 0.0
) -> Floats:
    """phi of each user. `challenger`: who met it; `shares`: the probability of that, 0 < p < 1. All [..., users].

    `start`: what is expected of the first user; a guess that counts as one user.
    """
    outcome, met = np.asarray(outcomes, np.float64), np.asarray(challenger, bool)
    share = np.broadcast_to(np.asarray(shares, np.float64), outcome.shape)
    if not outcome.shape[-1]:
        return outcome
    # The first user is guessed at `start`: what they brought themselves must not be in the guess.
    before = np.cumsum(outcome, axis=-1) - outcome
    rest = outcome - (before + start) / np.arange(1, outcome.shape[-1] + 1)
    return np.where(met, rest / share, -rest / (1.0 - share))


def intervals(phi: Floats, rho: float, alpha: float) -> tuple[Floats, Floats]:
    """Mean and radius after each user, [..., users]: all of mean ± radius hold together, with probability 1 - alpha."""
    count = np.arange(1, phi.shape[-1] + 1, dtype=np.float64)
    mean = np.cumsum(phi, axis=-1) / count
    # Variance times users: how much has been learned.
    spread = np.maximum(np.cumsum(phi**2, axis=-1) - count * mean**2, 0.0)
    return mean, radius(spread, count, rho, alpha)


def radius(spread: npt.ArrayLike, count: npt.ArrayLike, rho: float, alpha: float) -> Floats:
    """Half the interval's width when `count` users have brought `spread` (variance times users): theorem 2.2."""
    grown = np.asarray(spread, np.float64) * rho**2 + 1.0
    return np.asarray(np.sqrt(2.0 * grown / rho**2 * np.log(np.sqrt(grown) / alpha)) / count, np.float64)


def tuned(spread: float, alpha: float) -> float:
    """The rho whose interval is narrowest when `spread` (variance times users) has been learned.

    The approximation of the paper's section 2.3; any other rho is as valid, and wider there.
    """
    twice = -2.0 * math.log(alpha)
    return math.sqrt((twice + math.log(twice + 1.0)) / spread)


def variance(deviation: float, share: float) -> float:
    """The variance of phi for outcomes of that standard deviation, at the challenger's `share`."""
    return deviation**2 / (share * (1.0 - share))
