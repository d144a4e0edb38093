"""Data capture: sampled requests and answers as JSON lines in S3, in SageMaker's layout, behind the caller's back.

    s3://BUCKET/PREFIX/ENDPOINT/VARIANT/yyyy/mm/dd/hh/mm-ss-mmm-UUID.jsonl      the hour (UTC) of the inference

An invocation only appends to a list; one thread encodes and writes every FLUSH_S seconds and at the end, so a polite
stop loses nothing. What cannot be written is kept for the next time, up to MAX_HELD bytes; beyond that (as AWS, when
its disk fills) captures are dropped, counted and said. Knows nothing of endpoints' states or instances.
"""

from __future__ import annotations

import base64
import json
import random
import sys
import threading
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import urlparse

from captioner.errors import CaptionerError

FLUSH_S = 2.0
MAX_HELD = 256 << 20  # bytes of bodies that wait for S3
EARLY = 16 << 20  # so much is written without waiting for the next flush
EVENT_VERSION = "0"


class Sink(Protocol):
    """Where the files go: ``Objects``. Raises FileNotFoundError without the bucket, BadEnvironment when S3 is down."""

    def upload(self, bucket: str, key: str, data: bytes) -> None: ...


@dataclass(frozen=True)
class Exchange:
    """One request that a variant answered."""

    endpoint: str
    variant: str
    request_type: str
    request: bytes
    answer_type: str
    answer: bytes
    inference_id: str | None = None
    time: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def size(self) -> int:
        return len(self.request) + len(self.answer)


class Capture:
    """Keeps what is sampled. `close` writes the rest."""

    def __init__(self, sink: Sink, flush_s: float = FLUSH_S, max_held: int = MAX_HELD) -> None:
        self._sink, self._flush_s, self._max_held = sink, flush_s, max_held
        self._lock = threading.Lock()
        self._waiting: list[tuple[Mapping[str, Any], Exchange]] = []
        self._held = 0
        self.dropped = 0
        self._random = random.Random(0)
        self._wake, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self._thread.start()

    def record(self, config: Mapping[str, Any] | None, exchange: Exchange) -> None:
        """Capture `exchange` if the DataCaptureConfig `config` samples it. Costs an append."""
        if not config or not config.get("EnableCapture", True):
            return
        with self._lock:
            if self._random.random() * 100 >= config.get("InitialSamplingPercentage", 0):
                return
            if self._held + exchange.size > self._max_held:
                self.dropped += 1
                return
            self._held += exchange.size
            self._waiting.append((config, exchange))
            early = self._held >= EARLY
        if early:
            self._wake.set()

    def close(self) -> None:
        """Write what waits and end."""
        self._closing.set()
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        dropped = 0
        while not self._closing.is_set():
            self._wake.wait(self._flush_s)
            self._wake.clear()
            self._flush()
            if self.dropped > dropped:
                _say(f"{self.dropped - dropped} captures were dropped: S3 does not keep up.")
                dropped = self.dropped
        self._flush()

    def _flush(self) -> None:
        with self._lock:
            taken, self._waiting = self._waiting, []
        done = sum(exchange.size for _, exchange in taken)
        kept: list[tuple[Mapping[str, Any], Exchange]] = []
        for place, some in _by_file(taken).items():
            try:
                self._write(place, some)
            except (CaptionerError, OSError) as error:
                gone = isinstance(error, FileNotFoundError) or self._closing.is_set()
                _say(f"{len(some)} captures for {place[0]} {'are lost' if gone else 'wait'}: {error}")
                kept += [] if gone else some
        with self._lock:
            self._held -= done - sum(exchange.size for _, exchange in kept)
            self._waiting[:0] = kept

    def _write(self, place: tuple[str, ...], some: Iterable[tuple[Mapping[str, Any], Exchange]]) -> None:
        destination, endpoint, variant, hour = place
        bucket, prefix = split_prefix(destination)
        lines = b"".join(line(config, exchange) for config, exchange in some)
        now = datetime.now(UTC)
        name = f"{now:%M-%S}-{now.microsecond // 1000:03d}-{uuid.uuid4()}.jsonl"
        self._sink.upload(bucket, "/".join([*prefix, endpoint, variant, hour, name]), lines)


def line(config: Mapping[str, Any], exchange: Exchange) -> bytes:
    """One record of the file, with the parts that the config's CaptureOptions name."""
    modes = {option["CaptureMode"] for option in config.get("CaptureOptions") or []}
    content_types = config.get("CaptureContentTypeHeader") or {}
    captured = {}
    if modes & {"Input", "InputAndOutput"}:
        captured["endpointInput"] = _part("INPUT", exchange.request_type, exchange.request, content_types)
    if modes & {"Output", "InputAndOutput"}:
        captured["endpointOutput"] = _part("OUTPUT", exchange.answer_type, exchange.answer, content_types)
    metadata = {"eventId": str(uuid.uuid4())}
    if exchange.inference_id is not None:
        metadata["inferenceId"] = exchange.inference_id
    metadata["inferenceTime"] = f"{exchange.time:%Y-%m-%dT%H:%M:%SZ}"
    record = {"captureData": captured, "eventMetadata": metadata, "eventVersion": EVENT_VERSION}
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


def _part(mode: str, content_type: str, data: bytes, content_types: Mapping[str, list[str]]) -> dict[str, str]:
    text, encoding = None, "BASE64"
    kind = content_type.split(";")[0].strip().lower()
    for member, called in (("CsvContentTypes", "CSV"), ("JsonContentTypes", "JSON")):
        if kind in (one.lower() for one in content_types.get(member) or []):
            try:
                text, encoding = data.decode(), called
            except UnicodeDecodeError:
                break  # it is not what its header says: base64 keeps it whole
    if text is None:
        text = base64.b64encode(data).decode()
    return {"observedContentType": content_type, "mode": mode, "data": text, "encoding": encoding}


def split_prefix(url: str) -> tuple[str, list[str]]:
    """Bucket and the prefix's parts of a DestinationS3Uri. Raises FileNotFoundError when it is none of ours."""
    parts = urlparse(url)
    if parts.scheme != "s3" or not parts.netloc:
        raise FileNotFoundError(f"{url} is not s3://BUCKET/PREFIX")
    return parts.netloc, [part for part in parts.path.split("/") if part]


def _by_file(
    taken: list[tuple[Mapping[str, Any], Exchange]],
) -> dict[tuple[str, ...], list[tuple[Mapping[str, Any], Exchange]]]:
    files: dict[tuple[str, ...], list[tuple[Mapping[str, Any], Exchange]]] = {}
    for config, exchange in taken:
        hour = f"{exchange.time:%Y/%m/%d/%H}"
        place = (str(config["DestinationS3Uri"]), exchange.endpoint, exchange.variant, hour)
        files.setdefault(place, []).append((config, exchange))
    return files


def _say(sentence: str) -> None:
    print(f"data capture: {sentence}", file=sys.stderr, flush=True)
