"""The time as this project writes it."""

from __future__ import annotations

from datetime import UTC, datetime


def stamp(at: datetime | None = None) -> str:
    """`at`, or now: UTC, ISO 8601, to the millisecond, ``2026-01-31T09:30:00.000Z``."""
    return (at or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
