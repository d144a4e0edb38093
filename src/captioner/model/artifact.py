"""A trained decoder on disk made into the artifact: what export does, and how a shipped model is rebuilt.

Both give the same bytes for the same files, in a process that has built nothing before: TensorFlow counts the names of
what it builds through a process, and they end up in the file.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.digests import sha256_file
from captioner.errors import BadData, BadEnvironment
from captioner.model.runtime import start_tensorflow
from captioner.model.trained import read_memory, read_trained, tuned_encoder
from captioner.params import ExportParams
from captioner.records import FeaturesMeta

if TYPE_CHECKING:
    from captioner.model.encoder import Encoder
    from captioner.model.savedmodel import Graph


def build_artifact(
    trained: Path, params: ExportParams, candidate: str, target: Path, weights: Path | None, cache: Path
) -> Graph:
    """Write the artifact of the decoder in the folder `trained` to `target` (model.tar.gz); gives its graph.

    `weights` and `cache` are ``load_encoder``'s. Raises BadData when the encoder is not the one that the decoder was
    trained on, and what ``read_trained`` and ``load_encoder`` raise.
    """
    import tensorflow as tf

    from captioner.model.encoder import load_encoder
    from captioner.model.memory import Memory
    from captioner.model.savedmodel import Graph, write_artifact

    tf.config.experimental.enable_op_determinism()
    decoder, vocabulary, features, max_words = read_trained(trained)
    tuned = tuned_encoder(trained)
    encoder = load_encoder(features.encoder, features.layout, weights, cache, tuned)
    check_encoder(encoder, features)
    memory = Memory(read_memory(trained)) if params.neighbours else None
    graph = Graph(encoder, decoder, vocabulary, max_words, params, memory)
    card = {
        "candidate": candidate,
        "explains": graph.can_explain(),
        "decoder": decoder.params.model_dump(),
        "features": asdict(features),
        "vocabulary": len(vocabulary),
        "max_words": max_words,
        "weights_digest": sha256_file(trained / "weights.npz"),
        **({"tuned": True} if tuned else {}),
        **params.model_dump(),
    }
    write_artifact(graph, card, target)
    return graph


def check_encoder(encoder: Encoder, features: FeaturesMeta) -> None:
    """Raises BadData unless `encoder` is the one whose features the decoder was trained on.

    Whichever engine ran it then: the artifact's is TensorFlow, and engines agree on features (docs/decisions/0031).
    """
    if encoder.meta != replace(features, engine=encoder.meta.engine):
        raise BadData(f"The encoder {features.encoder} is not the one that the decoder was trained on: train it again.")


def build_in_a_fresh_process(
    trained: Path,
    params: ExportParams,
    candidate: str,
    target: Path,
    weights: Path | None,
    cache: Path,
    threads: int,
) -> None:
    """``build_artifact`` where nothing was built before. Raises what it raises, BadEnvironment if the process dies."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        try:
            process.submit(_build, trained, params, candidate, target, weights, cache, threads).result()
        except BrokenProcessPool:
            raise BadEnvironment("The model could not be built: the process was ended (out of memory?).") from None


def _build(
    trained: Path,
    params: ExportParams,
    candidate: str,
    target: Path,
    weights: Path | None,
    cache: Path,
    threads: int,
) -> None:
    start_tensorflow(threads)
    build_artifact(trained, params, candidate, target, weights, cache)
