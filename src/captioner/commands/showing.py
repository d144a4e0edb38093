"""Reports on a terminal: as JSON, as the text that they give of themselves, or field by field."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any


def show(report: Any, as_json: bool) -> None:
    """A report as JSON, as the text that it gives of itself, or field by field."""
    is_record = dataclasses.is_dataclass(report) and not isinstance(report, type)
    fields: Any = dataclasses.asdict(report) if is_record else report
    if as_json:
        print(json.dumps(fields, indent=2, sort_keys=True, default=str))
    elif hasattr(report, "render"):
        print(report.render())
    elif isinstance(fields, dict):
        print("\n".join(_lines(fields)))
    else:
        print(fields)


def _lines(fields: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """`name  value`, one a line; what is empty is left out, what is nested is indented."""
    for name, value in fields.items():
        if value is None or value in ({}, [], (), ""):
            continue
        label = indent + name.replace("_", " ")
        if isinstance(value, Mapping) and any(isinstance(v, Mapping) for v in value.values()):
            yield label
            yield from _lines(value, indent + "  ")
        else:
            yield f"{label:<24} {_text(value)}"


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')} {_text(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
