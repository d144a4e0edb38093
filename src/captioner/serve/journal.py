"""What a request leaves behind: one line of JSON on standard output, where a container's log is read from.

Never the picture, nor the caption: who needs those has data capture, which is switched on deliberately and expires.
"""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import dataclass
from typing import Any, TextIO

from captioner.clock import stamp


@dataclass
class Record:
    """One POST /invocations, filled in on its way. Times are in seconds; None for what it did not come to."""

    inference_id: str
    bytes: int = 0
    images: int | None = None
    batch: int | None = None
    queue_s: float | None = None
    model_s: float | None = None
    total_s: float = 0.0
    status: int = 0
    error: str | None = None


class Journal:
    """Writes lines about one model to `stream` (default: standard output); threads may share it."""

    def __init__(self, version: str, digest: str, stream: TextIO | None = None) -> None:
        self._model = {"version": version, "digest": digest}
        self._stream = stream
        self._lock = threading.Lock()

    def write(self, event: str, **fields: Any) -> None:
        """One line: when, what, which model, and `fields`."""
        line = json.dumps({"time": stamp(), "event": event, "model": self._model, **fields}, ensure_ascii=False)
        stream = self._stream or sys.stdout
        with self._lock:
            stream.write(line + "\n")
            stream.flush()

    def request(self, record: Record) -> None:
        """The line of one invocation, latencies in milliseconds."""
        self.write(
            "invocation",
            inference_id=record.inference_id,
            status=record.status,
            queue_ms=_ms(record.queue_s),
            model_ms=_ms(record.model_s),
            total_ms=_ms(record.total_s),
            images=record.images,
            batch=record.batch,
            bytes=record.bytes,
            **({"error": record.error} if record.error else {}),
        )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 2)
