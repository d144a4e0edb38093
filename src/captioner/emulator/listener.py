"""The HTTP server: one thread a connection, bodies streamed, header names kept as they were sent.

S3 keeps metadata in header names, so neither their case nor an underscore in them may be lost on the way; common WSGI
servers lose both. Applications find the names as sent in ``environ[RAW_HEADERS]``.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from werkzeug.serving import WSGIRequestHandler, make_server

from captioner.emulator.children import HOST
from captioner.errors import BadEnvironment

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

RAW_HEADERS = "captioner.headers"
CHUNK = 1 << 20


class _Handler(WSGIRequestHandler):
    # With 1.0 a client that sends "Expect: 100-continue" waits for a second before each upload.
    protocol_version = "HTTP/1.1"

    def make_environ(self) -> WSGIEnvironment:
        environ = super().make_environ()
        environ[RAW_HEADERS] = list(self.headers.items())
        return environ

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


def bind(port: int) -> socket.socket:
    """A listening socket on this machine only. Raises BadEnvironment when the port is taken."""
    listening = socket.socket()
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise BadEnvironment(f"Port {port} cannot be used: {error.strerror or error}; choose another.") from None
    return listening


def serve_until_signal(application: WSGIApplication, listening: socket.socket) -> None:
    """Answer requests until SIGTERM or SIGINT; what is in flight then is cut off."""
    port = listening.getsockname()[1]
    server: Any = make_server(HOST, port, application, threaded=True, request_handler=_Handler, fd=listening.fileno())
    try:
        server.serve_forever()
    except SystemExit:
        pass
    finally:
        listening.close()


def leave_on_signals() -> None:
    """From now on SIGTERM and SIGINT end the main thread with SystemExit."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)


def ignore_signals() -> None:
    """From now on nothing interrupts the clean-up."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def blocks(environ: WSGIEnvironment) -> Iterator[bytes]:
    """The body of a request in pieces of at most CHUNK bytes, also when it comes without a length."""
    if environ.get("wsgi.input_terminated"):
        while block := environ["wsgi.input"].read(CHUNK):
            yield block
        return
    left = int(environ.get("CONTENT_LENGTH") or 0)
    while left > 0 and (block := environ["wsgi.input"].read(min(CHUNK, left))):
        left -= len(block)
        yield block
