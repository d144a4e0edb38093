"""A zip file or a folder, read in the same way and trusted in neither: names are checked before anything is read.

Nothing is ever extracted: members are read into memory by name. Knows nothing of what the files are.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Protocol

from captioner.errors import BadData, BadEnvironment

MEMBER_BYTES = 256_000_000
"""A larger member is refused: no picture and no table of ours is that large."""


class Archive(Protocol):
    """Files by their name relative to the root, with ``/`` between the parts."""

    title: str

    def names(self) -> list[str]:
        """All files, sorted; hidden ones and macOS's shadow files are left out."""

    def read(self, name: str) -> bytes:
        """The content of a file. Raises BadData when it is damaged."""


class FolderArchive:
    """A folder, with what lies below it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.title = folder, folder.name

    def names(self) -> list[str]:
        found = (path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())
        return sorted(name for name in found if _is_wanted(name))

    def read(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise BadEnvironment(f"{self.folder / name} cannot be read: {error.strerror or error}.") from None


class ZipArchive:
    """A zip file. Opening it refuses names that point outside it, whatever would be done with them."""

    def __init__(self, path: Path) -> None:
        self.title = path.name
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, EOFError):
            raise BadData(f"{path} is not a whole zip file: it is cut short or damaged, get it again.") from None
        except OSError as error:
            raise BadEnvironment(f"{path} cannot be read: {error.strerror or error}.") from None
        self._members = {member.filename: member for member in self._zip.infolist() if not member.is_dir()}
        for name, member in self._members.items():
            if is_unsafe(name):
                raise BadData(f"{path} holds the unsafe path {name!r}: it is not the dataset's archive, do not use it.")
            if member.file_size > MEMBER_BYTES:
                raise BadData(f"{path} holds {name!r} of {member.file_size:,} bytes: it is not the dataset's archive.")

    def names(self) -> list[str]:
        return sorted(name for name in self._members if _is_wanted(name))

    def read(self, name: str) -> bytes:
        try:
            return self._zip.read(self._members[name])
        except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
            raise BadData(f"{self.title} is damaged at {name!r} ({error}): get it again.") from None
        except OSError as error:
            raise BadEnvironment(f"{self.title} cannot be read: {error.strerror or error}.") from None


def _is_wanted(name: str) -> bool:
    return not any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def is_unsafe(name: str) -> bool:
    """Whether a name relative to an archive points outside it, on any system."""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or ":" in (path.parts or ("",))[0]
