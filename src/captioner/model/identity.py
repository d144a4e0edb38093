"""What an encoder is, without building it: so that a run in which nothing must be encoded never imports TensorFlow.

Knows nothing of stores or images.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from captioner.digests import sha256_file, sha256_text
from captioner.errors import BadData, BadParams
from captioner.model import lite, preprocess, zoo
from captioner.model.runtime import start_tensorflow
from captioner.records import FeaturesMeta, read_json, write_json

NAMES: tuple[str, ...] = (*lite.LITES, *sorted(zoo.ZOO))
LAYOUTS = ("grid", "pooled")


def check_names(name: str, layout: str) -> None:
    """Raises BadParams, with the valid names, for an encoder or a layout that does not exist."""
    if name not in NAMES:
        raise BadParams(f"There is no encoder {name!r}; the valid names are: {', '.join(NAMES)}.")
    if layout not in LAYOUTS:
        raise BadParams(f"There is no layout {layout!r}; the valid ones are: {', '.join(LAYOUTS)}.")


def describe(name: str, layout: str, weights: Path | None, cache: Path, threads: int | None = None) -> FeaturesMeta:
    """What ``load_encoder`` with the same arguments would be. Raises what it raises.

    An encoder of keras.applications is built the first time that it is asked for (TensorFlow on `threads` threads), and
    remembered in `cache`.
    """
    check_names(name, layout)
    if name in lite.LITES:
        kind = lite.LITES[name]
        cells = kind.grid**2 if layout == "grid" else 1
        return FeaturesMeta(name, layout, kind.image_size, cells, lite.CHANNELS, kind.sha256, preprocess.VERSION)
    known = cache / f"{name}-{layout}-{_source(zoo.weights_file(name, weights))}.json"
    try:
        return FeaturesMeta(**read_json(known))
    except (BadData, TypeError):
        start_tensorflow(threads or os.cpu_count() or 1)
        from captioner.model.encoder import load_encoder

        meta = load_encoder(name, layout, weights, cache).meta
        write_json(known, asdict(meta))
        return meta


def weights_digest(network: Any) -> str:
    """SHA-256, hex, over the name-free weights of a keras.Model: shapes and numbers, in their order."""
    digest = hashlib.sha256()
    for array in (weight.value.numpy() for weight in network.weights):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def tuned_digest(published: str, tuned: Path) -> str:
    """The digest of an encoder of whose weights some were replaced by those in the file `tuned`."""
    return sha256_text(f"{published}\n{sha256_file(tuned)}")


def _source(file: Path | None) -> str:
    """Changes whenever the weights may have: with the file, or with the Keras that downloads them."""
    if file is None:
        what = f"keras {importlib.metadata.version('keras')}"
    else:
        stat = file.stat()
        what = f"{file.absolute()} {stat.st_size} {stat.st_mtime_ns}"
    return hashlib.sha256(f"{what} {preprocess.VERSION}".encode()).hexdigest()[:16]
