"""Goal 3: training the attention network, against a PyTorch loop that projects the grid for each step and caption."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from benchmarks import machine, material
from benchmarks.merge_training import STEPS, len_of
from benchmarks.peers import torch_attention
from benchmarks.results import Result
from benchmarks.rounds import Ratio, once, race
from benchmarks.torch_peer import MISSING
from captioner.params import DecoderParams

PEER, GOAL = "PyTorch, attention recomputed for each step and caption", 10.0
OURS, PEERS = 16, 2  # batches in a round, each of sixteen images as in the profiles


class Network(NamedTuple):
    name: str
    decoder: DecoderParams
    encoder: str


NETWORKS = (
    Network("training the attention network", material.DECODERS["attention"], material.ENCODER),
    Network(
        "training the attention network of the profile `flickr8k`",
        material.FLICKR8K.decoders["attention"].model_copy(update={"dropout": 0.0}),
        material.FLICKR8K.features.encoder,
    ),
)


def run(ours: int = OURS, peers: int = PEERS) -> list[Result]:
    return [against_torch(network, ours, peers) for network in NETWORKS]


def against_torch(network: Network, ours: int, peers: int) -> Result:
    if not torch_attention.AVAILABLE:
        return Result(name=network.name, peer=PEER, ratio=None, goal=GOAL, not_run=MISSING)
    import torch

    from captioner.model.trained import weights_of

    batches = material.batches(max(ours, STEPS), encoder=network.encoder)
    decoder = material.new_decoder(network.decoder)
    trainer = material.new_trainer(decoder)
    torch.set_num_threads(material.threads())
    model = torch_attention.network(weights_of(decoder), network.decoder.heads)
    loop = torch_attention.Loop(model, material.TRAIN.clip_norm)
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
    flops = 3 * 2 * multiplications(network.decoder, batches[:ours])
    return Result(
        name=network.name,
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


def multiplications(params: DecoderParams, batches: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Of one forward pass for one caption: the grid once an image, the rest on real tokens."""
    u, e, v = params.units, params.embedding, material.VOCABULARY
    cells, channels = batches[0][0].shape[1:]
    captions = sum(len_of(batch) for batch in batches)
    tokens = sum((ids[:, :, 1:] != 0).sum() for _, ids in batches) / captions
    images = sum(len(grid) for grid, _ in batches) / captions
    per_image = cells * (channels * u + u * u) + u * 6 * u
    sentinel = e * u + 2 * u * u if params.sentinel else 0
    per_token = 4 * u * u + 4 * e * u + sentinel + u * u + 2 * cells * u + 2 * u * u + u * v
    return float(images * per_image + tokens * per_token)
