"""Packs: a folder's pictures in a few zip files, so that nothing downstream handles thousands of small files.

Equal content gives equal bytes: members are stored, not deflated, in the order in which they are added, with one fixed
date. Knows nothing of pictures: a member is bytes with a name.
"""

from __future__ import annotations

import hashlib
import threading
import zipfile
from pathlib import Path
from types import TracebackType

from captioner.errors import BadData, BadEnvironment
from captioner.records import ImageRecord

PACK_BYTES = 64_000_000
"""A pack is closed before it grows over this size; a single larger member has a pack of its own."""

_DATE = (1980, 1, 1, 0, 0, 0)
_MEMBER_OVERHEAD = 128


def digest(data: bytes) -> str:
    """blake2b-128 of `data`, 32 hex digits: what names a picture everywhere."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


class PackWriter:
    """Writes ``images-000.zip``, ``images-001.zip`` … into `folder`, which is made. Use it as a context manager."""

    def __init__(self, folder: Path, pack_bytes: int = PACK_BYTES) -> None:
        self.folder, self.pack_bytes = folder, pack_bytes
        self._names: set[str] = set()
        self._pack: zipfile.ZipFile | None = None
        self._count = 0
        self._size = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _cannot_write(folder, error) from None

    def add(self, name: str, data: bytes) -> str:
        """Store `data` as `name`; returns the file name of the pack. A name is given once (BadData)."""
        if name in self._names:
            raise BadData(f"{name!r} is there twice: give every picture a name of its own.")
        self._names.add(name)
        size = len(data) + 2 * len(name.encode()) + _MEMBER_OVERHEAD
        if self._pack is not None and self._size + size > self.pack_bytes:
            self.close()
        try:
            if self._pack is None:
                self._pack = zipfile.ZipFile(self.folder / f"images-{self._count:03d}.zip", "w", zipfile.ZIP_STORED)
                self._count += 1
                self._size = 0
            member = zipfile.ZipInfo(name, _DATE)
            member.create_system = 3
            member.external_attr = 0o100644 << 16
            self._pack.writestr(member, data)
        except OSError as error:
            raise _cannot_write(self.folder, error) from None
        self._size += size
        return Path(self._pack.filename or "").name

    def close(self) -> None:
        """Finish the open pack. Raises BadEnvironment when the disk is full."""
        pack, self._pack = self._pack, None
        if pack is None:
            return
        try:
            pack.close()
        except OSError as error:
            raise _cannot_write(self.folder, error) from None

    def __enter__(self) -> PackWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except BadEnvironment:
            if kind is None:
                raise


class PackReader:
    """Reads pictures back by their manifest row. Threads may share a reader; each pack is opened once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._packs: dict[str, zipfile.ZipFile] = {}
        self._lock = threading.Lock()

    def read(self, record: ImageRecord) -> bytes:
        """The bytes of `record`. Raises BadData when the pack is missing or cut short, or the digest does not fit."""
        try:
            data = self._open(record.pack).read(record.name)
        except FileNotFoundError:
            raise BadData(f"{self.folder / record.pack} is missing: run acquire again.") from None
        except KeyError:
            raise BadData(f"{record.pack} does not hold {record.name!r}: run acquire again.") from None
        except (zipfile.BadZipFile, EOFError) as error:
            raise BadData(f"{record.pack} is damaged at {record.name!r} ({error}): run acquire again.") from None
        except OSError as error:
            raise BadEnvironment(f"{self.folder / record.pack} cannot be read: {error.strerror or error}.") from None
        if digest(data) != record.digest:
            raise BadData(f"{record.name!r} in {record.pack} is not what the manifest says: run acquire again.")
        return data

    def _open(self, pack: str) -> zipfile.ZipFile:
        with self._lock:
            if pack not in self._packs:
                self._packs[pack] = zipfile.ZipFile(self.folder / pack)
            return self._packs[pack]

    def close(self) -> None:
        with self._lock:
            for pack in self._packs.values():
                pack.close()
            self._packs.clear()

    def __enter__(self) -> PackReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _cannot_write(folder: Path, error: OSError) -> BadEnvironment:
    return BadEnvironment(f"{folder} cannot be written: {error.strerror or error}.")
