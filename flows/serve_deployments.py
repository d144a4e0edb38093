"""Serves the flows against the standing Prefect server: *Run* in its UI and schedules work while this runs.

Started by ``captioner up``. A schedule that was set in the UI outlives a restart.
"""

from __future__ import annotations

from prefect import serve
from prefect.deployments.runner import RunnerDeployment

from flows.release import reconcile
from flows.training import training


def main() -> None:
    """Serve until told to stop."""
    serve(
        RunnerDeployment.from_flow(training, "training", tags=["captioner"], description=training.description),
        RunnerDeployment.from_flow(reconcile, "reconcile", tags=["captioner"], description=reconcile.description),
        pause_on_shutdown=False,  # a schedule must survive `down`
        print_starting_message=False,
        webserver=True,
        query_seconds=5,
    )


if __name__ == "__main__":
    main()
