"""Optional: Thompson sampling chooses the challenger's share, so that fewer users meet the worse model while it is found out.

The reward is binary: a rating of at least `bandit_reward`. The share is the probability that the challenger's rate of
success is the higher one, under a flat prior and the normal approximation to what is known (probability matching, as
Thompson 1933), from differences within shares, so a mood that drifts does not mislead it. It is cut to `bandit_floor`
and taken in steps of 5 %: each share is a batch in which both arms are randomised with one known probability, and the
analysis that compares within shares stays right however the shares were chosen (Zhang, Janson & Murphy 2020, "Inference
for batched bandits"); pooling the arms over all shares would not be.

What a user meets is still a function of the share and the user's place, so between two changes everybody keeps their
variant. But a share may fall: then some users move back to the champion, which a ramp never does.
"""

from __future__ import annotations

import dataclasses
import math
from statistics import NormalDist

import numpy as np

from captioner.experiment.contrast import Values, path
from captioner.experimentparams import ExperimentParams

_STEP = 0.05


def next_share(ratings: Values, params: ExperimentParams, share: float) -> float:
    """The challenger's next share, from all ratings until now; `share`, the present one, while few have rated."""
    success = (ratings.value >= params.bandit_reward).astype(np.float64)
    known = path(dataclasses.replace(ratings, value=success, span=1.0), [np.inf])
    if known.users[0].min() < params.min_users or not known.information[0]:
        return share
    better = NormalDist().cdf(float(known.difference[0]) * math.sqrt(float(known.information[0])))
    inside = min(max(better, params.bandit_floor), 1 - params.bandit_floor)
    return round(round(inside / _STEP) * _STEP, 2)
