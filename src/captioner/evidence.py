"""What is known of a candidate: its reports, its artifact and its predictions, checked to belong together.

Reads the outs of train, export and evaluate; knows nothing of MLflow, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from captioner.digests import sha256_file
from captioner.errors import BadData
from captioner.evaluation import EvaluationSet
from captioner.gate import Evidence, Slice
from captioner.metrics import bleu_statistics, cider_each
from captioner.params import RegisterParams
from captioner.paths import Paths
from captioner.ports import ModelVersion
from captioner.records import ImageRecord, Prediction, read_json, read_manifest, read_predictions

EACH = {"cider": cider_each, "bleu_4": bleu_statistics}


@dataclass(frozen=True)
class Candidate:
    """One trained, exported and evaluated candidate, with the reports of its stages as they lie on disk."""

    name: str
    digest: str
    weights_digest: str
    artifact: Path
    evaluated: Path  # the folder with predictions.jsonl and gallery.html
    train: Mapping[str, Any]
    export: Mapping[str, Any]
    evaluate: Mapping[str, Any]
    card: Mapping[str, Any] | None = None  # of a shipped model: where it comes from is there and not in this workspace

    @property
    def predictions(self) -> Path:
        return self.evaluated / "predictions.jsonl"

    @property
    def gallery(self) -> Path:
        return self.evaluated / "gallery.html"

    @property
    def split(self) -> str:
        return str(self.evaluate["split"])

    @property
    def test_set(self) -> str:
        return str(self.evaluate["test_set"])

    @property
    def scores(self) -> dict[str, float]:
        return {name: float(value) for name, value in self.evaluate["scores"].items()}


def read_candidate(paths: Paths, name: str) -> Candidate:
    """Raises BadData when a report is missing, or when the reports are of different artifacts."""
    train, export, evaluate = (read_json(paths.report(stage, name)) for stage in ("train", "export", "evaluate"))
    artifact = paths.exported(name) / "model.tar.gz"
    if not artifact.is_file():
        raise BadData(f"{artifact} is missing: run the stage that writes it first (dvc repro runs them all).")
    try:
        digests = {export["digest"], evaluate["digest"], sha256_file(artifact)}
        weights = {export["weights_digest"], train["weights_digest"]}
        found = Candidate(
            name=name,
            digest=str(export["digest"]),
            weights_digest=str(export["weights_digest"]),
            artifact=artifact,
            evaluated=paths.predictions(name),
            train=train,
            export=export,
            evaluate=evaluate,
        )
        found.scores, found.test_set, found.split  # noqa: B018  (a report without them is found out here)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadData(f"The reports of {name} lack what register needs ({error}): run dvc repro.") from None
    if len(digests) > 1 or len(weights) > 1:
        raise BadData(f"The reports of {name} and its artifact do not belong together: run dvc repro.")
    return found


def references_of(paths: Paths, candidate: Candidate) -> dict[str, tuple[str, ...]]:
    """Image id → reference captions of the test set that `candidate` was judged on, in the manifest's order.

    Raises BadData when the manifest has other images or references in that split by now.
    """
    records = _records(paths, candidate.split)
    if _digest(records) != candidate.test_set:
        raise BadData(f"{candidate.name} was evaluated on another test set than data/validated has: run dvc repro.")
    return {row.id: row.captions for row in records}


def test_set_of(paths: Paths, split: str) -> str:
    """The digest of the test set that data/validated has in `split`, as reports name it. Raises BadData."""
    return _digest(_records(paths, split))


def _records(paths: Paths, split: str) -> tuple[ImageRecord, ...]:
    rows = read_manifest(paths.validated / "manifest.jsonl")
    return tuple(row for row in rows if row.split == split and row.captions)


def _digest(records: tuple[ImageRecord, ...]) -> str:
    return EvaluationSet(records, (), (), (), 0).digest


def evidence(
    params: RegisterParams, candidate: Candidate, called: str, references: Mapping[str, Sequence[str]]
) -> Evidence:
    """What the gate looks at. Raises BadData when the predictions are of other images than `references`."""
    predictions = read_predictions(candidate.predictions)
    captions = best_captions(predictions, references, f"The predictions of {candidate.name}")
    parity = candidate.export.get("parity") or {}
    checks = [value for value in parity.values() if isinstance(value, bool)]
    return Evidence(
        called=called,
        test_set=candidate.test_set,
        score=candidate.scores[params.metric],
        per_image=per_image(params, captions, references),
        slices=slices_of(candidate.evaluate, params.metric),
        distinct=len(set(captions)) / len(captions),
        parity=bool(checks) and all(checks),
    )


def slices_of(report: Mapping[str, Any], metric: str) -> dict[str, Slice]:
    """The slices of an evaluation report, in the gate's metric."""
    found = report.get("slices") or {}
    return {name: Slice(int(one["images"]), float(one[metric])) for name, one in found.items()}


def best_captions(predictions: Sequence[Prediction], references: Mapping[str, Sequence[str]], what: str) -> list[str]:
    """The first caption of each image, in the order of `references`. Raises BadData when images differ."""
    best = {row.id: row.captions[0].caption if row.captions else "" for row in predictions}
    if best.keys() != references.keys() or not best:
        raise BadData(f"{what} ({len(best)} rows) are not those of the {len(references)} test images: run dvc repro.")
    return [best[image] for image in references]


def per_image(
    params: RegisterParams, captions: Sequence[str], references: Mapping[str, Sequence[str]]
) -> npt.NDArray[np.float64]:
    """What the gate's metric is made of, a row for each image: see `gate.Evidence`."""
    return np.asarray(EACH[params.metric](captions, list(references.values())), np.float64)


def evidence_of(model: ModelVersion) -> dict[str, Any]:
    """What the version's tags say for it: the run, the gate, the scores on the test set, an experiment's verdict."""
    told = {
        "version": model.version,
        "run": model.run_id,
        "gate": model.tags.get("captioner.gate", "never judged by captioner's gate"),
        "test": {
            name.removeprefix("captioner.test."): value
            for name, value in sorted(model.tags.items())
            if name.startswith("captioner.test.")
        },
        "experiment": model.tags.get("captioner.experiment", ""),
    }
    return {name: value for name, value in told.items() if value}
