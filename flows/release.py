"""Releasing: the tasks `register` and `deploy`, and the flow that brings the endpoint in line with the registry.

The tasks call the functions that the CLI verbs call. Moving `champion` or `challenger` in the MLflow UI is a supported
way to promote; the scheduled flow `reconcile` makes it take effect.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.client.schemas.objects import State
from prefect.states import Completed

from captioner import bootstrap
from captioner.bootstrap import run_stage
from captioner.errors import GateFailed
from flows.cause import cause
from flows.patience import PATIENT
from flows.plain_errors import speak_plainly
from flows.reports import publish_release


@task(task_run_name="register", **PATIENT)
def register() -> dict[str, Any]:
    """Every candidate into the registry, through the gate; a gate that says no fails the task."""
    try:
        report = run_stage("register", cause=cause())
    except GateFailed:
        publish_release("register", Path.cwd())
        raise
    publish_release("register", Path.cwd())
    return dataclasses.asdict(report)


@task(task_run_name="deploy", **PATIENT)
def deploy() -> dict[str, Any]:
    """The endpoint serves what the aliases say."""
    report = run_stage("deploy", cause=cause())
    publish_release("deploy", Path.cwd())
    return dataclasses.asdict(report)


@task(task_run_name="reconcile", **PATIENT)
def follow() -> dict[str, Any]:
    """The endpoint follows the aliases; who moved one where, and what was done about it, is in the ledger."""
    report = bootstrap.reconcile(cause())
    publish_release("reconcile", Path.cwd())
    return dataclasses.asdict(report)


@flow(name="reconcile", persist_result=False)
def reconcile() -> dict[str, Any] | State[None]:
    """Make the endpoint serve what the aliases champion and challenger point to."""
    speak_plainly()
    report = follow()
    if not report["released"]:
        # Scheduled from the first `captioner up` on: until something is released that is no failure.
        get_run_logger().info("No champion yet: nothing to serve.")
        return Completed(name="Nothing to serve", message="The registry has no champion yet.")
    return report
