"""The two ends of a plan: what is wanted, and what is live. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from captioner.deployparams import DeployParams

CHANGING = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
BROKEN = ("Failed", "OutOfService")  # nothing but DeleteEndpoint is left to do with one


@dataclass(frozen=True)
class WantedVariant:
    """A variant as the registry and the params want it. `gate` is what the gate said of the version, "" for nothing."""

    name: str
    version: str
    digest: str
    weight: float
    gate: str = ""
    shadow: bool = False


@dataclass(frozen=True)
class Wanted:
    """The wish. `sha` and `dirty` are of the git tree ("" and False outside one), `expires` is an ISO time or None.

    `ramped` says that the weights are those of the last ramp, not of ``challenger_share``.
    """

    endpoint: str
    variants: tuple[WantedVariant, ...]
    params: DeployParams
    sha: str = ""
    dirty: bool = False
    expires: str | None = None
    ramped: bool = False
    experiment: bool = False  # a running experiment sends users to both variants
    restores: bool = False  # what has served before: the house has let it in already


@dataclass(frozen=True)
class Place:
    """Where it is to be: the account, as far as requests name it."""

    called: str
    local: bool
    role: str
    image: str
    bucket: str


@dataclass(frozen=True)
class LiveVariant:
    """A variant as it is. `instances` is None when it is serverless."""

    name: str
    weight: float
    instances: int | None
    instance_type: str
    model: str
    version: str
    digest: str
    shadow: bool = False


@dataclass(frozen=True)
class Live:
    """The fact: the endpoint (`status` None: there is none), and whatever else has a name of ours.

    `settings` is the live config as DescribeEndpointConfig gives it, empty when somebody deleted it. `archives` are the
    digests, of those that were asked for, whose artifact lies in the bucket.
    """

    place: Place
    status: str | None = None
    arn: str = ""
    failure: str | None = None
    config: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    variants: tuple[LiveVariant, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    models: frozenset[str] = frozenset()
    configs: frozenset[str] = frozenset()
    alarms: frozenset[str] = frozenset()
    alarming: frozenset[str] = frozenset()  # those of them that are in ALARM
    archives: frozenset[str] = frozenset()
    bucket: bool = True

    @property
    def production(self) -> tuple[LiveVariant, ...]:
        return tuple(one for one in self.variants if not one.shadow)

    def share_of_ramp(self, digest: str, now: float) -> float | None:
        """The challenger's share that a ramp left for the model `digest`; None when there was none.

        Also None when ``challenger_share`` (`now`) is not what it was then: who changed it since wants that.
        """
        from captioner.release.names import SHARE

        try:
            share, model, was = self.tags.get(SHARE, "").split("/")
            return float(share) if model == digest[:12] and float(was) == now else None
        except ValueError:
            return None
