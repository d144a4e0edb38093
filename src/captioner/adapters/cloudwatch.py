"""How a variant fared: SageMaker's own metrics over a while, out of CloudWatch.

CloudWatch counts by the minute and is a minute or two late on AWS: a while that is shorter says little.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from captioner.adapters.sagemaker_live import Clients
from captioner.release.health import Health

METRICS = {
    "invocations": ("Invocations", "Sum"),
    "errors_5xx": ("Invocation5XXErrors", "Sum"),
    "model_errors": ("InvocationModelErrors", "Sum"),
    "latency": ("ModelLatency", "Sum"),
    "latencies": ("ModelLatency", "SampleCount"),
}
PERIOD_S = 60


def health(clients: Clients, name: str, variants: Sequence[str], since: float, until: float) -> dict[str, Health]:
    """Each variant's health between two times (seconds since the epoch), whole minutes: the first begins before."""
    start = since - since % PERIOD_S
    queries = [_query(name, variant, number, key) for number, variant in enumerate(variants) for key in METRICS]
    pages = (
        clients("cloudwatch")
        .get_paginator("get_metric_data")
        .paginate(
            MetricDataQueries=queries,
            StartTime=datetime.fromtimestamp(start, UTC),
            EndTime=datetime.fromtimestamp(until + 1, UTC),
        )
    )
    sums: dict[str, float] = {}
    for page in pages:
        for result in page["MetricDataResults"]:
            sums[result["Id"]] = sums.get(result["Id"], 0.0) + sum(result["Values"])
    return {
        variant: _health({key: sums.get(f"v{n}_{key}", 0.0) for key in METRICS}) for n, variant in enumerate(variants)
    }


def _health(found: dict[str, float]) -> Health:
    mean = found["latency"] / found["latencies"] / 1000 if found["latencies"] else None  # microseconds
    return Health(found["invocations"], found["errors_5xx"], found["model_errors"], mean)


def _query(name: str, variant: str, number: int, key: str) -> dict[str, Any]:
    metric, statistic = METRICS[key]
    dimensions = [{"Name": "EndpointName", "Value": name}, {"Name": "VariantName", "Value": variant}]
    which = {"Namespace": "AWS/SageMaker", "MetricName": metric, "Dimensions": dimensions}
    return {"Id": f"v{number}_{key}", "MetricStat": {"Metric": which, "Period": PERIOD_S, "Stat": statistic}}
