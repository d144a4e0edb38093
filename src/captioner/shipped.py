"""The model that comes with the code (``models/shipped``, in git): read, checked, and made into an artifact again.

Git holds the decoder and a card; the encoder comes from its package. The artifact is rebuilt on first use, by the code
that exports candidates, and kept for as long as nothing that it is made of changes. On the TensorFlow that it was
evaluated with, it is byte for byte the artifact of the card; on another one its digest says so. Knows nothing of
registries.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captioner.digests import sha256_file, sha256_text
from captioner.errors import BadData, BadEnvironment
from captioner.evidence import Candidate
from captioner.golden import golden_images
from captioner.images import normalise
from captioner.model import artifact
from captioner.model.captioner import Captioner
from captioner.params import ExportParams
from captioner.paths import Paths
from captioner.records import read_json

SHIPPED = "shipped"
FORMAT = 1  # of card.json; raise it when a reader of the old one would be wrong
CARD, PAGE = "card.json", "README.md"
FILES = ("decoder.json", "weights.npz", "predictions.jsonl")
"""What lies beside the card and the page, ``encoder.npz`` where the encoder was tuned and ``memory.npz`` where captions
are rated by it; the card has the SHA-256 of each."""

MAX_BYTES = 40_000_000
GOLDEN_TOLERANCE = 0.05
"""Of a log probability, between processors and TensorFlows: they add up in another order, and features are float16."""


@dataclass(frozen=True)
class Shipped:
    """A model on disk whose files are those of its card."""

    folder: Path
    card: Mapping[str, Any]

    @property
    def candidate(self) -> str:
        """What it was called when it was trained."""
        return str(self.card["candidate"])

    @property
    def digest(self) -> str:
        """Of the artifact that was evaluated."""
        return str(self.card["artifact"]["digest"])

    @property
    def export(self) -> ExportParams:
        return ExportParams.model_validate(self.card["export"])

    @property
    def title(self) -> str:
        """What it is, for people: ``attention on flickr8k, CIDEr 52.9 on its test split``."""
        report = self.card["reports"]["evaluate"]
        return (
            f"{self.candidate} on {self.card['dataset']['name']}, "
            f"CIDEr {report['scores']['cider']:.1f} on its {report['split']} split"
        )


def read_shipped(folder: Path) -> Shipped:
    """Raises BadData when there is no model in `folder`, or when its files are not those that its card names."""
    if not (folder / CARD).is_file():
        raise BadData(
            f"There is no shipped model in {folder}: restore it (git checkout -- models/shipped), or train one "
            "(captioner run) and name it with --model champion."
        )
    found = Shipped(folder, read_json(folder / CARD))
    try:
        if found.card["format"] != FORMAT:
            raise BadData(f"{folder / CARD} is of format {found.card['format']}, this captioner reads {FORMAT}.")
        sums = found.card["files"]
        for name in (*FILES, *(name for name in sorted(sums) if name not in FILES)):
            if not (folder / name).is_file() or sha256_file(folder / name) != sums[name]:
                raise BadData(
                    f"{folder / name} is not the file that {CARD} names: restore it (git checkout -- models/shipped)."
                )
        found.title, found.digest, found.export  # noqa: B018  (a card without them is found out here)
    except (KeyError, TypeError, ValueError) as error:
        raise BadData(f"{folder / CARD} is not the card of a model ({error}): restore it from git.") from None
    return found


def rebuild(
    shipped: Shipped,
    paths: Paths,
    threads: int,
    weights: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """The model.tar.gz of `shipped` on this machine: built once, then kept. `weights` is ``load_encoder``'s.

    Raises BadData when the files do not make a model, BadEnvironment when the encoder's package is missing.
    """
    target = paths.rebuilt / _key(shipped) / "model.tar.gz"
    if not target.is_file():
        say("putting the shipped model together with its encoder, once on this machine …")
        artifact.build_in_a_fresh_process(
            shipped.folder, shipped.export, shipped.candidate, target, weights, paths.home / "encoders", threads
        )
    return target


def shipped_candidate(shipped: Shipped, packed: Path) -> Candidate:
    """What register needs to know of `shipped`, whose artifact on this machine is `packed`.

    Its reports are the card's. An artifact of another digest than the card's has to repeat what the evaluated one said
    of the golden images; that is its parity then.
    """
    reports, digest = shipped.card["reports"], sha256_file(packed)
    export = dict(reports["export"])
    if digest != shipped.digest:
        same = repeats(Captioner.load(packed), shipped.card["golden"])
        export["parity"] = {"golden_images_equal": same}
    return Candidate(
        name=SHIPPED,
        digest=digest,
        weights_digest=str(shipped.card["artifact"]["weights_digest"]),
        artifact=packed,
        evaluated=shipped.folder,
        train=reports["train"],
        export=export,
        evaluate=reports["evaluate"],
        card=shipped.card,
    )


def golden_captions(model: Captioner) -> dict[str, dict[str, Any]]:
    """What `model` says of each golden image: its best caption, and the log probability."""
    images = golden_images()
    answers = model.caption([normalise(data, name) for name, data in images.items()])
    best = {name: captions[0] for name, captions in zip(images, answers, strict=True)}
    return {name: {"caption": c.caption, "log_probability": c.log_probability} for name, c in best.items()}


def repeats(model: Captioner, golden: Mapping[str, Mapping[str, Any]]) -> bool:
    """Does `model` say of the golden images what `golden` has?"""
    found = golden_captions(model)
    return found.keys() == golden.keys() and all(
        found[name]["caption"] == wanted["caption"]
        and abs(found[name]["log_probability"] - wanted["log_probability"]) <= GOLDEN_TOLERANCE
        for name, wanted in golden.items()
    )


def versions() -> dict[str, str]:
    """The releases of what an artifact is built with. Raises BadEnvironment when TensorFlow is not installed."""
    for name in ("tensorflow-cpu", "tensorflow"):
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        return {"tensorflow": found, "keras": importlib.metadata.version("keras")}
    raise BadEnvironment("TensorFlow is not installed here: set up with `make run` or `make test`.")


def _key(shipped: Shipped) -> str:
    """Everything that decides what is built: the files, how it is exported, the code, the libraries."""
    code = sorted(Path(artifact.__file__).parent.glob("*.py"))
    what = [
        {name: digest for name, digest in shipped.card["files"].items() if name != "predictions.jsonl"},
        [shipped.candidate, shipped.export.model_dump()],
        {file.name: sha256_file(file) for file in code},
        versions(),
    ]
    return sha256_text(json.dumps(what, sort_keys=True))[:16]
