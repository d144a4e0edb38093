"""The checksums that a file from outside must have one of, and the check. Knows nothing of where it came from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from captioner.errors import BadData, BadEnvironment


@dataclass(frozen=True)
class Checksums:
    """Accepted SHA-256 and MD5 sums, lower-case hex. None at all: anything is accepted.

    MD5 is here because it is all that is published for some archives; it finds damage, not malice.
    """

    sha256: tuple[str, ...] = ()
    md5: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.sha256 or self.md5)

    def check(self, path: Path) -> None:
        """Raise BadData, naming what was found and what is accepted, unless one of the sums fits the file at `path`."""
        if not self:
            return
        found = {"SHA-256": file_sum(path, "sha256")}
        if self.md5 and found["SHA-256"] not in self.sha256:
            found["MD5"] = file_sum(path, "md5")
        if found["SHA-256"] not in self.sha256 and found.get("MD5") not in self.md5:
            has = " and ".join(f"the {name} {value}" for name, value in found.items())
            accepted = " or ".join((*self.sha256, *(f"MD5 {value}" for value in self.md5)))
            raise BadData(f"{path.name} has {has}, but only {accepted} is accepted: it is damaged or another file.")


def file_sum(path: Path, algorithm: str) -> str:
    """The checksum of a file, lower-case hex. Raises BadEnvironment when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest()
    except OSError as error:
        raise BadEnvironment(f"{path} cannot be read: {error.strerror or error}.") from None
