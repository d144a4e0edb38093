"""Goal 3: training the attention network, against a PyTorch loop that projects the grid for each step and caption."""

from __future__ import annotations

import numpy as np

from benchmarks import machine, material
from benchmarks.merge_training import STEPS, len_of
from benchmarks.peers import torch_attention
from benchmarks.results import Result
from benchmarks.rounds import Ratio, once, race
from benchmarks.torch_peer import MISSING

NAME, PEER, GOAL = "training the attention network", "PyTorch, attention recomputed for each step and caption", 10.0
OURS, PEERS = 16, 2  # batches in a round, each of sixteen images as in the profiles


def run(ours: int = OURS, peers: int = PEERS) -> list[Result]:
    if not torch_attention.AVAILABLE:
        return [Result(name=NAME, peer=PEER, ratio=None, goal=GOAL, not_run=MISSING)]
    import torch

    from captioner.model.trained import weights_of

    batches = material.batches(max(ours, STEPS))
    decoder = material.new_decoder("attention")
    trainer = material.new_trainer(decoder)
    torch.set_num_threads(material.threads())
    loop = torch_attention.Loop(torch_attention.network(weights_of(decoder)), material.TRAIN.clip_norm)
    losses, cold = [], {}
    for step, batch in enumerate(batches[:STEPS]):
        pair: list[float] = []
        mine = once(lambda b=batch, s=step, p=pair: p.append(trainer.train(*b, s)[0]))
        theirs = once(lambda b=batch, s=step, p=pair: p.append(loop.train(*b, float(trainer.rate(s)))))
        cold = cold or {"ours": mine, "peer": theirs}
        losses.append(pair)
    np.testing.assert_allclose(*zip(*losses, strict=True), rtol=1e-3)

    def play(train: object, count: int) -> float:
        for step, batch in enumerate(batches[:count]):
            train(batch, step)  # type: ignore[operator]
        return float(sum(len_of(batch) for batch in batches[:count]))

    found = race(
        {
            "peer": lambda: play(lambda batch, step: loop.train(*batch, float(trainer.rate(step))), peers),
            "ours": lambda: play(lambda batch, step: trainer.train(*batch, step), ours),
        }
    )
    mine, theirs = (float(np.median(found[name])) for name in ("ours", "peer"))
    limits = machine.limits()
    flops = 3 * 2 * multiplications(batches[:ours])
    return [
        Result(
            name=NAME,
            peer=PEER,
            ratio=Ratio.of(found["ours"], found["peer"]),
            goal=GOAL,
            unit="captions/s",
            ours=1 / mine,
            peers=1 / theirs,
            equal=f"the loss of each of {STEPS} steps from the same weights, to a thousandth",
            details={
                "losses": losses,
                "cold_start_s": cold,
                "limit": {**limits, "share_reached": flops / mine / (limits["gemm_gflops"] * 1e9)},
            },
        )
    ]


def multiplications(batches: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Of one forward pass for one caption: the grid once an image, the rest on real tokens."""
    params = material.DECODERS["attention"]
    u, e, v = params.units, params.embedding, material.VOCABULARY
    cells, channels = batches[0][0].shape[1:]
    captions = sum(len_of(batch) for batch in batches)
    tokens = sum((ids[:, :, 1:] != 0).sum() for _, ids in batches) / captions
    images = sum(len(grid) for grid, _ in batches) / captions
    per_image = cells * (channels * u + u * u) + u * 6 * u
    per_token = 4 * u * u + 4 * e * u + e * u + 3 * u * u + 2 * cells * u + 2 * u * u + u * v
    return float(images * per_image + tokens * per_token)
