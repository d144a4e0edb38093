"""Model archives as folders: fetched from S3, unpacked safely, shared by the instances that use them, then removed."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import tempfile
import threading
import zlib
from dataclasses import dataclass
from gzip import BadGzipFile
from pathlib import Path
from typing import Self
from urllib.parse import urlparse

from captioner.digests import is_plain
from captioner.emulator.objects import Objects
from captioner.errors import BadData, BadEnvironment


@dataclass(frozen=True)
class Limits:
    """What an archive may cost this machine: its bytes, the bytes that it unpacks to, the entries in it."""

    packed: int = 4 << 30
    unpacked: int = 8 << 30
    members: int = 20_000


LIMITS = Limits()
MAX_HEADER = 64 << 10  # a tar's extended header is read into memory whole; names are far shorter
_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class Artifacts:
    """Unpacked archives below `folder`. What nobody holds is removed."""

    def __init__(self, folder: Path, objects: Objects, limits: Limits = LIMITS) -> None:
        self._folder, self._objects, self._limits = folder, objects, limits
        self._lock = threading.Lock()
        self._held: dict[Path, int] = {}
        # Nothing is held at the start: what lies there is left from a process that was killed.
        shutil.rmtree(folder, ignore_errors=True)

    def acquire(self, url: str) -> Path:
        """The folder with the content of the archive at `url`. Raises BadData, BadEnvironment; call `release` after."""
        bucket, key = split(url)
        with self._lock:
            tag = self._objects.stat(bucket, key)
            if tag is None:
                raise BadData(f"Could not find model data at {url}.")
            target = self._folder / hashlib.sha256(f"{url} {tag}".encode()).hexdigest()[:24]
            if not target.exists():
                self._fetch(bucket, key, target)
            self._held[target] = self._held.get(target, 0) + 1
            return target

    def release(self, target: Path) -> None:
        with self._lock:
            self._held[target] -= 1
            if not self._held[target]:
                del self._held[target]
                shutil.rmtree(target, ignore_errors=True)

    def _fetch(self, bucket: str, key: str, target: Path) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._folder) as temporary:
                archive, content = Path(temporary) / "model.tar.gz", Path(temporary) / "content"
                self._objects.download(bucket, key, archive, self._limits.packed)
                unpack(archive, content, self._limits)
                content.rename(target)
        except FileNotFoundError:
            raise BadData(f"Could not find model data at s3://{bucket}/{key}.") from None
        except OSError as error:
            reason = error.strerror or error
            raise BadEnvironment(f"The model at s3://{bucket}/{key} cannot be unpacked: {reason}.") from None


def split(url: str) -> tuple[str, str]:
    """Bucket and key of an S3 URL. Raises BadData."""
    parts = urlparse(url)
    if parts.scheme != "s3" or not parts.netloc or not parts.path.strip("/"):
        raise BadData(f"{url} is not the URL of an S3 object.")
    return parts.netloc, parts.path.lstrip("/")


def unpack(archive: Path, folder: Path, limits: Limits = LIMITS) -> None:
    """Unpack a tar.gz into the new `folder`. Raises BadData unless it holds plain files and folders, within `limits`.

    What it says of itself is believed in nothing: sizes are added up before a byte is written.
    """
    folder.mkdir()
    count = total = 0
    try:
        with tarfile.open(archive, "r:gz", tarinfo=_Header) as packed:
            for member in packed:
                if member.size < 0:
                    raise BadData(f"The model archive says that {member.name!r} has {member.size} bytes.")
                count, total = count + 1, total + member.size
                if count > limits.members:
                    raise BadData(f"The model archive holds more than {limits.members} files.")
                if total > limits.unpacked:
                    raise BadData(f"The model archive unpacks to more than {limits.unpacked} bytes.")
                _place(packed, member, folder)
                # tarfile would keep every entry that it has seen.
                packed.members = []  # type: ignore[attr-defined]
    except (tarfile.TarError, BadGzipFile, zlib.error, EOFError) as error:
        raise BadData(f"The model archive is damaged: {error}.") from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise BadData(f"The model archive has a file and a folder of one name: {error.filename}.") from None


def _place(packed: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    if not is_plain(member):
        raise BadData(f"The model archive holds {member.name!r}, which is not a plain file inside it.")
    target = folder / member.name
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    content = packed.extractfile(member)
    assert content is not None
    with content, target.open("wb") as out:
        shutil.copyfileobj(content, out, 1 << 20)


class _Header(tarfile.TarInfo):
    """A tar header that may not ask for memory: extended headers are read whole before anybody can look at them."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        found = super().frombuf(buf, encoding, errors)
        if found.type in _EXTENDED and found.size > MAX_HEADER:
            raise BadData(f"The model archive has a header of {found.size} bytes; the limit is {MAX_HEADER}.")
        return found
