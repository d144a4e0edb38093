"""Small JSON documents in S3 that several writers share: `ports.Documents` through conditional puts.

S3 decides who wins: a put that finds the key taken, or the document changed, is refused and says so. Knows nothing of
what the documents mean.
"""

from __future__ import annotations

import json
from typing import Any

from captioner.adapters.aws import Account, account, code, in_our_words
from captioner.adapters.s3 import ensure_bucket
from captioner.errors import BadData
from captioner.paths import Paths
from captioner.ports import Document
from captioner.settings import Settings

_LOST = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
_MISSING = ("404", "NoSuchKey", "NoSuchBucket", "NotFound")


class S3Documents:
    """Documents in the bucket of the account that the settings name, or of `where`."""

    def __init__(self, settings: Settings, paths: Paths, where: Account | None = None) -> None:
        self._settings, self._paths, self._given = settings, paths, where
        self._clients: dict[str | None, Any] = {}

    def read(self, key: str) -> Document | None:
        """The document at `key`, None when there is none. Raises BadData when it is not JSON, ServiceUnavailable."""
        import botocore.exceptions

        where = self._where()
        with in_our_words(where, f"read {key} in the bucket {where.bucket}"):
            try:
                found = self._client(where).get_object(Bucket=where.bucket, Key=key)
            except botocore.exceptions.ClientError as error:
                if code(error) in _MISSING:
                    return None
                raise
            body = found["Body"].read()
        try:
            return Document(json.loads(body), found["ETag"])
        except ValueError:
            raise BadData(f"s3://{where.bucket}/{key} is not JSON: somebody else wrote it.") from None

    def create(self, key: str, value: Any) -> bool:
        """Write a new document. False when there is one at `key` already: nothing was changed."""
        return self._put(key, value, IfNoneMatch="*")

    def replace(self, key: str, value: Any, tag: str) -> bool:
        """Write over the document that was read with `tag`. False when it is another by now: nothing was changed."""
        return self._put(key, value, IfMatch=tag)

    def keys(self, prefix: str) -> list[str]:
        """The keys that start with `prefix`, sorted."""
        import botocore.exceptions

        where = self._where()
        with in_our_words(where, f"list {prefix} in the bucket {where.bucket}"):
            pages = self._client(where).get_paginator("list_objects_v2").paginate(Bucket=where.bucket, Prefix=prefix)
            try:
                return sorted(one["Key"] for page in pages for one in page.get("Contents") or [])
            except botocore.exceptions.ClientError as error:
                if code(error) in _MISSING:
                    return []
                raise

    def _put(self, key: str, value: Any, **condition: str) -> bool:
        import botocore.exceptions

        where = self._where()
        client = self._client(where)
        body = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).encode()
        with in_our_words(where, f"write {key} in the bucket {where.bucket}"):
            ensure_bucket(where, client)
            try:
                client.put_object(Bucket=where.bucket, Key=key, Body=body, ContentType="application/json", **condition)
            except botocore.exceptions.ClientError as error:
                if code(error) in (*_LOST, *_MISSING):  # missing: what should be replaced was deleted
                    return False
                raise
        return True

    def _client(self, where: Account) -> Any:
        if where.url not in self._clients:  # making one takes longer than a call
            self._clients[where.url] = where.client("s3")
        return self._clients[where.url]

    def _where(self) -> Account:
        # Asked for each time: the local AWS may have come back on another port.
        return self._given or account(self._settings, self._paths, deploys=False)
