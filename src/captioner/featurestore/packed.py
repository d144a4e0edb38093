"""The DVC out ``data/features``: many small .npy files and an index.json.

A hash of its id decides which file an image's row is in, so a few more images change a few files: the others are kept
as they are, hashed and stored by DVC once. Equal content gives equal bytes, whatever the history: no clock, no shard
names, and as many files as the number of images asks for. Knows nothing of the store it was assembled from, nor of
TensorFlow.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from captioner.errors import BadData, BadEnvironment
from captioner.featurestore.shards import Features, npy_header
from captioner.records import FeaturesMeta, read_json, write_json

FILE_BYTES = 1024 * 1024  # files are half as large to this large
MOST_FILES = 4096  # each is mapped into memory, and systems allow some 65,000 maps; after that they grow
INDEX = "index.json"
_FORMAT = 2


@dataclass(frozen=True)
class PackedFeatures:
    """Read access by row. Rows are numbered in the order of ``ids``, which is the manifest's."""

    meta: FeaturesMeta
    ids: tuple[str, ...]
    _files: Mapping[int, Features]
    _file_of: npt.NDArray[np.int64]  # by row
    _place_of: npt.NDArray[np.int64]  # by row, in its file

    @classmethod
    def open(cls, folder: Path) -> PackedFeatures:
        """Raises BadData when a file is missing, cut short or does not fit the index."""
        index = read_json(folder / INDEX)
        try:
            if index["format"] != _FORMAT:
                raise ValueError(f"format {index['format']}")
            meta, ids, count = FeaturesMeta(**index["meta"]), tuple(index["ids"]), int(index["of"])
            listed = {int(file["file"]): int(file["rows"]) for file in index["files"]}
            parts = _parts(ids, count)
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise BadData(f"{folder / INDEX} is not an index of features ({error}): {_AGAIN}.") from None
        if {number: len(rows) for number, rows in parts.items()} != listed:
            raise BadData(f"{folder} holds {sum(listed.values())} rows for {len(ids)} images: {_AGAIN}.")
        files = {n: _map(folder / _name(n), (rows, meta.cells, meta.channels)) for n, rows in listed.items()}
        file_of, place_of = np.zeros((2, len(ids)), np.int64)
        for number, rows in parts.items():
            file_of[rows], place_of[rows] = number, np.arange(len(rows))
        return cls(meta, ids, files, file_of, place_of)

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> Features:
        """float16 [n, cells, channels], in the order asked for. Raises IndexError for a row that does not exist."""
        wanted = np.asarray(indices, dtype=np.int64).reshape(-1)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= len(self.ids)):
            raise IndexError(f"rows 0 to {len(self.ids) - 1} exist, not {wanted.min()} to {wanted.max()}")
        out = np.empty((len(wanted), self.meta.cells, self.meta.channels), np.float16)
        for to, number, place in zip(range(len(wanted)), self._file_of[wanted], self._place_of[wanted], strict=True):
            out[to] = self._files[number][place]
        return out


def write_packed(
    folder: Path,
    meta: FeaturesMeta,
    ids: Sequence[str],
    contents: Sequence[str],
    read: Callable[[Sequence[int]], Features],
    file_bytes: int = FILE_BYTES,
) -> int:
    """Write one row per id and the index; returns how many rows were written, without those of files that were kept.

    `contents` says what each row is made of (with `meta`): a file whose rows were made of the same is kept if it is
    there in its full size. `read` gives the rows with these numbers, float16 [n, cells, channels]. The index comes
    last: a folder without one is not finished. Raises BadData when rows and ids do not fit, and BadEnvironment when the
    disk is full or read-only.
    """
    if len(contents) != len(ids):
        raise BadData(f"{len(contents)} rows of features for {len(ids)} images.")
    count = _files_for(len(ids), 2 * meta.cells * meta.channels, file_bytes)
    parts, written = _parts(ids, count), 0
    files = [{"file": n, "rows": len(rows), "key": _key(meta, ids, contents, rows)} for n, rows in parts.items()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        old = _keys(folder)
        (folder / INDEX).unlink(missing_ok=True)
        names = {_name(number) for number in parts}
        for stale in folder.glob("features-*.npy"):
            if stale.name not in names:
                stale.unlink()
        for file, (number, rows) in zip(files, parts.items(), strict=True):
            path, shape = folder / _name(number), (len(rows), meta.cells, meta.channels)
            if old.get(number) == file["key"] and _is_whole(path, shape):
                continue
            block = read(rows)
            if block.dtype != np.float16 or block.shape != shape:
                raise BadData(f"A block of features is {block.dtype}{block.shape}, not float16{shape}.")
            path.unlink(missing_ok=True)  # it may be a link into DVC's cache
            with path.open("wb") as out:
                out.write(npy_header(shape))
                out.write(np.ascontiguousarray(block).data)
            written += len(rows)
    except OSError as error:
        raise BadEnvironment(f"The features cannot be written to {folder}: {error.strerror or error}.") from None
    index = {"format": _FORMAT, "meta": asdict(meta), "of": count, "files": files, "ids": list(ids)}
    write_json(folder / INDEX, index)
    return written


_AGAIN = "remove the folder and run captioner features again"


def _files_for(images: int, row_bytes: int, file_bytes: int) -> int:
    """A power of two, so that it seldom changes as images are added."""
    needed = -(-images * row_bytes // file_bytes)
    return int(min(1 << max(0, needed - 1).bit_length(), MOST_FILES))


def _parts(ids: Sequence[str], count: int) -> dict[int, list[int]]:
    """Of `count` files: number → the rows in it, in their order; those that hold none are left out."""
    parts: dict[int, list[int]] = {}
    for row, name in enumerate(ids):
        parts.setdefault(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) % count, []).append(row)
    return dict(sorted(parts.items()))


def _key(meta: FeaturesMeta, ids: Sequence[str], contents: Sequence[str], rows: Sequence[int]) -> str:
    """What a file's rows are made of, whose they are and in which order."""
    made_of = [asdict(meta), [(ids[row], contents[row]) for row in rows]]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:32]


def _keys(folder: Path) -> dict[int, str]:
    """The keys of the files that are there; none where the index is not one of ours."""
    try:
        index: Any = read_json(folder / INDEX)
        return {int(file["file"]): str(file["key"]) for file in index["files"]}
    except (BadData, KeyError, TypeError, ValueError):
        return {}


def _name(number: int) -> str:
    return f"features-{number:04d}.npy"


def _is_whole(path: Path, shape: tuple[int, ...]) -> bool:
    try:
        _map(path, shape)
    except BadData:
        return False
    return True


def _map(path: Path, shape: tuple[int, ...]) -> Features:
    header = npy_header(shape)
    expected = len(header) + 2 * int(np.prod(shape))
    try:
        with path.open("rb") as file:
            found, size = file.read(len(header)), path.stat().st_size
    except OSError as error:
        raise BadData(f"{path} cannot be read ({error.strerror or error}): {_AGAIN}.") from None
    if found != header or size != expected:
        raise BadData(f"{path} is damaged or cut short ({size} bytes, expected {expected}): {_AGAIN}.")
    return np.memmap(path, np.float16, "r", offset=len(header), shape=shape)
