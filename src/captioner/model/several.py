"""Encoders cut in two, and several of them as one: tuned ends side by side behind the part that they share.

The published blocks in front run once for all; each end has its own channels in the grid, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from captioner.errors import BadData, BadParams

OPENING = "-expand"  # the first layer of a block


def split(network: keras.Model, first: str) -> tuple[keras.Model, keras.Model]:
    """The network before its block `first`, and from there on. Raises BadParams, with the blocks that there are."""
    blocks = [layer.name.removesuffix(OPENING) for layer in network.layers if layer.name.endswith(OPENING)]
    if first not in blocks:
        known = f"it has {blocks[0]} to {blocks[-1]}" if blocks else "only EfficientNet-Lite's blocks can be tuned"
        raise BadParams(f"train.finetune.first: the encoder {network.name} has no {first} to begin with; {known}.")
    cut = network.get_layer(f"{first}{OPENING}").input
    return keras.Model(network.inputs, cut), keras.Model(cut, network.outputs[0], name=f"{network.name}_end")


def members_of(arrays: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """The weights of each encoder in `arrays`: one's by ``LAYER/kernel``, several's with the member's number before."""
    found: dict[int, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        number, _, rest = name.partition("/")
        own = (int(number), rest) if number.isdigit() else (0, name)
        found.setdefault(own[0], {})[own[1]] = array
    return [found[number] for number in sorted(found)]


def numbered(members: Iterable[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The other way round."""
    each = list(members)
    return {f"{n}/{name}" if len(each) > 1 else name: a for n, one in enumerate(each) for name, a in one.items()}


def side_by_side(
    network: keras.Model,
    members: Sequence[Mapping[str, np.ndarray]],
    assign: Callable[[keras.Model, Mapping[str, np.ndarray]], None],
) -> keras.Model:
    """One network with an end for each of `members`, whose weights `assign(end, weights)` puts in.

    float32 [B, size, size, 3] → [B, h, w, members · channels]. Raises BadData where they do not begin alike.
    """
    order = [layer.name for layer in network.layers]
    learned = [{name.rpartition("/")[0] for name in weights} for weights in members]
    begins = {next((name for name in order if name in own), "") for own in learned}
    first = begins.pop()
    if begins or not first.endswith(OPENING):
        raise BadData(f"The tuned ends of the encoder {network.name} do not begin with the same block: train again.")
    front, end = split(network, first.removesuffix(OPENING))
    shared = front(network.inputs[0])
    ends = []
    for number, weights in enumerate(members):
        assign(end, weights)
        ends.append(_copy(end, f"-{number}")(shared))
    together = keras.layers.Concatenate(axis=-1, name="members")(ends)
    return keras.Model(network.inputs[0], together, name=network.name)


def _copy(network: keras.Model, suffix: str) -> keras.Model:
    """Another one of the same weights. A SavedModel tells variables apart by their layers' names."""

    def renamed(layer: Any) -> Any:
        return layer.__class__.from_config({**layer.get_config(), "name": f"{layer.name}{suffix}"})

    copied = keras.models.clone_model(network, clone_function=renamed)
    copied.set_weights(network.get_weights())
    return keras.Model(copied.inputs, copied.outputs[0], name=f"{network.name}{suffix}")
