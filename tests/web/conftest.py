"""The real API application over HTTP, with fakes of S3 and the endpoint behind it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn

from tests.api.conftest import World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def api(world: World) -> Iterator[str]:
    """The API over HTTP, with fakes of S3 and the endpoint behind it."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(world.app(), log_level="error"))
        ready = threading.Event()
        server.startup, begin = _told(server.startup, ready), server.serve  # type: ignore[method-assign]
        thread = threading.Thread(target=lambda: asyncio.run(begin(sockets=[listening])), daemon=True)
        thread.start()
        assert ready.wait(30)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(30)


def _told(startup: Callable[..., Any], ready: threading.Event) -> Callable[..., Any]:
    async def start(*args: Any, **more: Any) -> None:
        await startup(*args, **more)
        ready.set()

    return start
