"""The release flow: brings the endpoint in line with the registry's aliases.

Moving `champion` or `challenger` in the MLflow UI is a supported way to promote; this flow makes it take effect.
"""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed

from captioner.bootstrap import open_app
from flows.plain_errors import speak_plainly
from flows.training import release_step


@flow(name="reconcile", persist_result=False)
def reconcile() -> dict[str, Any] | State[None]:
    """Make the endpoint serve what the aliases champion and challenger point to."""
    speak_plainly()
    app = open_app()
    if app.registry().by_alias(app.name, "champion") is None:
        # Scheduled from the first `captioner up` on: until something is released that is no failure.
        get_run_logger().info(f"{app.name} has no champion yet: nothing to serve.")
        return Completed(name="Nothing to serve", message=f"{app.name} has no champion yet.")
    return release_step("deploy")
