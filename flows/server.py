"""The Prefect server that flows talk to: is it there?"""

from __future__ import annotations

from prefect.client.orchestration import get_client

from captioner.errors import ServiceUnavailable


def require_server() -> None:
    """Raises ServiceUnavailable when Prefect does not answer where PREFECT_API_URL points."""
    with get_client(sync_client=True) as client:
        if client.api_healthcheck() is not None:
            where = str(client.api_url).rstrip("/")
            raise ServiceUnavailable(
                f"Prefect does not answer at {where}: start the stack (captioner up), or set CAPTIONER_PREFECT_API."
            )
