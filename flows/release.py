"""The release flow: brings the endpoint in line with the registry's aliases.

Moving `champion` or `challenger` in the MLflow UI is a supported way to promote; this flow makes it take effect.
"""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.plain_errors import speak_plainly
from flows.training import release_step


@flow(name="reconcile", persist_result=False)
def reconcile() -> dict[str, Any]:
    """Make the endpoint serve what the aliases champion and challenger point to."""
    speak_plainly()
    return release_step("deploy")
