"""The DVC out ``data/features``: a few .npy files in manifest order and an index.json.

Equal content gives equal bytes, whatever the history: no clock, no shard names, fixed file sizes. Knows nothing of the
store it was assembled from, nor of TensorFlow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from captioner.errors import BadData, BadEnvironment
from captioner.featurestore.shards import Features, npy_header
from captioner.records import FeaturesMeta, read_json, write_json

FILE_BYTES = 256 * 1024 * 1024
INDEX = "index.json"
_FORMAT = 1


@dataclass(frozen=True)
class PackedFeatures:
    """Read access by row. Rows lie in the order of ``ids``, which is the manifest's."""

    meta: FeaturesMeta
    ids: tuple[str, ...]
    _files: tuple[Features, ...]
    _rows_per_file: int

    @classmethod
    def open(cls, folder: Path) -> PackedFeatures:
        """Raises BadData when a file is missing, cut short or does not fit the index."""
        index = read_json(folder / INDEX)
        try:
            if index["format"] != _FORMAT:
                raise ValueError(f"format {index['format']}")
            meta, ids, per_file = FeaturesMeta(**index["meta"]), tuple(index["ids"]), int(index["rows_per_file"])
            names = [(str(file["name"]), int(file["rows"])) for file in index["files"]]
        except (KeyError, TypeError, ValueError) as error:
            raise BadData(f"{folder / INDEX} is not an index of features ({error}): {_AGAIN}.") from None
        files = tuple(_map(folder / name, (rows, meta.cells, meta.channels)) for name, rows in names)
        if sum(len(file) for file in files) != len(ids) or any(len(file) != per_file for file in files[:-1]):
            raise BadData(f"{folder} holds {sum(map(len, files))} rows for {len(ids)} images: {_AGAIN}.")
        return cls(meta, ids, files, per_file)

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> Features:
        """float16 [n, cells, channels], in the order asked for. Raises IndexError for a row that does not exist."""
        wanted = np.asarray(indices, dtype=np.int64).reshape(-1)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= len(self.ids)):
            raise IndexError(f"rows 0 to {len(self.ids) - 1} exist, not {wanted.min()} to {wanted.max()}")
        out = np.empty((len(wanted), self.meta.cells, self.meta.channels), np.float16)
        numbers = wanted // self._rows_per_file
        for number in np.unique(numbers):
            here = np.flatnonzero(numbers == number)
            out[here] = self._files[number][wanted[here] - number * self._rows_per_file]
        return out


def write_packed(
    folder: Path, meta: FeaturesMeta, ids: Sequence[str], blocks: Iterable[Features], file_bytes: int = FILE_BYTES
) -> None:
    """Write `blocks` (float16 [n, cells, channels], together one row per id, in their order) and the index, streaming.

    The index comes last: a folder without one is not finished. Raises BadData when rows and ids do not fit, and
    BadEnvironment when the disk is full or read-only.
    """
    per_file = max(1, file_bytes // (meta.cells * meta.channels * 2))
    counts = [min(per_file, len(ids) - start) for start in range(0, len(ids), per_file)]
    names = [f"features-{number:03d}.npy" for number in range(len(counts))]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / INDEX).unlink(missing_ok=True)
        for stale in folder.glob("features-*.npy"):
            stale.unlink()
        supply = _Rows(blocks, (meta.cells, meta.channels))
        for name, rows in zip(names, counts, strict=True):
            with (folder / name).open("wb") as out:
                _write_npy(out, supply, rows, meta)
    except OSError as error:
        raise BadEnvironment(f"The features cannot be written to {folder}: {error.strerror or error}.") from None
    if supply.left():
        raise BadData(f"More rows of features than the {len(ids)} images.")
    files = [{"name": name, "rows": rows} for name, rows in zip(names, counts, strict=True)]
    index = {"format": _FORMAT, "meta": asdict(meta), "rows_per_file": per_file, "files": files, "ids": list(ids)}
    write_json(folder / INDEX, index)


_AGAIN = "remove the folder and run captioner features again"


class _Rows:
    """Hands out blocks in pieces of any length."""

    def __init__(self, blocks: Iterable[Features], shape: tuple[int, int]) -> None:
        self._blocks, self._shape = iter(blocks), shape
        self._rest: Features = np.empty((0, *shape), np.float16)

    def take(self, limit: int) -> Features:
        """1 to `limit` rows; none when there are no more."""
        while not len(self._rest):
            block = next(self._blocks, None)
            if block is None:
                return self._rest
            if block.dtype != np.float16 or block.shape[1:] != self._shape:
                raise BadData(f"A block of features is {block.dtype}{block.shape[1:]}, not float16{self._shape}.")
            self._rest = block
        piece, self._rest = self._rest[:limit], self._rest[limit:]
        return piece

    def left(self) -> bool:
        return len(self.take(1)) > 0


def _write_npy(out: IO[bytes], supply: _Rows, rows: int, meta: FeaturesMeta) -> None:
    out.write(npy_header((rows, meta.cells, meta.channels)))
    written = 0
    while written < rows:
        piece = supply.take(rows - written)
        if not len(piece):
            raise BadData("Fewer rows of features than images.")
        out.write(np.ascontiguousarray(piece).data)
        written += len(piece)


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
