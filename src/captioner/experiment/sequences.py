"""Confidence sequences: intervals that hold at every look at once, so that an experiment may be watched and stopped.

The normal mixture (Robbins 1970; Johari, Koomen, Pekelis & Walsh 2022 as mixture SPRT; Howard, Ramdas, McAuliffe &
Sekhon 2021), in its asymptotic form for an estimate with an estimated variance (Waudby-Smith, Arbour, Sinha, Kennedy &
Ramdas 2024, "Time-uniform central limit theory and asymptotic confidence sequences"). Time is information, 1 / variance
of the estimate, in which estimates of growing data move like a Brownian motion with drift (Scharfstein, Tsiatis &
Robins 1997). Knows nothing of users or ratings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sequence:
    """Level `alpha` and the mixture's variance `tau2`, both fixed before the first look."""

    alpha: float
    tau2: float

    @classmethod
    def for_effect(cls, alpha: float, effect: float, power: float = 0.8) -> Sequence:
        """The one that is narrowest where an experiment planned for `effect` ends."""
        return cls(alpha, _ratio(alpha) / planned_information(alpha, effect, power))

    def at(self, alpha: float) -> Sequence:
        """The same mixture at another level, as corrections for looking at many need it."""
        return Sequence(alpha, self.tau2)

    def radius(self, information: npt.ArrayLike) -> Floats:
        """Half of the interval's width at `information` (any shape); infinite where there is none."""
        known = np.asarray(information, np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            mixed = known * self.tau2
            squared = (1 + 1 / mixed) * (np.log1p(mixed) - 2 * math.log(self.alpha)) / known
        return np.where(known > 0, np.sqrt(squared), np.inf)

    def e_value(self, estimate: npt.ArrayLike, information: npt.ArrayLike, null: float = 0.0) -> Floats:
        """Evidence against `null`: above 1/alpha at any look has at most the chance alpha when `null` is true."""
        known = np.asarray(information, np.float64)
        mixed = known * self.tau2
        squared = (np.asarray(estimate, np.float64) - null) ** 2 * known
        exponent = 0.5 * (squared * mixed / (1 + mixed) - np.log1p(mixed))
        return np.exp(np.minimum(exponent, 700.0))

    def p_value(self, estimate: npt.ArrayLike, information: npt.ArrayLike, null: float = 0.0) -> Floats:
        """Valid at any look; below alpha exactly where the interval leaves `null` out."""
        return np.minimum(1.0, 1 / self.e_value(estimate, information, null))


def planned_information(alpha: float, effect: float, power: float) -> float:
    """The information at which a true difference of `effect` is found with `power`, were that the only look.

    Looks before can only find it earlier. Where the mixture is tuned to this information, the interval's half width is
    sqrt(1 + x) standard errors, x = `_ratio(alpha)`: 3.04 for alpha 0.05, where a test with one look needs 1.96.
    """
    return float((math.sqrt(1 + _ratio(alpha)) + NormalDist().inv_cdf(power)) ** 2 / effect**2)


def _ratio(alpha: float) -> float:
    """The x = information * tau2 of the narrowest interval: minimises (1 + 1/x) log((1 + x) / alpha²)."""
    x = 8.0
    for _ in range(100):  # x = log((1 + x) / alpha²) is where the derivative is 0; the map contracts by 1 / (1 + x)
        x = math.log1p(x) - 2 * math.log(alpha)
    return x
