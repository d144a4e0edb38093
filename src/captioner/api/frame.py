"""Around every request: one line in the log, and headers that every answer has.

What a route wants to be told there it puts into ``scope["told"]``. Knows nothing of routes.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from captioner.api.journal import Say

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


class Frame:
    """The middleware. `say` gets ``request`` with method, path, status, milliseconds and what the route told."""

    def __init__(self, app: ASGIApp, say: Say) -> None:
        self._app, self._say = app, say

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 500
        told: dict[str, Any] = scope.setdefault("told", {})

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                there = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(one for one in HEADERS if one[0] not in there)]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            took = round((time.monotonic() - began) * 1000, 2)
            self._say("request", method=scope["method"], path=scope["path"], status=status, ms=took, **told)
