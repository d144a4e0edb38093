"""The HTTP server of a WSGI application, and how it ends: on SIGTERM nothing that was begun is lost.

First no more connections are taken (those that wait in the kernel's queue are), so that whoever comes now is refused at
once and can ask another server; then every answer closes its connection, and when no request is under way any more,
half-received ones included, the process may go. Knows nothing of captions.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from captioner.errors import BadEnvironment

DRAIN_S = 25.0  # SageMaker kills 30 s after SIGTERM
LINGER_S = 0.3  # a connection that just came, or just had an answer, may be about to send a request
BACKLOG = 1024


def listen(application: Any, host: str, port: int, threads: int, said: Callable[..., None] | None = None) -> int:
    """Answer HTTP until SIGTERM or SIGINT, then finish what was begun. Returns 0. Raises BadEnvironment.

    `said` is told of ``listening`` (with the address), ``draining`` and ``drained``.
    """
    from waitress import create_server

    tell = said or (lambda event, **fields: None)
    try:
        server: Any = create_server(
            application, host=host, port=port, threads=threads, ident="captioner", backlog=BACKLOG
        )
    except OSError as error:
        raise BadEnvironment(f"Port {port} cannot be used: {error.strerror or error}; choose another.") from None
    server.channel_class = _channel_class()
    server.leaving = False

    def drain() -> None:
        started = time.monotonic()
        tell("draining", connections=len(server.active_channels))
        server.trigger.pull_trigger(lambda: _stop_accepting(server))
        quiet = 0  # looks in a row that found nothing: what a socket held at the first is read before the second
        while quiet < 2 and time.monotonic() - started < DRAIN_S:
            time.sleep(0.02)
            quiet = 0 if _busy(server) else quiet + 1
        tell("drained", seconds=round(time.monotonic() - started, 2), lost=_under_way(server))
        os.kill(os.getpid(), signal.SIGINT)

    begun = threading.Lock()

    def on_term(number: int, frame: FrameType | None) -> None:
        # Once is enough. A second signal may interrupt this very function.
        if begun.acquire(blocking=False):
            threading.Thread(target=drain, daemon=True).start()

    signal.signal(signal.SIGTERM, on_term)
    signal.signal(signal.SIGINT, leave)
    tell("listening", host=host, port=int(server.effective_port))
    server.run()  # returns when a signal handler raises SystemExit
    server.close()
    return 0


def leave(number: int, frame: FrameType | None) -> None:
    """A signal handler that ends the process at once."""
    raise SystemExit(0)


def _channel_class() -> Any:
    """waitress's connection, whose answers say `Connection: close` once its server is leaving."""
    from waitress.channel import HTTPChannel
    from waitress.task import ErrorTask, WSGITask

    class Task(WSGITask):  # type: ignore[misc]
        def build_response_header(self) -> Any:
            if self.channel.server.leaving:
                self.set_close_on_finish()
            return super().build_response_header()

    class Channel(HTTPChannel):  # type: ignore[misc]
        task_class = Task
        error_task_class = ErrorTask

    return Channel


def _stop_accepting(server: Any) -> None:
    """Take what the kernel has accepted for us already, then close the door. Runs in the server's own thread."""
    server.leaving = True
    before = -1
    while before != len(server.active_channels):
        before = len(server.active_channels)
        server.handle_accept()
    server.accepting = False
    server.del_channel()
    server.socket.close()


def _under_way(server: Any) -> int:
    """Requests that are being received, answered or sent."""
    channels = list(server.active_channels.values())
    return sum(bool(one.requests or one.total_outbufs_len or one.request is not None) for one in channels)


def _busy(server: Any) -> bool:
    now = time.time()  # waitress keeps its channels' times by this clock
    recent = any(now - one.last_activity < LINGER_S for one in list(server.active_channels.values()))
    return recent or not server.leaving or _under_way(server) > 0
