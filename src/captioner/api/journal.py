"""One line of JSON on standard output for whatever is worth telling: a terminal, a log file and CloudWatch read it.

Never a picture, a caption, a key or a user's name.
"""

from __future__ import annotations

import json
import sys
import threading
from datetime import UTC, datetime
from typing import Any, Protocol, TextIO


class Say(Protocol):
    """Tells of an event."""

    def __call__(self, event: str, **fields: Any) -> None: ...


class Journal:
    """Writes to `stream` (default: standard output); threads may share it."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream, self._lock = stream, threading.Lock()

    def __call__(self, event: str, **fields: Any) -> None:
        line = json.dumps({"time": timestamp(), "event": event, **fields}, ensure_ascii=False)
        stream = self._stream or sys.stdout
        with self._lock:
            stream.write(line + "\n")
            stream.flush()


def timestamp() -> str:
    """Now: UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
