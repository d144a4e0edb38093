"""What is tried again, and how: only what can fail for a while, a few times, each time later."""

from __future__ import annotations

from typing import Any

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.tasks import exponential_backoff

from captioner.errors import CaptionerError

RETRIES = 3
BACKOFF_S = 5


def may_pass(task: Any, run: Any, state: State[Any]) -> bool:
    """Prefect's question before a retry: a server that did not answer may; bad data and a gate's no stay so."""
    failure = state.result(raise_on_failure=False)
    return isinstance(failure, CaptionerError) and failure.transient


# For every task here: DVC is the only cache, so Prefect keeps nothing.
PATIENT: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "retries": RETRIES,
    "retry_delay_seconds": exponential_backoff(backoff_factor=BACKOFF_S),
    "retry_condition_fn": may_pass,
}
