"""Append-only logs of JSON lines in S3: `ports.Events` as objects by the hour that nobody writes over.

``KIND/NAME/YYYY/MM/DD/HH/WRITER-NUMBER.jsonl``, the hour (UTC) being the one that an object was written in. A writer
is one process, its numbers grow. Lines whose writing failed after all may lie there twice when they are written again:
whoever reads them knows them by their ids. Knows nothing of what a line means.
"""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

from captioner.adapters.aws import Account, Reach, in_our_words
from captioner.adapters.s3 import ensure_bucket, keys_below
from captioner.errors import BadData
from captioner.paths import Paths
from captioner.settings import Settings

SKEW = timedelta(minutes=5)  # that the clock of a writer may be behind
READERS = 10  # as many connections as a client keeps


class S3Events:
    """Logs in the bucket of the account that the settings name, or of `where`."""

    def __init__(
        self,
        settings: Settings,
        paths: Paths,
        where: Account | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._aws, self._now = Reach(settings, paths, where), now
        self._writer, self._numbers = uuid.uuid4().hex[:12], itertools.count(1)

    def write(self, kind: str, name: str, lines: Sequence[Mapping[str, Any]]) -> str:
        """Write `lines` as one new object and return its key. Raises ServiceUnavailable: then nothing was written."""
        where = self._aws.account()
        client = self._aws.client(where, "s3")
        key = f"{kind}/{name}/{self._now():%Y/%m/%d/%H/%M%S}-{self._writer}-{next(self._numbers):06d}.jsonl"
        body = "".join(json.dumps(line, ensure_ascii=False, sort_keys=True) + "\n" for line in lines).encode()
        with in_our_words(where, f"write {key} in the bucket {where.bucket}"):
            ensure_bucket(where, client)
            client.put_object(Bucket=where.bucket, Key=key, Body=body, ContentType="application/x-ndjson")
        return key

    def keys(self, kind: str, name: str, since: datetime) -> list[str]:
        """The keys of what was written from `since` on, and a little before, oldest first."""
        where = self._aws.account()
        prefix = f"{kind}/{name}/"
        first = f"{prefix}{since.astimezone(UTC) - SKEW:%Y/%m/%d/%H/%M%S}"  # keys sort by time
        with in_our_words(where, f"list {prefix} in the bucket {where.bucket}"):
            return keys_below(self._aws.client(where, "s3"), where.bucket, prefix, after=first)

    def lines(self, keys: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
        """The lines of each object, several being fetched at a time. Raises BadData when they are no JSON."""
        where = self._aws.account()
        client = self._aws.client(where, "s3")

        def fetched(key: str) -> list[dict[str, Any]]:
            with in_our_words(where, f"read {key} in the bucket {where.bucket}"):
                body = client.get_object(Bucket=where.bucket, Key=key)["Body"].read()
            try:
                return [json.loads(line) for line in body.splitlines()]
            except ValueError:
                raise BadData(f"s3://{where.bucket}/{key} holds a line that is not JSON: it is not ours.") from None

        with ThreadPoolExecutor(READERS) as pool:
            yield from pool.map(fetched, keys)
