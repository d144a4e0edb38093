"""The flow that looks after an experiment: every hour it looks, publishes, and does what the verdict says.

The ramp's next step, the promotion or the rejection go through the functions that the CLI verbs call. With
``experiment.human`` in params.yaml a person confirms a promotion or a rejection on the run's page first.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from prefect import flow, get_run_logger, runtime, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.states import Completed

from captioner import bootstrap, experimenting
from captioner.acting import acting
from captioner.experiment.verdict import PROMOTE, REJECT
from captioner.ledger import Cause
from captioner.stages.experiment import Status
from flows.patience import PATIENT
from flows.plain_errors import speak_plainly

ANSWER_S = 24 * 3600  # how long a person may take; the next look asks again


class Answer(RunInput):
    """What a person says to the verdict."""

    go_on: bool
    reason: str = ""


@task(task_run_name="look", **PATIENT)
def look() -> Status:
    """What is known by now, published where the pages read it."""
    return experimenting.look()


@task(task_run_name="act", **PATIENT)
def act(found: Status, why: str) -> dict[str, Any]:
    """Ramp, promote or reject, as was found."""
    cause = Cause(f"Prefect, {runtime.flow_run.flow_name} {runtime.flow_run.name!r} ({acting()})", why)
    return dataclasses.asdict(experimenting.act(found, cause))


@flow(name="experiment", persist_result=False)
def experiment() -> dict[str, Any] | State[None]:
    """Look at the running experiment and do what follows from it."""
    speak_plainly()
    found = look()
    if found.experiment is None or found.analysis is None or not found.experiment.running:
        get_run_logger().info("No experiment is running.")
        return Completed(name="Nothing running", message="No experiment is running.")
    create_markdown_artifact(f"```\n{found.render()}\n```", key="experiment", description=found.experiment.id)
    outcome, why = found.analysis.verdict.outcome, ""
    if outcome in (PROMOTE, REJECT) and bootstrap.open_app().params.experiment.human:
        said = pause_flow_run(
            wait_for_input=Answer.with_initial_data(
                description=f"The verdict is **{outcome}**. {found.analysis.verdict.reasons[0]} Go on?", go_on=True
            ),
            timeout=ANSWER_S,
        )
        if not said.go_on:
            return Completed(name="Not confirmed", message=said.reason or "A person said no; the experiment runs on.")
        why = f"Confirmed by a person: {said.reason or 'no reason given'}."
    return act(found, why)
