"""A SageMaker endpoint through boto3: `ports.Endpoint` for the real AWS and the local one alike.

Reads are in ``sagemaker_live``, steps in ``sagemaker_steps``, metrics in ``cloudwatch``; this puts them behind one
account and translates what AWS says. Knows nothing of the registry, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from captioner.adapters import cloudwatch, sagemaker_live
from captioner.adapters.aws import Account, Reach, in_our_words
from captioner.adapters.sagemaker_runtime import SageMakerRuntime
from captioner.adapters.sagemaker_steps import Steps, wait
from captioner.adapters.served_here import program_of
from captioner.paths import Paths
from captioner.ports import Answer, EndpointState, Variant
from captioner.progress import track
from captioner.release.facts import Live
from captioner.release.health import Health
from captioner.release.steps import Step
from captioner.settings import Settings


class SageMakerEndpoint:
    """Endpoints of the account that the settings name, or of `where`.

    `program` serves a model here when it is tried before it is deployed; by default it is what the image runs.
    """

    def __init__(
        self, settings: Settings, paths: Paths, where: Account | None = None, program: Sequence[str] | None = None
    ) -> None:
        self._aws, self._paths, self._program = Reach(settings, paths, where), paths, program
        self._runtime = SageMakerRuntime(settings, paths, where)

    def state(self, name: str) -> EndpointState | None:
        """The endpoint as it is live, None when there is none. Raises ServiceUnavailable, BadEnvironment."""
        where = self._aws.account()
        with in_our_words(where, f"describe the endpoint {name}"):
            clients = self._aws.clients(where)
            found = sagemaker_live.describe(clients, name)
            if found is None:
                return None
            variants = sagemaker_live.variants_of(clients, found, sagemaker_live.config_of(clients, found))
        now = {one["VariantName"]: one.get("CurrentWeight", 0.0) for one in found.get("ProductionVariants") or []}
        return EndpointState(
            name=found["EndpointName"],
            status=found["EndpointStatus"],
            config=found.get("EndpointConfigName"),
            variants=tuple(
                Variant(one.name, now[one.name], one.version, one.digest) for one in variants if one.name in now
            ),
            failure=found.get("FailureReason"),
        )

    def live(self, name: str, digests: Sequence[str] = ()) -> Live:
        """All that there is of the endpoint, and which of `digests` are stored. Raises what `state` does."""
        where = self._aws.account()
        with in_our_words(where, f"describe the endpoint {name}"):
            return sagemaker_live.live_of(self._aws.clients(where), where, name, digests)

    def settle(self, name: str, wait_s: int) -> None:
        """Wait until nobody is changing the endpoint. Raises ServiceUnavailable after `wait_s` seconds."""
        where = self._aws.account()
        with in_our_words(where, f"describe the endpoint {name}"), track("deploy", None, "looks") as progress:
            wait(self._aws.clients(where), where, name, wait_s, progress)

    def carry_out(
        self, name: str, steps: Sequence[Step], artifacts: Mapping[str, tuple[Path, str]], wait_s: int
    ) -> None:
        """Do the steps of a plan, in order; `artifacts` maps a digest to its file and version.

        Raises BadEnvironment when AWS refused or rolled back (the old variants then still answer), GateFailed when a
        model does not pass its smoke test, ServiceUnavailable when AWS did not answer or took longer than `wait_s`
        seconds for a change, BadData when an artifact is not what its digest is.
        """
        where = self._aws.account()
        with in_our_words(where, f"change the endpoint {name}"):
            program = self._program or program_of(where.image)
            Steps(where, self._aws.clients(where), self._paths, program, artifacts, self.invoke, wait_s).run(steps)

    def health(self, name: str, variants: Sequence[str], since: float, until: float) -> dict[str, Health]:
        """How each of `variants` fared between two times (seconds since the epoch). Raises what `state` does."""
        where = self._aws.account()
        with in_our_words(where, f"read the metrics of the endpoint {name}"):
            return cloudwatch.health(self._aws.clients(where), name, variants, since, until)

    def captured(self, name: str) -> int:
        """How many objects of captured data there are. Raises what `state` does."""
        where = self._aws.account()
        with in_our_words(where, f"list what was captured of the endpoint {name}"):
            return sagemaker_live.captured(self._aws.clients(where), where, name)

    def invoke(self, name: str, image: bytes, content_type: str, variant: str | None = None) -> Answer:
        """Ask the endpoint, or one variant of it. Raises what `SageMakerRuntime.invoke` does."""
        return self._runtime.invoke(name, image, content_type, variant)
