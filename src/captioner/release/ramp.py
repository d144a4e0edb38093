"""A ramp: the challenger's share of the traffic in steps, as the steps of a plan."""

from __future__ import annotations

from typing import Any

from captioner.errors import BadInput
from captioner.ledger import CHALLENGER, CHAMPION
from captioner.release import names, requests
from captioner.release.facts import Live
from captioner.release.steps import Step, arrived, weigh


def share_now(endpoint: str, live: Live) -> float:
    """The challenger's share of the traffic. Raises BadInput where there is nothing to move."""
    weights = {one.name: one.weight for one in live.production}
    if live.status != "InService":
        state = f"is {live.status}" if live.status else "does not exist"
        raise BadInput(f"The endpoint {endpoint} {state}: `captioner deploy` first.")
    if set(weights) != {CHAMPION, CHALLENGER}:
        why = "the challenger is a shadow, which answers nobody" if len(live.variants) > len(weights) else "alone"
        raise BadInput(
            f"{endpoint} has no champion and challenger to share the traffic ({', '.join(sorted(weights))}: {why})."
        )
    total = sum(weights.values())
    return weights[CHALLENGER] / total if total else 0.0


def moved(endpoint: str, live: Live, share: float, wanted: float) -> tuple[Step, ...]:
    """The steps to a challenger's `share`. The tag comes first: a reconcile that meets the new weights then keeps them.

    `wanted` is the params' share, so that a later change of the params is told from this ramp.
    """
    digest = next(one.digest for one in live.production if one.name == CHALLENGER)
    tag = {names.SHARE: f"{share:g}/{digest[:12]}/{wanted:g}"}
    weights = {CHAMPION: round(1.0 - share, 6), CHALLENGER: share}
    return (
        Step("sagemaker", "AddTags", names.SHARE, {"EndpointName": endpoint, "Tags": requests.as_tags(tag)}),
        weigh(endpoint, weights, {}),
        arrived(endpoint, str(live.config), weights),
    )


def with_shares(experiment: dict[str, Any], share: float) -> dict[str, Any]:
    """The experiment's document with these shares: who assigns users reads them, for TargetVariant ignores weights."""
    return {**experiment, "shares": {CHAMPION: round(1.0 - share, 6), CHALLENGER: share}}
