"""Goal 2: training the merge network on whole sequences, against the tutorial's generator of partial sequences."""

from __future__ import annotations

import keras
import numpy as np

from benchmarks import material
from benchmarks.peers import keras_prefixes
from benchmarks.results import Result
from benchmarks.rounds import race
from benchmarks.training import STEPS, Batch, compared, len_of, result, turn

NAME, PEER, GOAL = "training the merge network", "generator of partial sequences (Keras)", 8.0
OURS, PEERS = 40, 2  # batches in a round


def run(ours: int = OURS, peers: int = PEERS) -> list[Result]:
    batches = material.batches(max(ours, STEPS))
    channels = batches[0][0].shape[2]
    decoder = material.new_decoder(material.DECODERS["merge"], channels)
    peer = keras_prefixes.build(decoder, material.MAX_WORDS, channels)
    trainer = material.new_trainer(decoder)
    optimizer = keras.optimizers.Adam(trainer.rate, global_clipnorm=material.TRAIN.clip_norm)
    peer.compile(loss="categorical_crossentropy", optimizer=optimizer)

    def sequences(batch: Batch, step: int) -> float:
        return float(trainer.train(*batch, step)[0])

    def prefixes(batch: Batch, step: int) -> float:
        return float(peer.train_on_batch(*keras_prefixes.samples(*batch, material.MAX_WORDS, material.VOCABULARY)))

    def prefixes_alone(batch: Batch, step: int) -> float:
        peer.reset_metrics()  # Keras would answer with the mean over all batches so far
        return prefixes(batch, step)

    details = compared(batches, sequences, prefixes_alone)
    found = race({"peer": turn(prefixes, batches[:peers]), "ours": turn(sequences, batches[:ours])})
    return [result(NAME, PEER, GOAL, found, details, multiplications(batches[:ours]))]


def multiplications(batches: list[Batch]) -> float:
    """Of one forward pass for one caption: recurrence, words and softmax on real tokens."""
    params = material.DECODERS["merge"]
    tokens = np.mean([(captions[:, :, 1:] != 0).sum() / len_of((grid, captions)) for grid, captions in batches])
    per_token = (
        params.units * 4 * params.units + params.embedding * 4 * params.units + params.units * material.VOCABULARY
    )
    return float(tokens * per_token)
