"""Goal 3: training the attention network, against a PyTorch loop that projects the grid for each step and caption."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks import material
from benchmarks.peers import torch_attention
from benchmarks.results import Result
from benchmarks.rounds import MANY, race
from benchmarks.torch_peer import MISSING
from benchmarks.training import STEPS, Batch, compared, len_of, result, turn
from captioner.params import DecoderParams, load_params

PEER, GOAL = "PyTorch, attention recomputed for each step and caption", 10.0
OURS, PEERS = 16, 2  # batches in a round, each of sixteen images as in the profiles
FLICKR8K = load_params(material.ROOT / "profiles" / "flickr8k.yaml")


class Network(NamedTuple):
    name: str
    decoder: DecoderParams
    encoder: str


NETWORKS = (
    Network("training the attention network", material.DECODERS["attention"], material.ENCODER),
    # What users train on photos, as it is but for dropout, which no two libraries draw alike.
    Network(
        "training the attention network of the profile `flickr8k`",
        FLICKR8K.decoders["attention"].model_copy(update={"dropout": 0.0}),
        FLICKR8K.features.encoder,
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
    decoder = material.new_decoder(network.decoder, batches[0][0].shape[2])
    trainer = material.new_trainer(decoder)
    torch.set_num_threads(material.threads())
    model = torch_attention.network(weights_of(decoder), network.decoder.heads)
    loop = torch_attention.Loop(model, material.TRAIN.clip_norm)

    def mine(batch: Batch, step: int) -> float:
        return float(trainer.train(*batch, step)[0])

    def theirs(batch: Batch, step: int) -> float:
        return loop.train(*batch, float(trainer.rate(step)))

    details = compared(batches, mine, theirs)
    found = race({"peer": turn(theirs, batches[:peers]), "ours": turn(mine, batches[:ours])}, MANY)
    return result(network.name, PEER, GOAL, found, details, multiplications(network.decoder, batches[:ours]))


def multiplications(params: DecoderParams, batches: list[Batch]) -> float:
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
