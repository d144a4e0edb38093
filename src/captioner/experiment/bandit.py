"""Thompson sampling: new users meet a variant with the probability that it is liked more often than the other.

A user likes a caption whose first rating is high enough: a binary reward, with a uniform prior for each variant's share
of such users (Thompson, "On the Likelihood that One Unknown Probability Exceeds Another", 1933). Users are shared out
by their hash as ever, so the share is all that a bandit decides; whoever it moves meets the other variant from then on,
and what they say there does not count. Plain means of a bandit's arms are biased, since a variant that was unlucky is
asked less from then on. The interval of ``sequences.py`` is not: it weighs each user by the share that was theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from captioner.experiment.sequences import Floats
from captioner.experiment.users import User
from captioner.experimentparams import BanditParams

CELLS = 4000  # of the shares that are integrated over
_SHARES = (np.arange(CELLS) + 0.5) / CELLS
_LOGS = np.stack([np.log(_SHARES), np.log1p(-_SHARES)])


@dataclass(frozen=True)
class Allocation:
    """`champion`, `challenger`: the share of users who liked it; `probability`: that the challenger is liked more
    often; `share`: of the users that it should meet from now on; `words` say all that."""

    champion: float
    challenger: float
    probability: float
    share: float
    words: str = field(init=False)

    def __post_init__(self) -> None:
        words = (
            f"{self.champion:.0%} like the champion's captions and {self.challenger:.0%} the challenger's, which is "
            f"liked more with probability {self.probability:.2f} and gets {self.share:.0%} of the users"
        )
        object.__setattr__(self, "words", words)


def allocation(params: BanditParams, users: Sequence[User], least: int) -> Allocation | None:
    """What the bandit wants by now; None before `least` users of each variant have rated."""
    counts = np.zeros((2, 2))  # [variant, whether they liked it]
    for user in users:
        if user.rating is not None:
            counts[int(user.challenger), int(user.rating >= params.liked_from)] += 1
    if counts.sum(1).min() < max(least, 1):
        return None
    probability = float(better(counts))
    champion, challenger = (counts[:, 1] / counts.sum(1)).tolist()
    return Allocation(champion, challenger, probability, float(shared(probability, params)))


def shared(probability: npt.ArrayLike, params: BanditParams) -> Floats:
    """The challenger's share, in whole percents; each variant keeps the floor."""
    return np.asarray(np.clip(np.round(np.asarray(probability), 2), params.floor, 1.0 - params.floor))


def better(counts: npt.ArrayLike) -> Floats:
    """The probability that the second's chance of a success is above the first's. `counts`: [..., 2, (failures,
    successes)]; uniform priors. Integrated over CELLS equal cells."""
    failed, liked = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    density = liked[..., None] * _LOGS[0] + failed[..., None] * _LOGS[1]
    density = np.exp(density - density.max(-1, keepdims=True))
    density /= density.sum(-1, keepdims=True)
    first, second = density[..., 0, :], density[..., 1, :]
    below = np.cumsum(first, -1) - first / 2
    return np.asarray((second * below).sum(-1))
