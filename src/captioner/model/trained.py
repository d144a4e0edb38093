"""A trained network on disk: ``decoder.json`` (network and vocabulary) and ``weights.npz`` (no pickle).

Where the encoder learned too, ``encoder.npz`` has those of its weights that are no longer the published ones, of
several members by the member's number. ``memory.npz`` has what was written of the training pictures (``memory.py``).

The weights are rounded to float16 when they are written, and computed with in float32 from there on: what is
exported, evaluated and shipped are the same numbers, in half the bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from captioner.errors import BadData
from captioner.model.arrays import pack_arrays, rounded, unpack_arrays
from captioner.params import DecoderParams
from captioner.records import FeaturesMeta, read_json, write_bytes, write_json
from captioner.text import Vocabulary

if TYPE_CHECKING:
    from captioner.model.ensemble import Network


ENCODER, MEMORY = "encoder.npz", "memory.npz"


def tuned_encoder(folder: Path) -> Path | None:
    """The file with the encoder's own weights in a trained network's folder; None where it is the published one."""
    file = folder / ENCODER
    return file if file.is_file() else None


def read_memory(folder: Path) -> dict[str, Any]:
    """What ``memory.remember`` gave in training. Raises BadData when there is none."""
    if not (folder / MEMORY).is_file():
        raise BadData(f"{folder} has no {MEMORY}, which export.neighbours needs: train again, or set it to 0.")
    return unpack_arrays(folder / MEMORY)


def write_trained(
    folder: Path,
    decoder: Network,
    vocabulary: Vocabulary,
    features: FeaturesMeta,
    max_words: int,
    encoder: Path | None = None,
    memory: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write the files; `encoder` is one to copy. Equal weights give equal bytes."""
    description = {
        "decoder": decoder.params.model_dump(),
        "features": asdict(features),
        "max_words": max_words,
        "vocabulary": list(vocabulary.words),
    }
    write_json(folder / "decoder.json", description)
    write_bytes(folder / "weights.npz", pack_arrays(rounded(weights_of(decoder))))
    contents = {
        ENCODER: encoder.read_bytes() if encoder else None,
        MEMORY: pack_arrays(memory) if memory else None,
    }
    for name, content in contents.items():
        if content is None:
            (folder / name).unlink(missing_ok=True)  # of an earlier run
        else:
            write_bytes(folder / name, content)


def read_trained(folder: Path) -> tuple[Network, Vocabulary, FeaturesMeta, int]:
    """The decoder with its weights, its vocabulary, its features and its longest caption. Raises BadData."""
    from captioner.model.ensemble import build_network

    description = read_json(folder / "decoder.json")
    try:
        params = DecoderParams.model_validate(description["decoder"])
        vocabulary = Vocabulary(tuple(description["vocabulary"]))
        features = FeaturesMeta(**description["features"])
        max_words = int(description["max_words"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadData(f"{folder / 'decoder.json'} does not describe a decoder ({error}); train again.") from None
    encoders = params.members if tuned_encoder(folder) else 1
    decoder = build_network(params, len(vocabulary), features.channels, encoders)
    load_weights(decoder, unpack_arrays(folder / "weights.npz"), str(folder))
    return decoder, vocabulary, features, max_words


def variables_of(decoder: Network) -> dict[str, Any]:
    """Every variable by its path in the network, e.g. ``word_gates/kernel``; a member's with its number before it."""
    from captioner.model.ensemble import Ensemble

    if isinstance(decoder, Ensemble):
        return {f"{i}/{name}": v for i, one in enumerate(decoder.members) for name, v in variables_of(one).items()}
    return {"/".join(v.path.split("/")[-2:]): v for v in decoder.weights}


def weights_of(decoder: Network) -> dict[str, np.ndarray]:
    """Every weight by its path in the network."""
    return {name: v.value.numpy() for name, v in variables_of(decoder).items()}


def load_weights(decoder: Network, arrays: Mapping[str, np.ndarray], source: str) -> None:
    """Assign `arrays` to `decoder`. Raises BadData when they belong to another architecture."""
    expected = {name: array.shape for name, array in weights_of(decoder).items()}
    found = {name: array.shape for name, array in arrays.items()}
    if expected != found:
        differing = sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))
        first = differing[0]
        raise BadData(
            f"{source} belongs to another network: {first} is {found.get(first, 'missing')}, "
            f"this one needs {expected.get(first, 'no such weight')}; train again."
        )
    for name, variable in variables_of(decoder).items():
        variable.assign(arrays[name].astype(np.float32))
