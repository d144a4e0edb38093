"""What the benchmarks of training share: equal losses first, then captions a second, and how far from the machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.results import Result
from benchmarks.rounds import Ratio, once

STEPS = 5  # after which the losses must still be equal

Batch = tuple[np.ndarray, np.ndarray]
Update = Callable[[Batch, int], float]
"""One update on a batch, features and captions, at a step of the schedule. Returns the mean loss a token."""


def compared(batches: Sequence[Batch], ours: Update, peers: Update) -> dict[str, Any]:
    """Both from the same weights: each one's losses and first step. Raises AssertionError when the losses differ."""
    losses, cold = [], {}
    for step, batch in enumerate(batches[:STEPS]):
        pair: list[float] = []
        mine, theirs = (once(lambda u=update, b=batch, s=step, p=pair: p.append(u(b, s))) for update in (ours, peers))
        cold = cold or {"ours": mine, "peer": theirs}
        losses.append(pair)
    np.testing.assert_allclose(*zip(*losses, strict=True), rtol=1e-3)
    return {"losses": losses, "cold_start_s": cold}


def turn(update: Update, batches: Sequence[Batch]) -> Callable[[], float]:
    """A contestant's turn: an update on each of `batches`. It returns the captions in them."""

    def play() -> float:
        for step, batch in enumerate(batches):
            update(batch, step)
        return float(sum(len_of(batch) for batch in batches))

    return play


def result(
    name: str,
    peer: str,
    goal: float,
    found: Mapping[str, Sequence[float]],
    details: Mapping[str, Any],
    multiplications: float,
) -> Result:
    """Of a race between "ours" and "peer"; `multiplications` are those of a forward pass for one caption."""
    mine, theirs = (float(np.median(found[who])) for who in ("ours", "peer"))
    limits = machine.limits()
    reached = 3 * 2 * multiplications / mine / (limits["gemm_gflops"] * 1e9)
    return Result(
        name=name,
        peer=peer,
        ratio=Ratio.of(found["ours"], found["peer"]),
        goal=goal,
        unit="captions/s",
        ours=1 / mine,
        peers=1 / theirs,
        equal=f"the loss of each of {STEPS} steps from the same weights, to a thousandth",
        details={**details, "limit": {**limits, "share_reached": reached}},
    )


def len_of(batch: Batch) -> int:
    """Captions in a batch."""
    return int((batch[1] != 0).any(axis=2).sum())
