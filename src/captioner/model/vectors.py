"""Word embeddings that start from a GloVe text file (one word and its numbers a line)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from captioner.errors import BadData
from captioner.text import SPECIAL, Vocabulary

if TYPE_CHECKING:
    from captioner.model.decoder import Decoder


@dataclass(frozen=True)
class Coverage:
    """How much of the vocabulary a file of word vectors covers."""

    file: str
    words: int
    found: int


def read_vectors(path: Path, wanted: Vocabulary, size: int) -> dict[str, np.ndarray]:
    """The vectors of the `wanted` words. Raises BadData when a line has another number of values than `size`."""
    vectors: dict[str, np.ndarray] = {}
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                word, *values = line.rstrip().split(" ")
                if len(values) != size:
                    raise BadData(
                        f"{path.name}, line {number}: a vector of {len(values)}, but the decoder's embedding is "
                        f"{size}: give the decoder that embedding, or another file."
                    )
                if word in wanted:
                    vectors[word] = np.array(values, np.float32)
    except FileNotFoundError:
        raise BadData(
            f"There are no word vectors at {path}: set CAPTIONER_WORD_VECTORS or the decoder's word_vectors."
        ) from None
    except (OSError, ValueError) as error:
        raise BadData(f"{path} cannot be read as word vectors: {error}.") from None
    return vectors


def start_from(path: Path, decoder: Decoder, vocabulary: Vocabulary) -> Coverage:
    """Put the file's vectors, scaled to the spread of the initial embedding, into the decoder. Raises BadData."""
    table = decoder.embedding.embeddings.value.numpy()
    vectors = read_vectors(path, vocabulary, table.shape[1])
    if not vectors:
        raise BadData(f"{path.name} holds none of the vocabulary's words.")
    scale = table.std() / np.stack(list(vectors.values())).std()
    for index, word in enumerate(vocabulary.words):
        if word in vectors:
            table[index] = vectors[word] * scale
    decoder.embedding.embeddings.assign(table)
    return Coverage(path.name, len(vocabulary) - len(SPECIAL), len(vectors))
