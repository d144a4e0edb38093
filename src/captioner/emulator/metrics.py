"""What the data plane measures, in CloudWatch's terms: the namespace AWS/SageMaker, minute by minute.

Each request counts once for its endpoint and variant, and once more with its EndpointConfigName: during a blue/green
deployment only that tells the new fleet's numbers from the old one's.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from captioner.emulator.series import Datum, Metric, Series

NAMESPACE = "AWS/SageMaker"
MINUTE_S = 60.0
_Key = tuple[str, str, str]  # endpoint, variant, config


class Meter:
    """Collects requests until `flush` publishes them."""

    def __init__(self, series: Series) -> None:
        self._series, self._lock = series, threading.Lock()
        self._collected: dict[Metric, Datum] = {}

    def record(self, key: _Key, status: int, model_us: int, overhead_us: int, instances: int) -> None:
        """One request that was answered with `status`; `instances` is how many could have answered it."""
        # As AWS sends them: errors are 0 or 1 for every request, so that their average is a rate.
        measured = {
            "Invocations": 1.0,
            "InvocationsPerInstance": 1 / max(1, instances),
            "Invocation4XXErrors": float(400 <= status < 500),
            "Invocation5XXErrors": float(status >= 500),
            "InvocationModelErrors": float(not 200 <= status < 300),
        }
        if model_us:
            measured |= {"ModelLatency": float(model_us), "OverheadLatency": float(overhead_us)}
        endpoint, variant, config = key
        both = [("EndpointName", endpoint), ("VariantName", variant)]
        with self._lock:
            for dimensions in (both, [*both, ("EndpointConfigName", config)]):
                for name, value in measured.items():
                    metric = Metric.of(NAMESPACE, name, dimensions)
                    unit = "Microseconds" if name.endswith("Latency") else "None"
                    self._collected.setdefault(metric, Datum(0.0, unit)).add(value)

    def flush(self, at: float) -> None:
        """Publish what was collected as of the interval that began `at`."""
        with self._lock:
            collected, self._collected = self._collected, {}
        for metric, datum in collected.items():
            datum.at = at
            self._series.put(metric, datum)


class Pulse:
    """The tick of the metrics: at the end of every interval, aligned to the clock, publish and then judge."""

    def __init__(self, interval_s: float, meter: Meter, judge: Callable[[float], None]) -> None:
        self._interval, self._meter, self._judge = interval_s, meter, judge
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="metrics", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()

    def _beat(self) -> None:
        tick = math.floor(time.time() / self._interval) + 1
        while not self._closing.wait(max(0.0, tick * self._interval - time.time())):
            self._meter.flush((tick - 1) * self._interval)
            self._judge(tick * self._interval)
            # A machine that slept, or was busy, skips ticks rather than catching up on them.
            tick = max(tick, math.floor(time.time() / self._interval)) + 1
