"""Is a variant well? What CloudWatch counted over a while, held against the limits. Numbers in, sentences out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from captioner.deployparams import LimitsParams


@dataclass(frozen=True)
class Health:
    """A variant over a while: requests, those that failed, and the model's mean latency (None without requests)."""

    invocations: float = 0.0
    errors_5xx: float = 0.0
    model_errors: float = 0.0
    latency_ms: float | None = None

    def after(self, earlier: Health) -> Health:
        """What came after `earlier`, of which all is counted here too."""
        requests = self.invocations - earlier.invocations
        if requests <= 0:
            return Health()
        took = (self.latency_ms or 0.0) * self.invocations - (earlier.latency_ms or 0.0) * earlier.invocations
        return Health(
            requests,
            max(0.0, self.errors_5xx - earlier.errors_5xx),
            max(0.0, self.model_errors - earlier.model_errors),
            None if self.latency_ms is None else max(0.0, took / requests),
        )


def faults(found: Mapping[str, Health], limits: LimitsParams, min_requests: int = 0) -> tuple[str, ...]:
    """What is wrong, a sentence each; empty when all variants are well. Too few requests prove nothing, so they are
    a fault as well."""
    said = []
    for name, one in found.items():
        if one.invocations < min_requests:
            said.append(f"{name} answered {one.invocations:.0f} requests, and {min_requests} are needed to judge it.")
        if one.invocations:
            for called, count, limit in (
                ("with 5xx", one.errors_5xx, limits.errors_5xx),
                ("other than with 2xx", one.model_errors, limits.model_errors),
            ):
                if count / one.invocations > limit:
                    share = count / one.invocations
                    said.append(
                        f"{name} answered {share:.1%} of {one.invocations:.0f} requests {called} (limit {limit:.1%})."
                    )
        if one.latency_ms is not None and one.latency_ms > limits.latency_ms:
            said.append(f"{name} took {one.latency_ms:.0f} ms (limit {limits.latency_ms:.0f} ms).")
    return tuple(said)
