"""Goal 2: training the merge network on whole sequences, against the tutorial's generator of partial sequences."""

from __future__ import annotations

import keras
import numpy as np

from benchmarks import machine, material
from benchmarks.peers import keras_prefixes
from benchmarks.results import Result
from benchmarks.rounds import Ratio, once, race

STEPS = 5  # after which the losses must still be equal
OURS, PEERS = 40, 2  # batches in a round


def run(ours: int = OURS, peers: int = PEERS) -> list[Result]:
    batches = material.batches(max(ours, STEPS))
    decoder = material.new_decoder(material.DECODERS["merge"])
    channels = batches[0][0].shape[2]
    peer = keras_prefixes.build(decoder, material.MAX_WORDS, channels)
    trainer = material.new_trainer(decoder)
    optimizer = keras.optimizers.Adam(trainer.rate, global_clipnorm=material.TRAIN.clip_norm)
    peer.compile(loss="categorical_crossentropy", optimizer=optimizer)

    def prefixes(grid: np.ndarray, captions: np.ndarray) -> float:
        return float(
            peer.train_on_batch(*keras_prefixes.samples(grid, captions, material.MAX_WORDS, material.VOCABULARY))
        )

    def sequences(count: int) -> float:
        for step, batch in enumerate(batches[:count]):
            trainer.train(*batch, step)
        return float(sum(len_of(batch) for batch in batches[:count]))

    losses = []
    cold = {}
    for step, batch in enumerate(batches[:STEPS]):
        pair: list[float] = []
        mine = once(lambda b=batch, s=step, p=pair: p.append(trainer.train(*b, s)[0]))
        theirs = once(lambda b=batch, p=pair: (peer.reset_metrics(), p.append(prefixes(*b))))
        cold = cold or {"ours": mine, "peer": theirs}
        losses.append(pair)
    np.testing.assert_allclose(*zip(*losses, strict=True), rtol=1e-3)

    def generator() -> float:
        for batch in batches[:peers]:
            prefixes(*batch)
        return float(sum(len_of(batch) for batch in batches[:peers]))

    found = race({"peer": generator, "ours": lambda: sequences(ours)})
    mine, theirs = (float(np.median(found[name])) for name in ("ours", "peer"))
    limits = machine.limits()
    flops = 3 * 2 * multiplications(batches[:ours])
    return [
        Result(
            name="training the merge network",
            peer="generator of partial sequences (Keras)",
            ratio=Ratio.of(found["ours"], found["peer"]),
            goal=8.0,
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


def len_of(batch: tuple[np.ndarray, np.ndarray]) -> int:
    """Captions in a batch."""
    return int((batch[1] != 0).any(axis=2).sum())


def multiplications(batches: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Of one forward pass for one caption: recurrence, words and softmax on real tokens."""
    params = material.DECODERS["merge"]
    tokens = np.mean([(captions[:, :, 1:] != 0).sum() / len_of((grid, captions)) for grid, captions in batches])
    per_token = (
        params.units * 4 * params.units + params.embedding * 4 * params.units + params.units * material.VOCABULARY
    )
    return float(tokens * per_token)
