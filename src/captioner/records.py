"""The few shapes of data that stages hand to each other, and how they lie on disk (JSON and JSON Lines).

Writers are deterministic (sorted keys, no clock) and atomic, because most of these files are DVC outs.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from captioner.errors import BadData, BadEnvironment

Split = Literal["train", "dev", "test", "none"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test", "none")


@dataclass(frozen=True)
class ImageRecord:
    """One row of the manifest: an image, where its bytes lie, its split and its captions as they were written."""

    id: str
    pack: str  # the zip beside the manifest that holds the image
    name: str  # its name in that zip
    digest: str  # blake2b-128 of the image's bytes, hex
    split: Split
    captions: tuple[str, ...]
    tags: dict[str, str] = field(default_factory=dict)  # e.g. {"combination": "unseen"} in the sample


@dataclass(frozen=True)
class FeaturesMeta:
    """What features are: every row of one feature file or store agrees in all of these."""

    encoder: str
    layout: str  # grid, pooled
    image_size: int  # pixels, square
    cells: int  # of the grid, row by row; 1 when pooled
    channels: int
    weights_digest: str  # SHA-256, hex
    preprocessing: str  # version of model/preprocess.py
    engine: str = "tensorflow"  # what ran the network: tensorflow, openvino (docs/decisions/0031)


@dataclass(frozen=True)
class Quarantined:
    """A bad row, with the reason that it was set aside for. `caption` is None when the whole image went."""

    id: str
    reason: str
    caption: str | None = None
    detail: str = ""


@dataclass(frozen=True)
class Caption:
    """One caption of an image, with its log probability (natural, sum over the words and the end token)."""

    caption: str
    log_probability: float


@dataclass(frozen=True)
class Prediction:
    """What the artifact said about one image, saved before it is scored. Best caption first."""

    id: str
    captions: tuple[Caption, ...]


def read_manifest(path: Path) -> list[ImageRecord]:
    """The rows of a manifest. Raises BadData when the file is missing or a row does not fit."""
    rows = []
    for number, row in enumerate(read_jsonl(path), start=1):
        try:
            rows.append(ImageRecord(**{**row, "captions": tuple(row["captions"])}))
        except (TypeError, KeyError) as error:
            raise BadData(f"{path.name}, line {number}: not a manifest row ({error}).") from None
    return rows


def write_manifest(path: Path, rows: Iterable[ImageRecord]) -> None:
    write_jsonl(path, (asdict(row) for row in rows))


def read_predictions(path: Path) -> list[Prediction]:
    return [Prediction(row["id"], tuple(Caption(**c) for c in row["captions"])) for row in read_jsonl(path)]


def write_predictions(path: Path, rows: Iterable[Prediction]) -> None:
    write_jsonl(path, (asdict(row) for row in rows))


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSON Lines file, one at a time. Raises BadData when it is missing or a line is not JSON."""
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    yield json.loads(line)
                except json.JSONDecodeError as error:
                    raise BadData(f"{path.name}, line {number}: not JSON ({error.msg}).") from None
    except FileNotFoundError:
        raise BadData(f"{path} is missing: run the stage that writes it first (dvc repro runs them all).") from None


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in rows))


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises BadData when it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadData(f"{path} is missing: run the stage that writes it first (dvc repro runs them all).") from None
    except json.JSONDecodeError as error:
        raise BadData(f"{path} is not JSON ({error.msg}, line {error.lineno}).") from None


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. Raises BadEnvironment when the disk is full or read-only."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(data)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise BadEnvironment(f"{path} cannot be written: {error.strerror or error}.") from None
