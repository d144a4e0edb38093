"""The document of a running experiment, ``experiments/ENDPOINT/running.json``: what routers read, and ramps write.

Written with conditional puts only, by the commands of experiments and by ramps (which change `shares` and nothing
else); routers read it every few seconds. An experiment that has ended keeps its document until the next one starts, and
lies under its own id for good.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from captioner.errors import BadData
from captioner.ledger import CHALLENGER, CHAMPION, Model

VERSION = 1
RUNNING, STOPPED = "running", "stopped"


@dataclass(frozen=True)
class Experiment:
    """One experiment on an endpoint. Times are UTC, ISO 8601; `ended` and `outcome` are "" while it runs.

    `closed`: when the verdict was taken that is being carried out; what users met later does not count.

    `shares`: of the users, by variant, 1 in sum. `arms`: the models that are compared, by variant. `design`: what was
    decided before the start (metric, effect, users, minimum run time …), as ``captioner experiment plan`` gives it.
    `outcome`: promote, reject, or stopped when nobody judged it; `why` in words.
    """

    id: str
    endpoint: str
    salt: str
    state: str
    shares: Mapping[str, float]
    arms: Mapping[str, Model]
    started: str
    design: Mapping[str, Any] = field(default_factory=dict)
    ended: str = ""
    outcome: str = ""
    why: str = ""
    closed: str = ""

    @property
    def share(self) -> float:
        """The challenger's share of the users."""
        return self.shares[CHALLENGER]

    @property
    def running(self) -> bool:
        return self.state == RUNNING


def as_document(experiment: Experiment) -> dict[str, Any]:
    """What is written."""
    return {"version": VERSION, **asdict(experiment)}


def experiment_of(value: Any) -> Experiment:
    """What was read. Raises BadData for what is no experiment, or one of another version."""
    try:
        known = dict(value)
        if known.pop("version") != VERSION:
            raise ValueError
        arms = {name: Model(str(one["version"]), str(one["digest"])) for name, one in known.pop("arms").items()}
        shares = {name: float(share) for name, share in known.pop("shares").items()}
        found = Experiment(arms=arms, shares=shares, **known)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise BadData(f"This is not the document of an experiment (version {VERSION}).") from None
    if set(shares) != {CHAMPION, CHALLENGER} or not all(0.0 <= one <= 1.0 for one in shares.values()):
        raise BadData(f"The experiment {found.id} has shares that are none: {shares}.")
    return found
