"""Serves the flows against the standing Prefect server: *Run* in its UI and schedules work while this runs.

Started by ``captioner up``. A schedule that was set in the UI outlives a restart, and runs that were missed while
nothing was served are dropped, as cron does it: a laptop that slept for a weekend would else work off all of them.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from datetime import UTC, datetime
from typing import Any

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.runner import Runner
from prefect.states import Cancelled

from captioner.errors import ServiceUnavailable
from flows.experiment import confirm, experiment
from flows.release import reconcile
from flows.server import require_server
from flows.training import training

POLL_S = 5
# A promotion in the MLflow UI takes effect within five minutes; an experiment is looked at every hour.
SCHEDULES = {"reconcile": "*/5 * * * *", "experiment": "7 * * * *"}


def main() -> int:
    """Serve until told to stop. Returns the exit code."""
    try:
        require_server()
    except ServiceUnavailable as error:
        print(f"captioner: {error}", file=sys.stderr)
        return error.exit_code
    with tempfile.TemporaryDirectory(prefix="captioner-runner-") as folder:
        # A runner leaves a folder behind in the temporary folder at each start: this one goes with the process.
        tempfile.tempdir = folder
        serve()
    return 0


def serve() -> None:
    """Serve until told to stop."""
    # pause_on_shutdown: a schedule must survive `down`.
    runner = Runner(name="captioner", pause_on_shutdown=False, query_seconds=POLL_S)
    deployments = [_deployment(training), _alone(reconcile), _alone(experiment), _deployment(confirm)]
    with get_client(sync_client=True) as client:
        new = [one for one in deployments if not _exists(client, one)]
        for one in deployments:
            runner.add_deployment(one)
        for one in new:
            if one.name in SCHEDULES:
                _schedule(client, one)
        _drop_missed(client)
    # The health page compares with the last poll, and there is none yet.
    runner.last_polled = datetime.now(UTC)
    asyncio.run(runner.start(webserver=True))


def _deployment(of: Flow[..., Any], **more: Any) -> RunnerDeployment:
    return RunnerDeployment.from_flow(of, of.name, tags=["captioner"], description=of.description, **more)


def _alone(looking: Flow[[], Any]) -> RunnerDeployment:
    # One at a time; another that comes meanwhile has nothing to add.
    alone = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    return _deployment(looking, concurrency_limit=alone)


def _exists(client: SyncPrefectClient, deployment: RunnerDeployment) -> bool:
    try:
        client.read_deployment_by_name(deployment.full_name)
    except ObjectNotFound:
        return False
    return True


def _schedule(client: SyncPrefectClient, deployment: RunnerDeployment) -> None:
    """The default schedule, once: whoever changes or removes it in the UI finds it changed after a restart."""
    found = client.read_deployment_by_name(deployment.full_name)
    every = CronSchedule(cron=SCHEDULES[deployment.name], timezone="UTC")
    client.create_deployment_schedules(found.id, [DeploymentScheduleCreate(schedule=every, slug="default")])


def _drop_missed(client: SyncPrefectClient) -> None:
    late = FlowRunFilter.model_validate(
        {
            "state": {"type": {"any_": ["SCHEDULED"]}},
            "next_scheduled_start_time": {"before_": datetime.now(UTC).isoformat()},
        }
    )
    for run in client.read_flow_runs(flow_run_filter=late):
        if run.auto_scheduled:
            client.set_flow_run_state(
                run.id, Cancelled(message="Its time passed while nothing was served."), force=True
            )


if __name__ == "__main__":
    sys.exit(main())
