"""Goal 4: beam search of width 3 over 1,000 images, against ``predict`` for each token and against batched PyTorch."""

from __future__ import annotations

import numpy as np

from benchmarks import machine, material
from benchmarks.peers import keras_prefixes, torch_attention
from benchmarks.results import Result
from benchmarks.rounds import Ratio, once, race
from benchmarks.torch_peer import MISSING

IMAGES, BATCH = 1000, 100
TORCH_IMAGES = 300  # of them in a round against PyTorch, whose speed does not depend on their number
PREDICTED = 1  # images in a round of the peer that calls predict: seconds each
CHECKED = 3  # of them compared, token by token
GOALS = {"predict": 1000.0, "torch": 1.5}


def run(images: int = IMAGES, predicted: int = PREDICTED, checked: int = CHECKED) -> list[Result]:
    grid = material.many(material.features(), images)
    return [*against_predict(grid, predicted, checked), against_torch(grid[:TORCH_IMAGES])]


def searched(kind: str) -> tuple[object, object]:
    """The decoder, and its beam search over features [n, cells, channels] as training and export compile it."""
    import tensorflow as tf

    from captioner.model.beam import beam_search

    decoder = material.trained_decoder(kind)
    options = material.EXPORT

    @tf.function(input_signature=[tf.TensorSpec([None, None, None], tf.float16)])
    def search(rows: tf.Tensor) -> tf.Tensor:
        context = decoder.image(tf.cast(tf.ensure_shape(rows, [None, 49, 1280]), tf.float32))
        ids, _ = beam_search(decoder, context, options.beam, material.MAX_WORDS, options.length_power)
        return ids[:, 0]

    def run(rows: np.ndarray) -> np.ndarray:
        return np.concatenate([search(tf.constant(rows[i : i + BATCH])).numpy() for i in range(0, len(rows), BATCH)])

    return decoder, run


def against_predict(grid: np.ndarray, predicted: int, checked: int) -> list[Result]:
    """The merge network, which the tutorial's decoding is for."""
    decoder, ours = searched("merge")
    model = keras_prefixes.build(decoder, material.MAX_WORDS, grid.shape[2])
    pooled = grid.astype(np.float32).mean(axis=1)

    def one(number: int) -> list[int]:
        options = material.EXPORT
        return keras_prefixes.beam_search(model, pooled[number], options.beam, material.MAX_WORDS, options.length_power)

    cold = {"ours": once(lambda: ours(grid[:BATCH])), "peer": once(lambda: one(0))}
    found = ours(grid[:checked])
    for number in range(checked):
        assert one(number) == words(found[number]), f"image {number}: {one(number)} and {words(found[number])}"
    turn = iter(range(10**6))

    def peer() -> float:
        for _ in range(predicted):
            one(next(turn) % len(grid))
        return float(predicted)

    times = race({"peer": peer, "ours": lambda: float(len(ours(grid)))})
    return [
        result(
            "beam 3, the merge network",
            "`predict` for each beam and token (Keras)",
            times,
            GOALS["predict"],
            f"tokens of {checked} images",
            cold,
        )
    ]


def against_torch(grid: np.ndarray) -> Result:
    """The attention network, batched on both sides."""
    name, peer = "beam 3, the attention network", "batched PyTorch"
    if not torch_attention.AVAILABLE:
        return Result(name=name, peer=peer, ratio=None, goal=GOALS["torch"], not_run=MISSING)
    import torch

    from captioner.model.trained import weights_of

    torch.set_num_threads(material.threads())
    decoder, ours = searched("attention")
    model = torch_attention.network(weights_of(decoder))

    def theirs(rows: np.ndarray) -> np.ndarray:
        options = material.EXPORT
        arguments = (options.beam, material.MAX_WORDS, options.length_power)
        return np.concatenate(
            [torch_attention.beam_search(model, rows[i : i + BATCH], *arguments) for i in range(0, len(rows), BATCH)]
        )

    cold = {"ours": once(lambda: ours(grid[:BATCH])), "peer": once(lambda: theirs(grid[:BATCH]))}
    wanted, found = theirs(grid), ours(grid)
    same = float(np.mean([words(a) == words(b) for a, b in zip(wanted, found, strict=True)]))
    assert same >= 0.995, f"only {same:.1%} of the captions are the same, token by token"
    times = race({"peer": lambda: float(len(theirs(grid))), "ours": lambda: float(len(ours(grid)))})
    return result(name, peer, times, GOALS["torch"], f"tokens of {same:.1%} of {len(grid)} images", cold)


def result(
    name: str, peer: str, times: dict[str, list[float]], goal: float, equal: str, cold: dict[str, float]
) -> Result:
    return Result(
        name=name,
        peer=peer,
        ratio=Ratio.of(times["ours"], times["peer"]),
        goal=goal,
        unit="images/s",
        ours=1 / float(np.median(times["ours"])),
        peers=1 / float(np.median(times["peer"])),
        equal=equal,
        details={"cold_start_s": cold, "limit": machine.limits()},
    )


def words(ids: np.ndarray) -> list[int]:
    """The ids before the end token."""
    from captioner.text import END

    found = [int(word) for word in ids]
    return found[: found.index(END)] if END in found else found
