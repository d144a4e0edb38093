"""deploy down: takes an endpoint away with everything that has its name, and looks what is left.

The archives in the bucket stay: another endpoint may serve the same model, and a rollback needs them; so do the
ledger and the experiments, which are memory. Knows nothing of AWS: the endpoint is a port.
"""

from __future__ import annotations

from dataclasses import dataclass

from captioner.errors import BadEnvironment
from captioner.params import DeployParams
from captioner.paths import Paths
from captioner.ports import Endpoint
from captioner.release.names import CAPTURE
from captioner.release.removal import Remains, remains, removal
from captioner.workspace import one_at_a_time


@dataclass(frozen=True)
class RemovalReport:
    """What was there, and what is left."""

    endpoint: str
    deleted: Remains
    left: Remains

    def render(self) -> str:
        """For a terminal."""
        gone = [line for line in self.deleted.lines() if line not in set(self.left.lines())]
        lines = [f"deleted: {line}" for line in gone] or [f"{self.endpoint}: there was nothing to delete"]
        left = [f"left: {line}" for line in self.left.lines()] or ["left: nothing"]
        return "\n".join([*lines, *left, *([f"({self.note})"] if self.note else [])])

    @property
    def note(self) -> str:
        """What to do about captured data that is left."""
        if not self.left.captured:
            return ""
        if self.left.captured < self.deleted.captured or not self.deleted.captured:
            return "captured data is written late: the same command again deletes what came meanwhile"
        return f"{CAPTURE}/{self.endpoint}/ goes with --with-captured-data"


def run(params: DeployParams, paths: Paths, endpoint: Endpoint, name: str, captured: bool) -> RemovalReport:
    """Delete the endpoint `name`, its configs, models and alarms, and with `captured` its captured data.

    Raises BadEnvironment when something is left that should not be, and what the port raises.
    """
    with one_at_a_time(paths, "deploy"):
        endpoint.settle(name, params.max_wait_s)
        live = endpoint.live(name)
        before = remains(name, live, endpoint.captured(name))
        endpoint.carry_out(name, removal(name, live, captured), {}, params.max_wait_s)
        after = remains(name, endpoint.live(name), endpoint.captured(name))
    report = RemovalReport(name, before, after)
    # Captured data is another matter: SageMaker writes it minutes late, also of an endpoint that is gone.
    unwanted = Remains(after.endpoint, after.configs, after.models, after.alarms)
    if left := list(unwanted.lines()):
        raise BadEnvironment(f"Of {name} there is still left: {', '.join(left)}. Somebody else made it meanwhile.")
    return report
