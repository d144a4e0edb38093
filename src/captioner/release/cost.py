"""What an endpoint costs an hour: instances times a price, from a table with a date, or from the params.

An estimate for the decision at hand: no storage, traffic, alarms or taxes, and none of an account's own discounts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from captioner.deployparams import DeployParams
from captioner.release.requests import capacity


@dataclass(frozen=True)
class Cost:
    """US dollars an hour, None when a price is not known; what that is made of; and whose prices of which date."""

    hourly: float | None
    said: str
    source: str = ""


def cost(params: DeployParams, variants: Sequence[str]) -> Cost:
    """The cost of these variants in US dollars an hour."""
    if params.serverless:
        return Cost(None, "serverless: nothing while nobody asks, then by the second of each request and its memory")
    table = _table()
    known: Mapping[str, float] = {**table["hourly"], **params.prices}
    capacities = [capacity(params, name) for name in variants]
    missing = sorted({kind for kind, _ in capacities if kind not in known})
    if missing:
        return Cost(None, f"no price is known for {', '.join(missing)}: name it in deploy.prices")
    hourly = sum(known[kind] * count for kind, count in capacities)
    own = sorted({kind for kind, _ in capacities} & set(params.prices))
    sources = [f"deploy.prices for {', '.join(own)}"] if own else []
    if any(kind not in params.prices for kind, _ in capacities):
        sources.append(f"{table['region']} as of {table['as_of']}, {table['source']}")
    counted = " + ".join(f"{count} x {kind}" for kind, count in capacities)
    return Cost(round(hourly, 6), counted, "; ".join(sources))


def _table() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((files("captioner.release") / "prices.json").read_text(encoding="utf-8"))
    return found
