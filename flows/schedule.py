"""Gives a served deployment a cron schedule, or takes it away. Schedules set in the UI are left alone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound
from pydantic import ValidationError

from captioner.errors import BadParams, CaptionerError
from flows.server import require_server

OURS = "captioner"  # the slug of the one schedule that this command sets, changes and removes


def set_cron(deployment: str, cron: str, timezone: str = "UTC") -> str:
    """Schedule `deployment` by `cron` (five fields; "off" ends it). Returns a sentence that says what holds now.

    Raises BadParams for a bad cron line or timezone or an unknown deployment, ServiceUnavailable without a server.
    """
    wanted = None if cron == "off" else _cron(cron, timezone)
    require_server()
    with get_client(sync_client=True) as client:
        try:
            found = client.read_deployment_by_name(f"{deployment}/{deployment}")
        except ObjectNotFound:
            raise BadParams(f"No deployment {deployment!r} is served: `captioner up` serves them.") from None
        for one in client.read_deployment_schedules(found.id):
            if one.slug == OURS:
                client.delete_deployment_schedule(found.id, one.id)
        if wanted is None:
            return f"{deployment} is no longer scheduled from here."
        client.create_deployment_schedules(
            found.id, [DeploymentScheduleCreate(schedule=wanted, active=True, slug=OURS)]
        )
    return f"{deployment} runs by {cron!r} ({timezone}), for as long as the stack is up."


def _cron(cron: str, timezone: str) -> CronSchedule:
    try:
        return CronSchedule(cron=cron, timezone=timezone)
    except ValidationError as error:
        reasons = "; ".join(fault["msg"].removeprefix("Value error, ") for fault in error.errors())
        raise BadParams(
            f"{cron!r} in {timezone!r} is not a schedule ({reasons}): five cron fields such as '0 3 * * 1', or off."
        ) from None


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m flows.schedule DEPLOYMENT --cron …``. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.schedule", description=__doc__)
    parser.add_argument("deployment")
    parser.add_argument("--cron", required=True)
    parser.add_argument("--timezone", default="UTC")
    options = parser.parse_args(argv)
    try:
        print(set_cron(options.deployment, options.cron, options.timezone))
    except CaptionerError as error:
        print(f"captioner: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
