"""Anybody's own pictures: a folder, and a CSV with the columns image, caption and, if wanted, split.

A picture has one row for each of its captions. Where no split is given, an image's name decides alone, so that adding
pictures never moves one from training to test. Knows nothing of how pictures are stored.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from captioner.datasets.archives import FolderArchive, is_unsafe
from captioner.datasets.dataset import Dataset, Item
from captioner.errors import BadData, BadEnvironment, BadParams
from captioner.params import FolderParams
from captioner.records import SPLITS, Quarantined, Split

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".avif", ".jp2", ".ppm", ".pgm")
_ALSO: dict[str, Split] = {"val": "dev", "valid": "dev", "validation": "dev"}


@dataclass
class _Row:
    """What the CSV says of one image."""

    split: Split | None = None
    captions: list[str] = field(default_factory=list)


def open_folder(params: FolderParams, root: Path) -> Dataset:
    """The pictures that the CSV names, with its captions. Relative paths start at `root`.

    Raises BadData, with the row's number, for anything in the CSV that is not as it should be; BadParams for shares
    that leave nothing to train on.
    """
    if params.dev_share + params.test_share >= 1.0:
        raise BadParams(
            "acquire.folder: dev_share and test_share must add up to less than 1, to leave something to train on."
        )
    folder = root / Path(params.path).expanduser()
    if not folder.is_dir():
        raise BadData(
            f"{folder} is not a folder: acquire.folder.path in params.yaml names the folder with the pictures."
        )
    archive = FolderArchive(folder)
    pictures = {name for name in archive.names() if name.lower().endswith(SUFFIXES)}
    rows = _read(folder / params.captions, pictures)
    orphans = tuple(Quarantined(name, "image without captions") for name in sorted(pictures - set(rows)))

    def items() -> Iterator[Item]:
        for name, row in sorted(rows.items()):
            split = row.split or _split_by_name(name, params)
            yield Item(name, archive.read(name), split, tuple(row.captions))

    return Dataset(len(rows), items(), orphans)


def _read(path: Path, pictures: set[str]) -> dict[str, _Row]:
    """The CSV's rows by image. Row numbers in errors count lines from 1, as an editor does."""
    table = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    rows: dict[str, _Row] = {}
    try:
        columns = _columns(path, next(table, []))
        for cells in table:
            if any(cell.strip() for cell in cells):
                _take(f"{path.name}, row {table.line_num}", cells, columns, pictures, rows)
    except csv.Error as error:
        raise BadData(f"{path.name}, row {table.line_num}: not a row of a CSV file ({error}).") from None
    if not rows:
        raise BadData(f"{path.name} has a header and no rows: give each picture at least one caption.")
    return rows


def _text(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise BadData(
            f"{path} is missing: acquire.folder.captions in params.yaml names the CSV with the captions."
        ) from None
    except OSError as error:
        raise BadEnvironment(f"{path} cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise BadData(f"{path.name}, row {line}: not UTF-8 (byte {error.start}): save the file as UTF-8.") from None
    if not text.strip():
        raise BadData(f"{path.name} is empty: it needs the columns image and caption, and a row for each caption.")
    return text


def _columns(path: Path, header: list[str]) -> dict[str, int]:
    names = [cell.strip().lower() for cell in header]
    missing = [name for name in ("image", "caption") if name not in names]
    if missing:
        raise BadData(
            f"{path.name} has no column {' and no column '.join(missing)}: its first line names {', '.join(header)}; "
            "image and caption are needed, split is optional."
        )
    return {name: names.index(name) for name in ("image", "caption", "split") if name in names}


def _take(where: str, cells: list[str], columns: dict[str, int], pictures: set[str], rows: dict[str, _Row]) -> None:
    if len(cells) <= max(columns.values()):
        raise BadData(f"{where}: {len(cells)} cells, but the header names more: quote captions that hold commas.")
    name = cells[columns["image"]].strip()
    if is_unsafe(name):
        raise BadData(f"{where}: {name!r} points outside the folder: give names relative to it.")
    if name not in pictures:
        raise BadData(f"{where}: there is no picture {name!r} in the folder: mend the row or add the picture.")
    row = rows.setdefault(name, _Row())
    split = _split(where, cells[columns["split"]]) if "split" in columns else None
    if row.captions and split != row.split:
        raise BadData(
            f"{where}: {name!r} is in {split or 'no split'} here and in {row.split or 'none'} before: give it one."
        )
    row.split = split
    row.captions.append(cells[columns["caption"]].strip())


def _split(where: str, cell: str) -> Split | None:
    value = cell.strip().lower()
    if not value:
        return None
    for split in SPLITS:
        if split == value:
            return split
    if value in _ALSO:
        return _ALSO[value]
    raise BadData(f"{where}: there is no split {cell.strip()!r}; the splits are: {', '.join(SPLITS)}.")


def _split_by_name(name: str, params: FolderParams) -> Split:
    """A number from 0 to 1 made of seed and name, against the shares."""
    value = int.from_bytes(hashlib.sha256(f"{params.seed}/{name}".encode()).digest()[:8], "big") / 2**64
    if value < params.test_share:
        return "test"
    return "dev" if value < params.test_share + params.dev_share else "train"
