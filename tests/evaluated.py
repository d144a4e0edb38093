"""What train, export and evaluate leave behind, written without running them: enough for register and deploy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from captioner.digests import pack_folder, sha256_file, sha256_text
from captioner.evaluation import PROTOCOL, EvaluationSet, fault_shares, gap, wordings
from captioner.metrics import score
from captioner.paths import Paths
from captioner.records import (
    Caption,
    ImageRecord,
    Prediction,
    write_json,
    write_manifest,
    write_predictions,
    write_text,
)

KINDS = ("dog", "cat", "horse", "bird")
COLOURS = ("red", "green", "blue", "white", "black")
PLACES = ("on the grass", "in the water", "on a road")


def references(number: int) -> tuple[str, ...]:
    kind, colour, place = KINDS[number % 4], COLOURS[number % 5], PLACES[number % 3]
    return (
        f"a {colour} {kind} runs {place}",
        f"the {kind} is {colour} and runs {place}",
        f"one {colour} {kind} {place}",
    )


def good(number: int) -> str:
    """A caption that is right."""
    return references(number)[0]


def records(images: int) -> tuple[ImageRecord, ...]:
    return tuple(
        ImageRecord(f"{n:04d}.png", "images-000.zip", f"{n:04d}.png", f"{n:032x}", "test", references(n))
        for n in range(images)
    )


def write_test_set(paths: Paths, images: int = 60) -> None:
    """A validated manifest with `images` test images."""
    write_manifest(paths.validated / "manifest.jsonl", records(images))


def write_candidate(
    paths: Paths,
    name: str,
    say: Callable[[int], str] = good,
    images: int = 60,
    weights: str = "",
    parity: bool = True,
    artifact: Path | None = None,
    slices: Sequence[str] = KINDS,
    weights_digest: str = "",
) -> str:
    """The outs and reports of `name`, whose caption of image n is ``say(n)``. Gives the artifact's digest."""
    captions = [say(n) for n in range(images)]
    folder = paths.predictions(name)
    rows = [Prediction(f"{n:04d}.png", (Caption(caption, -1.5),)) for n, caption in enumerate(captions)]
    write_predictions(folder / "predictions.jsonl", rows)
    write_text(folder / "gallery.html", f"<h1>{name}</h1>")

    packed = paths.exported(name) / "model.tar.gz"
    packed.parent.mkdir(parents=True, exist_ok=True)
    packed.write_bytes(artifact.read_bytes() if artifact else _archive(paths, name, captions))
    digest = sha256_file(packed)
    weights_digest = weights_digest or sha256_text(weights or f"{name} {captions}")

    epochs = [
        {"epoch": n, "loss": 3.0 / n, "learning_rate": 0.001, "cider": 20.0 * n, "bleu_4": 9.0 * n} for n in (1, 2)
    ]
    write_json(
        paths.report("train", name),
        {"candidate": name, "weights_digest": weights_digest, "best_epoch": 2, "epochs": epochs, "vocabulary": 30},
    )
    write_json(
        paths.report("export", name),
        {
            "candidate": name,
            "digest": digest,
            "weights_digest": weights_digest,
            "bytes": packed.stat().st_size,
            "parity": {"images": 6, "captions_equal": parity, "log_probabilities_equal": parity},
        },
    )
    everything = [list(references(n)) for n in range(images)]
    scores = score(captions, everything)
    write_json(
        paths.report("evaluate", name),
        {
            "candidate": name,
            "digest": digest,
            "split": "test",
            "test_set": EvaluationSet(records(images), (), (), (), 0).digest,
            "images": images,
            "without_references": 0,
            "protocol": PROTOCOL,
            "scores": asdict(scores),
            "copied": 0.25,
            "dev": asdict(scores),
            "gap": gap(scores, scores),
            "wording": {who: asdict(one) for who, one in wordings(captions, everything)[0].items()},
            "faults": {kind: asdict(one) for kind, one in fault_shares(captions, everything).items()},
            "slices": {kind: _slice(kind, captions) for kind in slices},
            "baseline": asdict(score(["a dog"] * images, everything)),
            "human": None,
        },
    )
    write_text(paths.plots("train", name) / "epochs.csv", "epoch,loss\n1,3.0\n2,1.5\n")
    return digest


def _slice(kind: str, captions: Sequence[str]) -> dict[str, float]:
    numbers = [n for n in range(len(captions)) if KINDS[n % 4] == kind]
    scores = score([captions[n] for n in numbers], [list(references(n)) for n in numbers])
    return {"images": len(numbers), "cider": scores.cider, "bleu_4": scores.bleu_4}


def _archive(paths: Paths, name: str, captions: Sequence[str]) -> bytes:
    """Not a model: as many bytes as it takes to have a digest of its own."""
    folder = paths.home / "made" / name
    write_text(folder / "1" / "saved_model.pb", "\n".join(captions))
    return pack_folder(folder)
