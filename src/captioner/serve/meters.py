"""What ``GET /metrics`` shows to Prometheus. Knows of requests only what `journal.Record` says of each.

SageMaker passes /invocations and /ping on and nothing else, so this is for wherever else the image runs; on an
endpoint the same is in CloudWatch and in the log.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder

from captioner.serve.journal import Record

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0)
IMAGES = (1, 2, 4, 8, 12, 16)


class Meters:
    """The metrics of one server; `waiting` tells how many requests are queued now."""

    def __init__(self, version: str, digest: str, waiting: Callable[[], int]) -> None:
        self._registry = registry = CollectorRegistry()
        PlatformCollector(registry=registry)
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "captioner_requests", "Invocations answered, by HTTP status", ["status"], registry=registry
        )
        self._images = Counter("captioner_images", "Images captioned", registry=registry)
        seconds = Histogram(
            "captioner_request_seconds",
            "Seconds of an invocation that was captioned: waiting, in the model, in all",
            ["phase"],
            buckets=SECONDS,
            registry=registry,
        )
        self._queue, self._model, self._total = (seconds.labels(phase) for phase in ("queue", "model", "total"))
        self._batch = Histogram(
            "captioner_batch_images",
            "Images in the batch that an invocation was captioned in",
            buckets=IMAGES,
            registry=registry,
        )
        Gauge("captioner_queue_requests", "Invocations that wait for the model", registry=registry).set_function(
            waiting
        )
        Info("captioner_model", "The model that answers", registry=registry).info(
            {"version": version, "digest": digest}
        )

    def count(self, record: Record) -> None:
        """Take one invocation into account."""
        self._requests.labels(str(record.status)).inc()
        if record.batch is None or record.queue_s is None or record.model_s is None:
            return
        self._images.inc(record.images or 0)
        self._batch.observe(record.batch)
        self._queue.observe(record.queue_s)
        self._model.observe(record.model_s)
        self._total.observe(record.total_s)

    def page(self, accept: str) -> tuple[bytes, str]:
        """The metrics as the reader wants them, and the content type of that."""
        encode, kind = choose_encoder(accept)
        return encode(self._registry), kind
