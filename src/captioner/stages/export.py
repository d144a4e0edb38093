"""export@C: a trained decoder and its encoder as one artifact, loaded back and held against the training path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from captioner.digests import sha256_file
from captioner.errors import GateFailed
from captioner.golden import golden_images
from captioner.images import normalise
from captioner.model.artifact import build_artifact
from captioner.model.captioner import Captioner
from captioner.params import ExportParams
from captioner.paths import Paths
from captioner.records import Caption, write_json

TOLERANCE = 1e-3  # of a log probability, between the training path and the loaded artifact


@dataclass(frozen=True)
class Parity:
    """The artifact against the path that training took, on the golden images."""

    images: int
    captions_equal: bool
    log_probabilities_equal: bool


@dataclass(frozen=True)
class ExportReport:
    candidate: str
    digest: str
    weights_digest: str
    bytes: int
    parity: Parity


def run(params: ExportParams, paths: Paths, candidate: str, weights: Path | None = None) -> ExportReport:
    """Write models/candidates/C/exported/model.tar.gz. Raises GateFailed when the artifact differs from training."""
    folder = paths.trained(candidate)
    target = paths.exported(candidate) / "model.tar.gz"
    graph = build_artifact(folder, params, candidate, target, weights, paths.home / "encoders")
    weights_digest = sha256_file(folder / "weights.npz")
    parity = check_parity(graph, Captioner.load(target), [normalise(b, n) for n, b in golden_images().items()])
    report = ExportReport(candidate, sha256_file(target), weights_digest, target.stat().st_size, parity)
    write_json(paths.report("export", candidate), asdict(report))
    if not (parity.captions_equal and parity.log_probabilities_equal):
        raise GateFailed(
            f"The artifact of {candidate} does not caption the golden images as training does: not usable."
        )
    return report


def check_parity(graph: Any, artifact: Captioner, images: Sequence[bytes]) -> Parity:
    """The graph run eagerly, from the training objects, against the packed and loaded artifact."""
    import tensorflow as tf

    grid = graph.features(tf.constant(list(images)))
    _, ids, scores = graph.search(grid, graph.params.beam)
    expected = graph.captions(ids, scores, graph.params.top)
    wanted = expected["log_probabilities"]
    found = artifact.caption(images)
    return Parity(
        images=len(images),
        captions_equal=[[c.caption for c in row] for row in found]
        == [[text.decode() for text in row] for row in expected["captions"].numpy()],
        log_probabilities_equal=bool(
            np.allclose(_scores(found), wanted, atol=TOLERANCE)
            and np.allclose(_scores(artifact.caption_features(grid.numpy())), wanted, atol=TOLERANCE)
        ),
    )


def _scores(answers: Sequence[Sequence[Caption]]) -> np.ndarray:
    return np.array([[c.log_probability for c in row] for row in answers])
