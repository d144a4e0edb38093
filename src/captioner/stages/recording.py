"""What a candidate's run ends up with: the training run is found and completed, or made anew from the stages' reports.

DVC may have had a training cached, on this machine or from a remote; then this tracking store never saw it, and the
run is rebuilt from ``reports/train-C.json``, epoch by epoch. Knows nothing of the registry or the gate.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from captioner import lineage
from captioner.errors import BadEnvironment
from captioner.evidence import Candidate
from captioner.figures import write_figures
from captioner.lineage import UNKNOWN, GitState
from captioner.params import Params
from captioner.paths import Paths
from captioner.ports import Run, Tracker
from captioner.shipped import CARD, PAGE
from captioner.stages.fitting import epoch_metrics

# The data that a model depends on: what it is called in MLflow → the DVC out, and what it was for.
DATASETS = {
    "raw": ("data/raw", "source"),
    "validated": ("data/validated", "captions"),
    "features": ("data/features", "images"),
}


def record(tracker: Tracker, candidate: Candidate, params: Params, paths: Paths) -> Run:
    """The run of `candidate`, with everything that its stages left behind. Ends the run.

    A run that already belongs to another artifact (the same weights, exported with another beam) is left alone.
    """
    run = tracker.find("captioner.weights_digest", candidate.weights_digest)
    sections = ["acquire", "validate", "features", "export", "evaluate", "register"]
    if run is None or run.tag("captioner.digest") not in (None, ""):
        run = _rebuild(tracker, candidate)
        sections += ["train", "decoder"]
    run.tags({"captioner.digest": candidate.digest, "captioner.dataset": params.acquire.dataset})
    if candidate.card is not None:
        run.tags(card_tags(candidate.card))
    try:
        run.params(section_params(params, candidate, sections))
        run.metrics({f"{candidate.split}_{name}": value for name, value in candidate.scores.items()})
        run.metrics(_beside_scores(candidate))
        _datasets(run, candidate, paths)
        _files(run, candidate, paths)
    except BaseException:
        run.end(failed=True)
        raise
    run.end()
    return run


@contextmanager
def scratch(paths: Paths) -> Iterator[Path]:
    """A folder for as long as the block runs. Raises BadEnvironment when the disk refuses."""
    try:
        paths.home.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=paths.home, prefix=".register-")
    except OSError as error:
        raise BadEnvironment(f"{paths.home} cannot be written: {error.strerror or error}.") from None
    with folder as path:
        yield Path(path)


def predictions_uri(run: Run, candidate: Candidate) -> str:
    """Where `record` put the predictions that the candidate is judged by."""
    return f"runs:/{run.id}/evaluation/{candidate.predictions.name}"


def section_params(params: Params, candidate: Candidate, sections: list[str]) -> dict[str, Any]:
    """The sections of params.yaml that made `candidate`, or of its card; of the decoders its own only."""
    whole = params.model_dump(mode="json", by_alias=True, exclude_none=True)
    name = candidate.name
    if candidate.card is not None:
        # The gate is this workspace's; all else is what the model was made with.
        whole = {**whole, **candidate.card["params"]}
        name = candidate.card["candidate"]
    whole["decoder"] = whole["decoders"][name]  # one name for every candidate, so that MLflow lines them up
    return {section: whole[section] for section in sections}


def card_tags(card: Mapping[str, Any]) -> dict[str, str]:
    """Where a shipped model comes from, as tags: the commit, and the digest of the artifact that was evaluated."""
    git = GitState(card["git"]["sha"], card["git"]["dirty"])
    return {**git.tags(), "captioner.shipped_digest": card["artifact"]["digest"]}


def dvc_tags(candidate: Candidate, paths: Paths) -> dict[str, str]:
    """The DVC hash of each dataset, as tags of a model version."""
    return {f"captioner.dvc.{name}": value for name, value in _dvc_hashes(candidate, paths).items()}


def _dvc_hashes(candidate: Candidate, paths: Paths) -> dict[str, str]:
    if candidate.card is not None:
        known = candidate.card["dataset"]["dvc"]
        return {name: known.get(name, UNKNOWN) for name in DATASETS}
    hashes = lineage.dvc_hashes(paths.root / "dvc.lock")
    return {name: hashes.get(path, UNKNOWN) for name, (path, _) in DATASETS.items()}


def _rebuild(tracker: Tracker, candidate: Candidate) -> Run:
    tags = {
        "captioner.candidate": candidate.name,
        "captioner.weights_digest": candidate.weights_digest,
        "captioner.stage": "train",
        "captioner.rebuilt": "from the stages' reports: training was not run for this artifact here",
    }
    run = tracker.start(f"train-{candidate.name}", tags)
    for epoch in candidate.train.get("epochs") or ():
        run.metrics(epoch_metrics(epoch), step=int(epoch["epoch"]))
    return run


def _beside_scores(candidate: Candidate) -> dict[str, float]:
    """What stands beside the scores in the report, and the artifact's size: metrics that runs can be compared by.

    MLflow draws what has the same folder side by side, so the slices are sorted by score and not by slice.
    """
    found = {"artifact_bytes": float(candidate.artifact.stat().st_size)}
    for name in ("copied", "length_distance"):
        if name in candidate.evaluate:
            found[f"wording/{name}"] = float(candidate.evaluate[name])
    # "dev_cider" is what training says of its own, greedy captions: this one is of the artifact.
    for group, called in (("baseline", "baseline"), ("human", "human"), ("dev", "artifact_on_dev"), ("gap", "dev_gap")):
        for name, value in (candidate.evaluate.get(group) or {}).items():
            found[f"{called}/{name}"] = float(value)
    for group, called in (("slices", "slice"), ("wording", "wording"), ("faults", "faults")):
        for row, values in (candidate.evaluate.get(group) or {}).items():
            for name, value in values.items():
                found[f"{called}_{name}/{_metric_name(row)}"] = float(value)
    return found


def _metric_name(name: str) -> str:
    """MLflow takes letters, digits and ``_-. :/``; a slice may be called anything."""
    return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name)


def _datasets(run: Run, candidate: Candidate, paths: Paths) -> None:
    hashes = _dvc_hashes(candidate, paths)
    for name, (path, context) in DATASETS.items():
        run.dataset(name, hashes[name], path, context)


def _files(run: Run, candidate: Candidate, paths: Paths) -> None:
    run.file(candidate.predictions, "evaluation")
    if candidate.card is not None:
        for name in (CARD, PAGE):
            run.file(candidate.evaluated / name, "reports")
        return
    if candidate.gallery.is_file():
        run.file(candidate.gallery, "evaluation")
    for stage in ("train", "export", "evaluate"):
        run.file(paths.report(stage, candidate.name), "reports")
    for folder in (paths.plots("train", candidate.name), paths.plots("evaluate", candidate.name)):
        if folder.is_dir():
            run.file(folder, f"plots/{folder.name}")
    with scratch(paths) as drawn:
        if write_figures(paths, candidate.name, drawn):
            run.file(drawn, "figures")
    for path in (paths.root / "dvc.lock", paths.params):
        if path.is_file():
            run.file(path)
    if paths.data_docs.is_dir():
        run.file(paths.data_docs, "data_docs")
