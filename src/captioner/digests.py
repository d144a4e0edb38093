"""Digests of files, and archives whose bytes depend on their content alone."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path, PurePosixPath


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_text(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def is_plain(member: tarfile.TarInfo) -> bool:
    """Is this a file or a folder that stays inside of where its archive is unpacked? No link, no device."""
    name = PurePosixPath(member.name)
    return not name.is_absolute() and ".." not in name.parts and (member.isfile() or member.isdir())


def pack_folder(folder: Path) -> bytes:
    """A tar.gz of `folder`'s files, sorted, without times or owners: equal content gives equal bytes."""
    packed = io.BytesIO()
    # Level 1: weights do not compress, and the archive is made and read on every release.
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1, mtime=0, filename="") as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
            entry.size, entry.mode = path.stat().st_size, 0o644
            with path.open("rb") as file:
                archive.addfile(entry, file)
    return packed.getvalue()
