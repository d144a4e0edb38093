"""Append-only logs of JSON lines in S3: `ports.Events` as objects by the hour that nobody writes over.

``KIND/NAME/YYYY/MM/DD/HH/WRITER-NUMBER.jsonl``, the hour (UTC) being the one that an object was written in. A writer
is one process, its numbers grow: an object that was sent twice lies there once. Knows nothing of what a line means.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from captioner.adapters.aws import Account, account, in_our_words
from captioner.adapters.s3 import ensure_bucket
from captioner.errors import BadData
from captioner.paths import Paths
from captioner.settings import Settings


class S3Events:
    """Logs in the bucket of the account that the settings name, or of `where`."""

    def __init__(
        self,
        settings: Settings,
        paths: Paths,
        where: Account | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings, self._paths, self._given, self._now = settings, paths, where, now
        self._writer, self._number, self._lock = uuid.uuid4().hex[:12], 1, threading.Lock()
        self._clients: dict[str | None, Any] = {}

    def write(self, kind: str, name: str, lines: Sequence[Mapping[str, Any]]) -> str:
        """Write `lines` as one new object and return its key. Raises ServiceUnavailable: then nothing was written."""
        where, client = self._at()
        body = "".join(json.dumps(line, ensure_ascii=False, sort_keys=True) + "\n" for line in lines).encode()
        with self._lock:
            key = f"{kind}/{name}/{self._now():%Y/%m/%d/%H}/{self._writer}-{self._number:06d}.jsonl"
            with in_our_words(where, f"write {key} in the bucket {where.bucket}"):
                _ensure_bucket(where, client)
                client.put_object(Bucket=where.bucket, Key=key, Body=body, ContentType="application/x-ndjson")
            # Only now: what may have been written though no answer came is written over when it is tried again.
            self._number += 1
        return key

    def keys(self, kind: str, name: str, since: datetime) -> list[str]:
        """The keys of what was written from the hour of `since` on, oldest hour first."""
        where, client = self._at()
        prefix = f"{kind}/{name}/"
        # Keys sort by time. With the slash: SeaweedFS takes a folder's bare name for what comes after the folder.
        first = f"{prefix}{since.astimezone(UTC):%Y/%m/%d/%H}/"
        with in_our_words(where, f"list {prefix} in the bucket {where.bucket}"):
            _ensure_bucket(where, client)
            pages = client.get_paginator("list_objects_v2").paginate(
                Bucket=where.bucket, Prefix=prefix, StartAfter=first
            )
            return [one["Key"] for page in pages for one in page.get("Contents") or []]

    def lines(self, key: str) -> Iterator[dict[str, Any]]:
        """The lines of one object. Raises BadData when they are no JSON."""
        where, client = self._at()
        with in_our_words(where, f"read {key} in the bucket {where.bucket}"):
            body = client.get_object(Bucket=where.bucket, Key=key)["Body"].read()
        try:
            yield from (json.loads(line) for line in body.splitlines())
        except ValueError:
            raise BadData(f"s3://{where.bucket}/{key} has a line that is not JSON: somebody else wrote it.") from None

    def _at(self) -> tuple[Account, Any]:
        # Asked for each time: the local AWS may have come back on another port.
        where = self._given or account(self._settings, self._paths, deploys=False)
        if where.url not in self._clients:
            self._clients[where.url] = where.client("s3")
        return where, self._clients[where.url]


def _ensure_bucket(where: Account, client: Any) -> None:
    """On AWS the bucket is there, and who only writes logs may not look."""
    if where.url is not None:
        ensure_bucket(where, client)
