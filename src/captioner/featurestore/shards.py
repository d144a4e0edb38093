"""One shard: rows of features in an .npy file, and beside it a small JSON file that says whose they are.

The JSON file is the commit: it is renamed into place after the rows are safe on disk, so a shard exists whole or not at
all, whatever is killed and when. Rows are read with pread and checked against their CRC-32: a file that was cut short
or changed is found out, never believed. Knows nothing of images or networks.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from captioner.errors import BadData
from captioner.records import read_json, write_json

Features = npt.NDArray[np.float16]
TEMPORARY = ".tmp-"


class DamagedShard(BadData):
    """A shard whose rows are not what was written; `shard` says which."""

    def __init__(self, shard: Shard, why: str) -> None:
        super().__init__(f"The feature shard {shard.path} is damaged ({why}): run captioner features again.")
        self.shard = shard


@dataclass(frozen=True)
class Shard:
    """A committed shard. Row i of the file belongs to the image whose digest is ``digests[i]``."""

    path: Path
    row_shape: tuple[int, int]  # cells, channels
    digests: tuple[str, ...]
    checksums: tuple[int, ...]  # CRC-32 of each row's bytes

    @property
    def row_bytes(self) -> int:
        return 2 * self.row_shape[0] * self.row_shape[1]

    def check_size(self) -> None:
        """Raises DamagedShard when the file is missing or its size is not that of its rows: a stat, nothing is read."""
        try:
            size = self.path.stat().st_size
        except OSError as error:
            raise DamagedShard(self, error.strerror or str(error)) from None
        expected = len(npy_header((len(self.digests), *self.row_shape))) + self.row_bytes * len(self.digests)
        if size != expected:
            raise DamagedShard(self, f"{size} bytes instead of {expected}")

    def read(self, first: int, count: int) -> Features:
        """Rows `first` to `first + count`, float16 [count, cells, channels]. Raises DamagedShard."""
        start = len(npy_header((len(self.digests), *self.row_shape))) + first * self.row_bytes
        try:
            with self.path.open("rb") as file:
                data = os.pread(file.fileno(), count * self.row_bytes, start)
        except OSError as error:
            raise DamagedShard(self, error.strerror or str(error)) from None
        if len(data) != count * self.row_bytes:
            raise DamagedShard(self, "cut short")
        view = memoryview(data)  # a slice of bytes would copy each row
        for row in range(count):
            if zlib.crc32(view[row * self.row_bytes : (row + 1) * self.row_bytes]) != self.checksums[first + row]:
                raise DamagedShard(self, f"row {first + row} has changed")
        return np.frombuffer(data, np.float16).reshape(count, *self.row_shape)

    def forget(self) -> None:
        """Take the commit back. The rows stay until the store is swept: somebody may be reading them."""
        self.path.with_suffix(".json").unlink(missing_ok=True)


def open_shard(commit: Path, row_shape: tuple[int, int]) -> Shard:
    """The shard that the JSON file `commit` speaks of. Raises BadData when it does not parse."""
    index = read_json(commit)
    try:
        digests, checksums = tuple(map(str, index["digests"])), tuple(map(int, index["crc32"]))
    except (KeyError, TypeError, ValueError) as error:
        raise BadData(f"{commit} is not the index of a feature shard ({error}).") from None
    if len(digests) != len(checksums):
        raise BadData(f"{commit} is not the index of a feature shard ({len(digests)} keys, {len(checksums)} rows).")
    return Shard(commit.with_suffix(".npy"), row_shape, digests, checksums)


class ShardWriter:
    """Gathers rows in a temporary file; ``commit`` makes them a shard. Raises OSError when the disk refuses."""

    def __init__(self, folder: Path, row_shape: tuple[int, int]) -> None:
        self.folder, self.row_shape = folder, row_shape
        self._digests: list[str] = []
        self._checksums: list[int] = []
        handle, name = tempfile.mkstemp(dir=folder, prefix=TEMPORARY, suffix=".npy")
        self._path, self._file = Path(name), os.fdopen(handle, "wb")
        # The number of rows is not known yet; a header has the same length for any.
        self._file.write(npy_header((0, *row_shape)))

    def __len__(self) -> int:
        return len(self._digests)

    def add(self, digests: Sequence[str], rows: Features) -> None:
        """`rows`: float16 [len(digests), cells, channels], finite. Raises BadData for anything else."""
        if rows.dtype != np.float16 or rows.shape != (len(digests), *self.row_shape):
            raise BadData(
                f"{len(digests)} images gave features of {rows.dtype}{rows.shape}, not {self.row_shape} each."
            )
        if not np.isfinite(rows).all():
            raise BadData("The encoder gave features that are not finite numbers in float16: they cannot be stored.")
        for digest, row in zip(digests, rows, strict=True):
            data = row.tobytes()
            self._file.write(data)
            self._digests.append(digest)
            self._checksums.append(zlib.crc32(data))

    def commit(self) -> Shard | None:
        """Make what was added a shard (None when nothing was): rows safe on disk first, then the JSON file."""
        if not self._digests:
            self.discard()
            return None
        self._file.seek(0)
        self._file.write(npy_header((len(self._digests), *self.row_shape)))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        # Named by its keys: whoever encodes the same images writes the same bytes over it.
        name = hashlib.blake2b("".join(self._digests).encode(), digest_size=12).hexdigest()
        shard = Shard(self.folder / f"{name}.npy", self.row_shape, tuple(self._digests), tuple(self._checksums))
        os.chmod(self._path, 0o644)
        os.replace(self._path, shard.path)
        _fsync_folder(self.folder)
        write_json(shard.path.with_suffix(".json"), {"digests": self._digests, "crc32": self._checksums})
        return shard

    def discard(self) -> None:
        with contextlib.suppress(OSError):  # a full disk refuses the rest of the buffer once more
            self._file.close()
        self._path.unlink(missing_ok=True)


def npy_header(shape: tuple[int, ...]) -> bytes:
    """The header of a float16 .npy file (format 1.0), padded to the length that any number of rows needs."""
    text = f"{{'descr': '<f2', 'fortran_order': False, 'shape': {shape}, }}"
    length = 118 if len(text) < 118 else 246
    return b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + text.ljust(length - 1).encode("latin1") + b"\n"


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
