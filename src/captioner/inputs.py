"""Pictures from files, folders and URLs, by name and then as bytes: one at a time, so that a folder may be of any size.

Knows nothing of what becomes of them; ``images.normalise`` looks at what they hold.
"""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from captioner.errors import BadEnvironment, BadInput

SUFFIXES = frozenset([".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff"])
MAX_BYTES = 50_000_000


def expand(sources: Sequence[str]) -> Iterator[str]:
    """Files and URLs as they are, folders as the images below them, sorted. A folder is read while it is walked.

    Raises BadInput, before the first name, when one of the folders holds no image.
    """
    for source in sources:
        if Path(source).is_dir() and next(_walk(source), None) is None:
            raise BadInput(f"There are no images in {source} (looked for {', '.join(sorted(SUFFIXES))}).")
    return _names(sources)


def _names(sources: Sequence[str]) -> Iterator[str]:
    for source in sources:
        if Path(source).is_dir():
            yield from _walk(source)
        else:
            yield source


def _walk(folder: str) -> Iterator[str]:
    """The images below `folder` in the order of their paths' parts. Links to folders are not followed."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise BadInput(f"{folder} cannot be read: {error.strerror}.") from None
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path)
        elif Path(entry.name).suffix.lower() in SUFFIXES and entry.is_file():
            yield str(Path(entry.path))


def read_image(source: str) -> bytes:
    """The bytes of a file or an http(s) URL. Raises BadInput or BadEnvironment."""
    if source.startswith(("http://", "https://")):
        return _download(source)
    try:
        return Path(source).read_bytes()
    except FileNotFoundError:
        raise BadInput(f"There is no file {source}.") from None
    except OSError as error:
        raise BadInput(f"{source} cannot be read: {error.strerror}.") from None


def _download(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=30) as response:  # http(s) only: checked by the caller
            data: bytes = response.read(MAX_BYTES + 1)
    except urllib.error.HTTPError as error:
        raise BadInput(f"{url} answered {error.code} {error.reason}.") from None
    except (OSError, ValueError) as error:
        raise BadEnvironment(f"{url} cannot be fetched: {getattr(error, 'reason', error)}.") from None
    if len(data) > MAX_BYTES:
        raise BadInput(f"{url} is larger than {MAX_BYTES // 1_000_000} MB.")
    return data
