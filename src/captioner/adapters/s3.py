"""Model archives in S3, each under its digest: uploaded once, never changed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from captioner.adapters.aws import Account, code
from captioner.digests import sha256_file
from captioner.errors import BadData, BadEnvironment
from captioner.progress import track

MISSING = ("404", "NoSuchKey", "NoSuchBucket", "NotFound")


def put_archive(client: Any, artifact: Path, digest: str, request: Mapping[str, str]) -> None:
    """Upload `artifact` to the Bucket and Key of `request`, whose other members go with it.

    Raises BadData when the file's SHA-256 is not `digest`.
    """
    from boto3.exceptions import S3UploadFailedError
    from boto3.s3.transfer import TransferConfig
    from botocore.exceptions import ClientError

    if sha256_file(artifact) != digest:
        raise BadData(f"{artifact} is not the model {digest[:12]} any more: its SHA-256 differs.")
    extra = {key: value for key, value in request.items() if key not in ("Bucket", "Key")}
    size = artifact.stat().st_size
    with track("upload", size, "B") as progress:
        try:
            # No threads: an interrupted upload must not go on behind its caller's back.
            client.upload_file(
                str(artifact),
                request["Bucket"],
                request["Key"],
                ExtraArgs=extra or None,
                Callback=progress.advance,
                Config=TransferConfig(use_threads=False),
            )
        except S3UploadFailedError as error:
            # boto3 hides what AWS said in a class that no other call raises.
            if isinstance(error.__context__, ClientError):
                raise error.__context__ from None
            raise


def keys_below(client: Any, bucket: str, prefix: str, after: str = "") -> list[str]:
    """The keys that start with `prefix`, sorted, those behind `after` only; none where there is no bucket."""
    from botocore.exceptions import ClientError

    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, StartAfter=after)
    try:
        return sorted(one["Key"] for page in pages for one in page.get("Contents") or [])
    except ClientError as error:
        if code(error) in MISSING:
            return []
        raise


def delete_below(client: Any, bucket: str, prefix: str) -> None:
    """Delete every object whose key starts with `prefix`."""
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        if found := [{"Key": one["Key"]} for one in page.get("Contents") or []]:
            client.delete_objects(Bucket=bucket, Delete={"Objects": found, "Quiet": True})


def ensure_bucket(where: Account, client: Any) -> None:
    """Create the bucket of the local AWS when it is missing. Raises BadEnvironment when AWS itself has none."""
    import botocore.exceptions

    try:
        client.head_bucket(Bucket=where.bucket)
    except botocore.exceptions.ClientError as error:
        if code(error) not in MISSING:
            raise
        if where.url is None:
            raise BadEnvironment(
                f"There is no bucket {where.bucket}: create it, or set CAPTIONER_AWS_BUCKET."
            ) from None
        with suppress(client.exceptions.BucketAlreadyOwnedByYou):  # another process was faster
            client.create_bucket(Bucket=where.bucket)
