"""Who a flow's run is, for the ledger."""

from __future__ import annotations

from prefect import runtime

from captioner.acting import acting
from captioner.ledger import Cause


def cause(why: str = "") -> Cause:
    """The flow's run, and the machine that it runs on."""
    return Cause(f"Prefect, {runtime.flow_run.flow_name} {runtime.flow_run.name!r} ({acting()})", why)
