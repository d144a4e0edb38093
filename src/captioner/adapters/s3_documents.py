"""Small JSON documents in S3 that several writers share: `ports.Documents` through conditional puts.

S3 decides who wins: a put that finds the key taken, or the document changed, is refused and says so. Knows nothing of
what the documents mean.
"""

from __future__ import annotations

import json
from typing import Any

from captioner.adapters.aws import Account, Reach, code, in_our_words
from captioner.adapters.s3 import MISSING, ensure_bucket, keys_below
from captioner.errors import BadData
from captioner.paths import Paths
from captioner.ports import Document
from captioner.settings import Settings

_LOST = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


class S3Documents:
    """Documents in the bucket of the account that the settings name, or of `where`."""

    def __init__(self, settings: Settings, paths: Paths, where: Account | None = None) -> None:
        self._aws = Reach(settings, paths, where)

    def read(self, key: str) -> Document | None:
        """The document at `key`, None when there is none. Raises BadData when it is not JSON, ServiceUnavailable."""
        import botocore.exceptions

        where = self._aws.account()
        with in_our_words(where, f"read {key} in the bucket {where.bucket}"):
            try:
                found = self._aws.client(where, "s3").get_object(Bucket=where.bucket, Key=key)
            except botocore.exceptions.ClientError as error:
                if code(error) in MISSING:
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
        where = self._aws.account()
        with in_our_words(where, f"list {prefix} in the bucket {where.bucket}"):
            return keys_below(self._aws.client(where, "s3"), where.bucket, prefix)

    def _put(self, key: str, value: Any, **condition: str) -> bool:
        import botocore.exceptions

        where = self._aws.account()
        client = self._aws.client(where, "s3")
        body = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).encode()
        with in_our_words(where, f"write {key} in the bucket {where.bucket}"):
            ensure_bucket(where, client)
            try:
                client.put_object(Bucket=where.bucket, Key=key, Body=body, ContentType="application/json", **condition)
            except botocore.exceptions.ClientError as error:
                if code(error) in (*_LOST, *MISSING):  # missing: what should be replaced was deleted
                    return False
                raise
        return True
