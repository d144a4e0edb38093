"""Download a large file so that nothing that was received is lost: resumed, retried, checked.

Bytes go to ``NAME.part``; beside it ``NAME.part.json`` keeps what identifies the file at the server (ETag or date), so
that a later run, after Ctrl-C, a crash or a full disk, asks for the rest only, and starts over when the server's file
changed. Knows nothing of datasets.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import io
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captioner.checksums import Checksums
from captioner.errors import BadData, BadEnvironment, BadParams, ServiceUnavailable
from captioner.progress import Progress, track
from captioner.records import read_json, write_json

_CHUNK = 1 << 20
_MEGABYTE = 1_000_000
_PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))


@dataclass(frozen=True)
class Retries:
    """How often to try again without getting any further, the first wait, and how long the server may be silent (s)."""

    attempts: int = 5
    wait_s: float = 1.0
    timeout_s: float = 30.0


ANY = Checksums()
PATIENT = Retries()


class _Interrupted(Exception):
    """The connection failed in a way that may pass."""


def download(url: str, target: Path, checksums: Checksums = ANY, retries: Retries = PATIENT) -> Path:
    """Bring `url` to `target`, unless it is there already and its checksum fits; returns `target`.

    Raises BadParams (not an http address), BadData (no such file at the server, or the wrong one, which is set aside as
    ``NAME.bad``), ServiceUnavailable (gave up) and BadEnvironment (disk); after those two what was received is kept.
    """
    if not url.startswith(("http://", "https://")):
        raise BadParams(f"{url} cannot be downloaded: only http and https addresses can.")
    if target.is_file():
        try:
            checksums.check(target)
            return target
        except BadData:
            _set_aside(target, target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadEnvironment(f"{target.parent} cannot be made: {error.strerror or error}.") from None
    part = _Part(url, target, trusted=bool(checksums))
    _fetch_all(part, retries)
    try:
        checksums.check(part.path)
    except BadData as error:
        bad = _set_aside(part.path, target)
        part.forget()
        raise BadData(f"{url} is not what was expected, and was set aside as {bad}: {error}") from None
    part.path.replace(target)
    part.forget()
    return target


class _Part:
    """The file as far as it was received, and what the server said that identifies it."""

    def __init__(self, url: str, target: Path, trusted: bool) -> None:
        self.url, self.path = url, target.with_name(target.name + ".part")
        self._note = target.with_name(target.name + ".part.json")
        self._trusted = trusted
        self.validator: str | None = None
        self.total: int | None = None
        self._recall()

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def _recall(self) -> None:
        try:
            known: dict[str, Any] = read_json(self._note)
        except BadData:
            known = {}
        if known.get("url") == self.url:
            self.validator, self.total = known.get("validator"), known.get("total")
        elif self.size:
            self.path.unlink()

    def remember(self, validator: str | None, total: int | None) -> None:
        self.validator, self.total = validator, total
        write_json(self._note, {"url": self.url, "validator": validator, "total": total})

    def forget(self) -> None:
        self._note.unlink(missing_ok=True)

    def start_over(self) -> None:
        self.path.unlink(missing_ok=True)
        self.validator = self.total = None

    def headers(self) -> dict[str, str]:
        """Ask for the rest where it can be known to be the rest of the same file."""
        if not self.size or not (self.validator or self._trusted):
            return {}
        rest = {"Range": f"bytes={self.size}-"}
        return {**rest, "If-Range": self.validator} if self.validator else rest

    def open_at(self, start: int) -> io.FileIO:
        """The file, cut at `start`, for writing from there; unbuffered, so that a kill loses nothing."""
        file = io.FileIO(self.path, "r+" if self.path.exists() else "w")
        file.seek(start)
        file.truncate()
        return file


def _fetch_all(part: _Part, retries: Retries) -> None:
    """Try until the file is whole. Only tries that brought nothing new count."""
    failures, furthest = 0, part.size
    while part.total is None or part.size != part.total:
        try:
            _fetch(part, retries.timeout_s)
            return
        except _Interrupted as error:
            failures = 1 if part.size > furthest else failures + 1
            furthest = max(furthest, part.size)
            if failures >= retries.attempts:
                raise ServiceUnavailable(
                    f"{part.url} could not be downloaded ({error}; {failures} tries); {_megabytes(part.size)} are "
                    f"kept in {part.path}: run the same command again to go on from there."
                ) from None
            time.sleep(min(retries.wait_s * 2 ** (failures - 1), 30.0))


def _fetch(part: _Part, timeout_s: float) -> None:
    """One request, from where `part` ends to the end of the file. Raises _Interrupted when trying again may help."""
    request = urllib.request.Request(part.url, headers={"User-Agent": "captioner", **part.headers()})
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            _receive(answer, part)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            if part.total is None or part.size != part.total:
                part.start_over()
                raise _Interrupted("the server's file changed") from None
        elif error.code in _PASSING:
            raise _Interrupted(f"HTTP {error.code}") from None
        else:
            raise BadData(f"{part.url} answered HTTP {error.code} ({error.reason}): check the address.") from None
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise _Interrupted(_reason(error)) from None


def _receive(answer: http.client.HTTPResponse, part: _Part) -> None:
    start, total = _extent(answer, part)
    with _disk(part):
        file = part.open_at(start)
    with file, track(f"download {part.path.stem}", _whole_megabytes(total or 0), "MB") as progress:
        if start == 0:
            part.remember(_validator(answer), total)
        with _disk(part):
            _check_space(part, None if total is None else total - start)
        at = _pour(answer, part, file, start, progress)
    if total is not None and at != total:
        raise _Interrupted(f"the connection broke off at {_megabytes(at)} of {_megabytes(total)}")


def _pour(answer: http.client.HTTPResponse, part: _Part, file: io.FileIO, start: int, progress: Progress) -> int:
    """Copy the body to the file as it comes; returns where it ends."""
    progress.advance(_whole_megabytes(start), "resumed" if start else None)
    at = start
    while data := answer.read1(_CHUNK):
        with _disk(part):
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
        progress.advance(_whole_megabytes(at + len(data)) - _whole_megabytes(at))
        at += len(data)
    return at


def _validator(answer: http.client.HTTPResponse) -> str | None:
    """What names this version of the file in If-Range: a strong ETag, or else the date."""
    etag = answer.headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else answer.headers.get("Last-Modified")


def _extent(answer: http.client.HTTPResponse, part: _Part) -> tuple[int, int | None]:
    """Where the body starts in the file, and how large the file is (None: unknown)."""
    length = answer.headers.get("Content-Length")
    if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
        return 0, int(length) if length and length.isdigit() else None
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range") or "")
    if not found or int(found[1]) != part.size:
        part.start_over()
        raise _Interrupted("the server sent another range than was asked for")
    return int(found[1]), None if found[2] == "*" else int(found[2])


def _check_space(part: _Part, needed: int | None) -> None:
    free = shutil.disk_usage(part.path.parent).free
    if needed is not None and needed > free:
        raise OSError(errno.ENOSPC, f"{_megabytes(needed)} are needed, {_megabytes(free)} are free")


@contextlib.contextmanager
def _disk(part: _Part) -> Iterator[None]:
    """What fails in here is the disk, not the network."""
    try:
        yield
    except OSError as error:
        raise BadEnvironment(
            f"{part.path} cannot be written: {error.strerror or error}; the {_megabytes(part.size)} received so far "
            "are kept: make room and run the same command again."
        ) from None


def _set_aside(path: Path, target: Path) -> Path:
    bad = target.with_name(target.name + ".bad")
    path.replace(bad)
    return bad


def _reason(error: Exception) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return str(reason) or type(error).__name__


def _whole_megabytes(size: int) -> int:
    return -(-size // _MEGABYTE)


def _megabytes(size: int) -> str:
    return f"{size / _MEGABYTE:.1f} MB"
