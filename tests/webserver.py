"""A real HTTP server for tests that behaves as badly as it is told to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Behaviour:
    """What the server serves, and how. Lists are used up from the front, one entry for each request."""

    body: bytes
    etag: str | None = '"v1"'
    ranges: bool = True
    length: bool = True
    break_after: list[int] = field(default_factory=list)  # send so many bytes, then hang up
    statuses: list[int] = field(default_factory=list)  # answer with these first
    stall: list[bool] = field(default_factory=list)  # say nothing until the server ends
    shift_range: int = 0  # lie about where a range starts
    requests: list[dict[str, str]] = field(default_factory=list)  # the headers of each request
    stalled: threading.Event = field(default_factory=threading.Event)  # a request is kept waiting
    closing: threading.Event = field(default_factory=threading.Event)


class _Handler(BaseHTTPRequestHandler):
    server: Any

    def do_GET(self) -> None:
        how: Behaviour = self.server.behaviour
        how.requests.append(dict(self.headers))
        if how.stall and how.stall.pop(0):
            how.stalled.set()
            how.closing.wait(30)
            return
        if how.statuses:
            self.send_error(how.statuses.pop(0))
            return
        start = self._start(how)
        if start and start >= len(how.body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(how.body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        rest = how.body[start:]
        self.send_response(206 if start else 200)
        if how.etag:
            self.send_header("ETag", how.etag)
        if start:
            first = start + how.shift_range
            self.send_header("Content-Range", f"bytes {first}-{len(how.body) - 1}/{len(how.body)}")
        if how.length:
            self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: how.break_after.pop(0)] if how.break_after else rest)
        self.close_connection = True

    def _start(self, how: Behaviour) -> int:
        asked = self.headers.get("Range")
        fresh = self.headers.get("If-Range") in (None, how.etag)
        return int(asked.removeprefix("bytes=").split("-")[0]) if asked and how.ranges and fresh else 0

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve(behaviour: Behaviour) -> Iterator[str]:
    """Serve on a free port of 127.0.0.1; gives the address of a file."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.behaviour = behaviour  # type: ignore[attr-defined]
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/file.zip"
    finally:
        behaviour.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
