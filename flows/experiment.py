"""The flows that look after an experiment: every hour one looks, publishes, and does what the verdict says.

The ramp's next step, the promotion or the rejection go through the functions that the CLI verbs call. With
``experiment.human`` in params.yaml a run of ``confirm`` asks a person first, while the hourly looks go on.
"""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

from prefect import flow, get_run_logger, runtime, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import ObjectNotFound
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.states import Completed

from captioner import bootstrap, experimenting
from captioner.errors import ServiceUnavailable
from captioner.experiment.verdict import PROMOTE, REJECT
from captioner.stages.experiment import Status
from flows.cause import cause
from flows.patience import PATIENT
from flows.plain_errors import speak_plainly

ANSWER_S = 24 * 3600  # how long a person may take


class Answer(RunInput):
    """What a person says to the verdict."""

    go_on: bool
    reason: str = ""


@task(task_run_name="look", **PATIENT)
def look() -> Status:
    """What is known by now, published where the pages read it."""
    return experimenting.look()


@task(task_run_name="act", **PATIENT)
def act(found: Status, why: str = "") -> dict[str, Any]:
    """Ramp, promote or reject, as was found."""
    return dataclasses.asdict(experimenting.act(found, cause(why)))


@task(task_run_name="ask", **PATIENT)
def ask(experiment: str, outcome: str) -> FlowRun:
    """The run of ``confirm`` that asks a person about this verdict: a new one each day, the same one all day long.

    Raises ServiceUnavailable when nobody serves ``confirm``.
    """
    with get_client(sync_client=True) as client:
        for name in (runtime.deployment.name, confirm.name):  # deployments of a work pool all have its name
            try:
                found = client.read_deployment_by_name(f"{confirm.name}/{name}")
            except ObjectNotFound:
                continue
            return client.create_flow_run_from_deployment(
                found.id,
                name=f"{outcome} {experiment}",
                parameters={"experiment": experiment, "outcome": outcome},
                idempotency_key=f"{experiment}-{outcome}-{datetime.now(UTC):%Y-%m-%d}",
            )
    raise ServiceUnavailable(f"No deployment of the flow {confirm.name!r} is served: `captioner up` serves one.")


@flow(name="experiment", persist_result=False)
def experiment() -> dict[str, Any] | State[None]:
    """Look at the running experiment and do what follows from it."""
    speak_plainly()
    found = look()
    if found.experiment is None or found.analysis is None or not found.experiment.running:
        get_run_logger().info("No experiment is running.")
        return Completed(name="Nothing running", message="No experiment is running.")
    create_markdown_artifact(f"```\n{found.render()}\n```", key="experiment", description=found.experiment.id)
    outcome = found.analysis.verdict.outcome
    if outcome in (PROMOTE, REJECT) and bootstrap.open_app().params.experiment.human:
        asked = ask(found.experiment.id, outcome)
        message = f"The verdict is {outcome}; a person is asked on the page of the flow run {asked.name!r}."
        get_run_logger().info(message)
        return Completed(name="A person is asked", message=message)
    return act(found)


@flow(name="confirm", persist_result=False)
def confirm(experiment: str, outcome: str) -> dict[str, Any] | State[None]:
    """Ask a person whether to do what the verdict on an experiment says, and do it.

    The run is suspended meanwhile and keeps no process. Who answers has it started again from the beginning, so that
    what is done is what the verdict is then.

    Args:
        experiment: its id
        outcome: promote or reject, the verdict that is asked about
    """
    speak_plainly()
    found = look()
    one, analysis = found.experiment, found.analysis
    if one is None or analysis is None or not one.running or one.id != experiment:
        return Completed(name="Over", message=f"The experiment {experiment} does not run any more.")
    if analysis.verdict.outcome != outcome:
        return Completed(name="Changed", message=f"The verdict is {analysis.verdict.outcome} by now; nothing is done.")
    said = suspend_flow_run(
        wait_for_input=Answer.with_initial_data(
            description=f"The verdict is **{outcome}**. {' '.join(analysis.verdict.reasons)} Go on?\n\n"
            f"```\n{found.render()}\n```",
            go_on=True,
        ),
        timeout=ANSWER_S,
    )
    if not said.go_on:
        return Completed(name="Not confirmed", message=said.reason or "A person said no; the experiment runs on.")
    return act(found, f"Confirmed by a person: {said.reason or 'no reason given'}.")
