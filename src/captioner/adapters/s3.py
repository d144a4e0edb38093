"""Model archives in S3, each under its digest: uploaded once, never changed."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from captioner.adapters.aws import Account, code, in_our_words
from captioner.digests import sha256_file
from captioner.errors import BadData, BadEnvironment
from captioner.progress import track


def upload(where: Account, artifact: Path, digest: str) -> str:
    """The S3 URL of `artifact`, uploaded unless it is there already.

    Raises BadData when the file's SHA-256 is not `digest`, ServiceUnavailable, BadEnvironment.
    """
    client = where.client("s3")
    key = f"models/{digest}/model.tar.gz"
    size = artifact.stat().st_size
    with in_our_words(where, f"store the model in the bucket {where.bucket}"):
        if _size(client, where.bucket, key) != size:
            if sha256_file(artifact) != digest:
                raise BadData(f"{artifact} is not the model {digest[:12]} any more: its SHA-256 differs.")
            ensure_bucket(where, client)
            with track("upload", size, "B") as progress:
                client.upload_file(str(artifact), where.bucket, key, Callback=progress.advance)
    return f"s3://{where.bucket}/{key}"


def _size(client: Any, bucket: str, key: str) -> int | None:
    import botocore.exceptions

    try:
        return int(client.head_object(Bucket=bucket, Key=key)["ContentLength"])
    except botocore.exceptions.ClientError as error:
        if code(error) in ("404", "NoSuchKey", "NoSuchBucket", "NotFound"):
            return None
        raise


def ensure_bucket(where: Account, client: Any) -> None:
    """Create the bucket of the local AWS when it is missing. Raises BadEnvironment when AWS itself has none."""
    import botocore.exceptions

    try:
        client.head_bucket(Bucket=where.bucket)
    except botocore.exceptions.ClientError as error:
        if code(error) not in ("404", "NoSuchBucket", "NotFound"):
            raise
        if where.url is None:
            raise BadEnvironment(
                f"There is no bucket {where.bucket}: create it, or set CAPTIONER_AWS_BUCKET."
            ) from None
        with suppress(client.exceptions.BucketAlreadyOwnedByYou):  # another process was faster
            client.create_bucket(Bucket=where.bucket)
