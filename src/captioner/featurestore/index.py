"""The append-only feature store: which image's features are known, and where they lie.

One folder per kind of features (encoder, weights, preprocessing, layout), named after them; in it, shards. The key of a
row is the digest of the image's bytes. Several processes may read and append at once: shards are only ever added, under
names of their own. Knows nothing of TensorFlow, manifests or DVC.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from captioner.errors import BadData, BadEnvironment
from captioner.featurestore.shards import TEMPORARY, DamagedShard, Features, Shard, ShardWriter, open_shard
from captioner.records import FeaturesMeta, read_json, write_json

BLOCK_BYTES = 8 * 1024 * 1024


class _Place(NamedTuple):
    shard: Shard
    row: int


class FeatureStore:
    """Features of one kind, by the digest of the image."""

    def __init__(self, root: Path, meta: FeaturesMeta) -> None:
        """Open (and read the index of) the store at `root`. Raises BadData when its folder holds another kind."""
        self.meta = meta
        self.folder = root / folder_name(meta)
        self.damaged: list[str] = []  # one sentence for each shard that had to be dropped
        self._places: dict[str, _Place] = {}
        if (self.folder / "meta.json").exists():
            self._check_meta()
            for commit in sorted(self.folder.glob("*.json")):
                if commit.name != "meta.json":
                    self._admit(commit)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, digest: str) -> bool:
        return digest in self._places

    def blocks(self, digests: Sequence[str]) -> Iterator[Features]:
        """The rows of `digests` in that order, float16 [n, cells, channels] at a time (8 MB), n fixed but for the last.

        Raises DamagedShard when a row is not what was written (``check`` drops such shards), KeyError for a digest that
        is not here.
        """
        step = max(1, BLOCK_BYTES // (2 * self.meta.cells * self.meta.channels))
        for start in range(0, len(digests), step):
            places = [self._places[digest] for digest in digests[start : start + step]]
            parts = [shard.read(first, count) for shard, first, count in _runs(places)]
            yield parts[0] if len(parts) == 1 else np.concatenate(parts)  # neighbours in one shard need no copy

    def rows(self, digests: Sequence[str]) -> Features:
        """The rows of `digests` in that order, float16 [n, cells, channels]. Raises what ``blocks`` does."""
        return np.concatenate(list(self.blocks(digests)))

    def check(self, digests: Sequence[str]) -> None:
        """Read every shard that holds one of `digests` and drop the damaged ones: their images are missing then."""
        for shard in {self._places[digest].shard.path: self._places[digest].shard for digest in digests}.values():
            try:
                for row in range(len(shard.digests)):
                    shard.read(row, 1)
            except DamagedShard as error:
                self._drop(shard, str(error))

    def _drop(self, shard: Shard, why: str) -> None:
        self.damaged.append(why)
        with _told(self.folder):
            shard.forget()
        self._places = {digest: place for digest, place in self._places.items() if place.shard is not shard}

    @contextmanager
    def appending(self) -> Iterator[Appender]:
        """Append rows for as long as the block runs. What was added is kept even when the block ends with an error."""
        with _told(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._sweep(handle)
            with _told(self.folder):
                fcntl.flock(handle, fcntl.LOCK_SH)  # nobody sweeps while somebody appends
                if not (self.folder / "meta.json").exists():
                    write_json(self.folder / "meta.json", asdict(self.meta))
            appender = Appender(self)
            try:
                yield appender
            except BadEnvironment:
                appender.discard()
                raise
            except BaseException:
                appender.commit()
                raise
            appender.commit()
        finally:
            os.close(handle)

    def enter(self, shard: Shard) -> None:
        """Take a committed shard into the index."""
        for row, digest in enumerate(shard.digests):
            self._places[digest] = _Place(shard, row)

    def _admit(self, commit: Path) -> None:
        try:
            shard = open_shard(commit, (self.meta.cells, self.meta.channels))
            shard.check_size()
        except BadData as error:
            self.damaged.append(str(error))
            with _told(self.folder):
                commit.unlink(missing_ok=True)
            return
        self.enter(shard)

    def _check_meta(self) -> None:
        found = read_json(self.folder / "meta.json")
        if {"engine": "tensorflow", **found} != asdict(self.meta):  # stores were made before there were engines
            raise BadData(f"{self.folder} holds features of another kind ({found}): move it away.")

    def _sweep(self, handle: int) -> None:
        """Remove what a killed process left, unless another process is appending right now."""
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        with _told(self.folder):
            for rows in self.folder.glob("*.npy"):
                if rows.name.startswith(TEMPORARY) or not rows.with_suffix(".json").exists():
                    rows.unlink(missing_ok=True)


class Appender:
    """Cuts a stream of rows into shards. Made by ``FeatureStore.appending``."""

    def __init__(self, store: FeatureStore) -> None:
        self._store = store
        self._writer: ShardWriter | None = None

    def add(self, digests: Sequence[str], rows: Features) -> None:
        """Raises BadEnvironment when the disk is full or read-only, BadData when the rows cannot be stored."""
        with _told(self._store.folder):
            if self._writer is None:
                self._writer = ShardWriter(self._store.folder, (self._store.meta.cells, self._store.meta.channels))
            self._writer.add(digests, rows)

    def commit(self) -> None:
        """Make what was added since the last commit a shard: from here on a kill cannot lose it."""
        if self._writer is None:
            return
        writer, self._writer = self._writer, None
        with _told(self._store.folder):
            try:
                shard = writer.commit()
            except BaseException:
                writer.discard()
                raise
        if shard is not None:
            self._store.enter(shard)

    def discard(self) -> None:
        if self._writer is not None:
            with _told(self._store.folder):
                self._writer.discard()
            self._writer = None


def folder_name(meta: FeaturesMeta) -> str:
    """Readable, and different for every kind: ``efficientnet-lite0-grid-1a2b3c4d5e6f``."""
    kind, prefix = asdict(meta), f"{meta.encoder}-{meta.layout}"
    if meta.engine == "tensorflow":
        del kind["engine"]  # so that stores from before there were engines are found
    else:
        prefix += f"-{meta.engine}"
    return f"{prefix}-{hashlib.blake2b(json.dumps(kind, sort_keys=True).encode(), digest_size=6).hexdigest()}"


def _runs(places: Sequence[_Place]) -> Iterator[tuple[Shard, int, int]]:
    """(shard, first row, count): neighbours that lie together are read together."""
    start = 0
    for end in range(1, len(places) + 1):
        shard, row = places[start]
        if end == len(places) or places[end] != (shard, row + end - start):
            yield shard, row, end - start
            start = end


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise BadEnvironment(
            f"The feature store {folder} cannot be written ({reason}): free some space, or "
            "set CAPTIONER_FEATURE_STORE to a folder that can be written."
        ) from None
