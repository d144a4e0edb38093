"""``captioner api``: the application under uvicorn, until SIGTERM; then what was begun is answered and written down."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from captioner.errors import BadEnvironment

DRAIN_S = 10  # seconds that answers under way may take; `captioner down` kills after 15
BACKLOG = 1024


def serve(root: Path, host: str, port: int) -> int:
    """Serve until SIGTERM or SIGINT. Raises BadEnvironment, BadParams before that."""
    import uvicorn

    from captioner.api.journal import Journal
    from captioner.api.opening import opened
    from captioner.api.wiring import open_routing

    say = Journal()
    api = opened(open_routing(root), say)
    config = uvicorn.Config(
        api.app,
        host=host,
        port=port,
        access_log=False,  # there is one line for each request already, which knows more
        log_level="warning",
        backlog=BACKLOG,
        timeout_graceful_shutdown=DRAIN_S,
        timeout_keep_alive=65,  # longer than a load balancer's 60: who closes first must not be us
        server_header=False,
    )
    server = uvicorn.Server(config)
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, lambda number, frame: None)  # uvicorn has its own, and raises the signal again at the end
    try:
        server.run()
    except SystemExit:
        server.started = False
    if not server.started:
        raise BadEnvironment(f"Port {port} cannot be used: it is taken, or not allowed; choose another.")
    say("ended")
    # A question that nobody waits for any more may still sit in a thread.
    sys.stdout.flush()
    os._exit(0)
