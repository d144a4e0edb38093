"""Model archives as folders: fetched from S3, unpacked safely, shared by the instances that use them, then removed."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import tempfile
import threading
import zlib
from gzip import BadGzipFile
from pathlib import Path, PurePosixPath
from urllib.parse import urlparse

from captioner.emulator.objects import Objects
from captioner.errors import BadData, BadEnvironment


class Artifacts:
    """Unpacked archives below `folder`. What nobody holds is removed."""

    def __init__(self, folder: Path, objects: Objects) -> None:
        self._folder, self._objects = folder, objects
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
                self._objects.download(bucket, key, archive)
                unpack(archive, content)
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


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar.gz into the new `folder`. Raises BadData unless it holds plain files and folders only."""
    folder.mkdir()
    try:
        with tarfile.open(archive, "r:gz") as packed:
            for member in packed:
                name = PurePosixPath(member.name)
                if name.is_absolute() or ".." in name.parts or not (member.isfile() or member.isdir()):
                    raise BadData(f"The model archive holds {member.name!r}, which is not a plain file inside it.")
                target = folder / name
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                content = packed.extractfile(member)
                assert content is not None
                with content, target.open("wb") as out:
                    shutil.copyfileobj(content, out, 1 << 20)
    except (tarfile.TarError, BadGzipFile, zlib.error, EOFError) as error:
        raise BadData(f"The model archive is damaged: {error}.") from None
