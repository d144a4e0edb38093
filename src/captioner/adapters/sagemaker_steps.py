"""Carries out a plan's steps with boto3, one API call each, and the waits and checks between them.

A step that was done already (by a run that was cut off, or by somebody else) is no error where names follow from
content. Decides nothing: what is done, and in which order, is the plan's.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from captioner.adapters.aws import Account, code, message
from captioner.adapters.s3 import delete_below, put_archive
from captioner.adapters.sagemaker_live import Clients, describe, missing
from captioner.adapters.served_here import TYPES, known_answers, smoke_test
from captioner.errors import BadEnvironment, ServiceUnavailable
from captioner.golden import golden_images
from captioner.paths import Paths
from captioner.ports import Answer
from captioner.progress import Progress, track
from captioner.release import smoke
from captioner.release.facts import CHANGING
from captioner.release.plan import same
from captioner.release.steps import Step

Invoke = Callable[[str, bytes, str, str | None], Answer]
DELETES = ("DeleteEndpoint", "DeleteEndpointConfig", "DeleteModel")
CREATES = ("CreateModel", "CreateEndpointConfig")
POINTS = ("CreateEndpoint", "UpdateEndpoint", "DescribeEndpointConfig")  # at what was created a moment ago


class Steps:
    """One plan's execution. `program` serves a model here; `artifacts` gives a digest's file and version."""

    def __init__(
        self,
        where: Account,
        clients: Clients,
        paths: Paths,
        program: Sequence[str],
        artifacts: Mapping[str, tuple[Path, str]],
        invoke: Invoke,
        wait_s: int,
    ) -> None:
        self._where, self._clients, self._paths, self._program = where, clients, paths, program
        self._artifacts, self._invoke, self._wait_s = artifacts, invoke, wait_s

    def run(self, steps: Sequence[Step]) -> None:
        """All steps, in order. Raises what the failing one raises; those after it are not begun."""
        with track("deploy", len(steps), "steps") as progress:
            for step in steps:
                progress.advance(0, note=f"{step.operation} {step.subject}")
                self._do(step, progress)
                progress.advance()

    def _do(self, step: Step, progress: Progress) -> None:
        if step.service == "here":
            artifact, version = self._artifacts[step.digest]
            smoke_test(self._paths, self._program, artifact, step.digest, version)
        elif step.operation == "PutObject":
            put_archive(self._clients("s3"), self._artifacts[step.digest][0], step.digest, step.request)
        elif step.operation == "DeleteObjects":
            delete_below(self._clients("s3"), step.request["Bucket"], step.request["Prefix"])
        elif step.operation == "DescribeEndpoint":
            self._look(step, progress)
        elif step.operation == "InvokeEndpoint":
            self._verify(step)
        elif step.operation in ("AddTags", "DeleteTags"):
            self._tag(step)
        else:
            self._call(step)

    def _call(self, step: Step) -> None:
        import botocore.exceptions

        call = getattr(self._clients(step.service), _snake(step.operation))
        # Reads lag behind writes: what was created a moment ago may not be found yet.
        for pause in (*((0.2, 1.0, 3.0) if step.operation in POINTS else ()), None):
            try:
                call(**step.request)
                return
            except botocore.exceptions.ClientError as error:
                if _done_already(step.operation, error):
                    return
                if pause is None or not missing(error):
                    raise
                time.sleep(pause)

    def _look(self, step: Step, progress: Progress) -> None:
        name, until = step.request["EndpointName"], step.request["until"]
        if until == "unchanged":
            found = describe(self._clients, name)
            if found is None or found["EndpointConfigName"] != step.request["config"]:
                raise BadEnvironment(f"Somebody else has changed the endpoint {name} meanwhile: nothing was deleted.")
        elif until == "gone":
            wait(self._clients, self._where, name, self._wait_s, progress, gone=True)
        else:
            found = wait(self._clients, self._where, name, self._wait_s, progress)
            check_arrived(name, found, step.request["config"], step.request["weights"])

    def _verify(self, step: Step) -> None:
        """Whether the variant answers as the model that was asked for: a status says nothing of that."""
        name, variant = step.request["EndpointName"], step.request["TargetVariant"]
        expected = known_answers(self._paths, self._program, step.digest)
        for image, data in golden_images().items():
            answer = self._invoke(name, data, TYPES[Path(image).suffix], variant)
            wrong = smoke.fault(answer.body, step.digest)
            if answer.variant != variant:
                wrong = f"the variant {answer.variant} answers in its place"
            if wrong is None and expected is not None and image in expected:
                wrong = smoke.differs(expected[image], answer.body)
            if wrong:
                raise BadEnvironment(
                    f"The variant {variant} of {name} is in service, but not with what was deployed: "
                    f"asked for {image}, {wrong}."
                )

    def _tag(self, step: Step) -> None:
        request = dict(step.request)
        found = describe(self._clients, request.pop("EndpointName"))
        if found is None:
            raise BadEnvironment("The endpoint was deleted while it was being changed.")
        getattr(self._clients("sagemaker"), _snake(step.operation))(ResourceArn=found["EndpointArn"], **request)


def wait(
    clients: Clients, where: Account, name: str, wait_s: int, progress: Progress, gone: bool = False
) -> dict[str, Any] | None:
    """The endpoint once it is steady, None when there is none (with `gone`: once there is none).

    Raises ServiceUnavailable after `wait_s` seconds.
    """
    deadline, pause, longest = time.monotonic() + wait_s, 0.1, 1.0 if where.url else 10.0
    while True:
        found = describe(clients, name)
        if found is None or (found["EndpointStatus"] not in CHANGING and not gone):
            return found
        progress.advance(0, note=f"{name} is {found['EndpointStatus']}")
        if time.monotonic() > deadline:
            state = found["EndpointStatus"]
            raise ServiceUnavailable(
                f"The endpoint {name} is still {state} after {wait_s} s; `captioner deploy` goes on from there."
            )
        time.sleep(pause)
        pause = min(longest, pause * 1.5)


def check_arrived(name: str, after: dict[str, Any] | None, config: str, weights: Mapping[str, float]) -> None:
    """The trap of the InService waiter: a rolled-back update is InService too, with the old config.

    Raises BadEnvironment with AWS's own reason.
    """
    reason = ((after or {}).get("FailureReason") or "AWS gave no reason").rstrip(".")
    if after is None:
        raise BadEnvironment(f"The endpoint {name} was deleted while it was being changed.")
    if after["EndpointStatus"] != "InService":
        raise BadEnvironment(f"The endpoint {name} is {after['EndpointStatus']}: {reason}.")
    now = {one["VariantName"]: one.get("CurrentWeight", 0.0) for one in after["ProductionVariants"]}
    moved = now.keys() == weights.keys() and all(same(now[one], weights[one]) for one in weights)
    if after["EndpointConfigName"] != config or not moved:
        raise BadEnvironment(f"The endpoint {name} was not changed, its old variants still answer: {reason}.")


def _done_already(operation: str, error: Any) -> bool:
    if operation == "CreateBucket":
        return code(error) == "BucketAlreadyOwnedByYou"
    if operation in CREATES:
        # Names follow from content: what is there already is the same.
        return "already existing" in message(error)
    return operation in DELETES and missing(error)


def _snake(operation: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower()
