"""Made-up experiments: users who meet a variant by the real assignment, and rate what they are shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from captioner.experiment.assignment import assigned
from captioner.experiment.document import RUNNING, Experiment
from captioner.experiment.events import Exposure, Feedback
from captioner.ledger import CHALLENGER, CHAMPION, Model

START = datetime(2026, 1, 1, tzinfo=UTC)
ARMS = {CHAMPION: Model("1", "a" * 64), CHALLENGER: Model("2", "b" * 64)}


def running(share: float = 0.5, id: str = "e1") -> Experiment:
    shares = {CHAMPION: 1.0 - share, CHALLENGER: share}
    return Experiment(id, "captioner-sample", "salt", RUNNING, shares, ARMS, stamp(0.0))


def stamp(hours: float) -> str:
    return (START + timedelta(hours=hours)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def logs(
    users: int,
    better: float = 0.0,
    hours: float = 48.0,
    share: float | Sequence[float] = 0.5,
    seed: int = 0,
    change: Callable[[Exposure], Exposure] = lambda shown: shown,
) -> tuple[list[Exposure], list[Feedback]]:
    """One request of each user, evenly over the hours; a challenger's caption is rated `better` points higher.

    `share`: the challenger's, or one for each equal part of the users.
    """
    random = np.random.default_rng(seed)
    steps = [share] if isinstance(share, float) else list(share)
    exposures, feedback = [], []
    for number in range(users):
        step = steps[number * len(steps) // users]
        user, at = f"user-{number}", stamp(hours * number / users)
        arm = assigned(running(step), user)
        rating = int(np.clip(round(random.normal(3.2 + better * (arm == CHALLENGER), 1.0)), 1, 5))
        shown = Exposure(f"i{number}", at, user, arm, 200, 20.0 + number % 7, "e1", arm, step, caption="a dog runs")
        exposures.append(change(replace(shown, facts={"type": ("jpeg", "png")[number % 2]})))
        feedback.append(Feedback(f"i{number}", at, user, rating=rating))
    return exposures, feedback
