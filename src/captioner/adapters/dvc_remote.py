"""``captioner data push|pull``: what dvc.lock names, to and from the DVC remote.

The remote is DVC's own configuration (``.dvc/config``: ``storage``). When it is an S3 address and says no endpoint,
``CAPTIONER_AWS`` decides where that is: the local stack's S3, with credentials that mean nothing and a bucket that is
made when it is missing, or AWS itself with yours. Knows nothing of what the data is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from captioner.errors import BadData, BadEnvironment, CaptionerError, ServiceUnavailable, WorkspaceBusy
from captioner.paths import Paths
from captioner.settings import Settings
from captioner.workspace import workspace_lock

if TYPE_CHECKING:
    from dvc.repo import Repo

T = TypeVar("T")

REGION = "us-east-1"
NOBODY = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_DEFAULT_REGION": REGION}
"""Credentials for the local stack, which checks none."""
UNSAVED = "unsaved files"  # DVC's words, under its most general exception, for files that it would overwrite


@dataclass(frozen=True)
class Moved:
    """What was moved: `files` counts DVC's objects, those that were there already left out."""

    action: str
    files: int
    remote: str
    endpoint: str | None


def push(settings: Settings, paths: Paths, endpoint_url: str | None = None) -> Moved:
    """Send what dvc.lock names to the remote. `endpoint_url` is an S3 server to use instead of the local stack's.

    Raises BadData (nothing to send, or some of it is nowhere), ServiceUnavailable, WorkspaceBusy, BadEnvironment.
    """

    def move(repo: Repo) -> int:
        files = int(repo.push())
        # DVC only warns of what its cache does not have, and calls the push a success.
        absent = repo.data_status(not_in_remote=True, remote_refresh=True)["not_in_remote"]
        if absent:
            raise BadData(
                f"{', '.join(absent)} could not be pushed: DVC's cache does not have it; run dvc repro first."
            )
        return files

    return _move("push", settings, paths, endpoint_url, move)


def pull(settings: Settings, paths: Paths, endpoint_url: str | None = None) -> Moved:
    """Fetch what dvc.lock names from the remote and lay it into the workspace.

    A file that DVC has not seen as it is now is never overwritten: BadData names it. Raises what `push` does.
    """

    def move(repo: Repo) -> int:
        return int(repo.pull()["stats"].get("fetched", 0))

    return _move("pull", settings, paths, endpoint_url, move)


def _move(
    action: str, settings: Settings, paths: Paths, endpoint_url: str | None, move: Callable[[Repo], int]
) -> Moved:
    if not (paths.root / "dvc.lock").exists():
        raise BadData("There is no dvc.lock, so there is no data to move: run dvc repro first.")
    with workspace_lock(paths, f"captioner data {action}"), _dvc_errors(action):
        name, remote = _remote(paths)
        url = remote["url"]
        if urlsplit(url).scheme != "s3" or "endpointurl" in remote:
            return Moved(action, _with_repo(paths, move), url, remote.get("endpointurl"))
        endpoint = endpoint_url or (local_s3(paths) if settings.aws == "local" else None)
        if endpoint is None:
            return Moved(action, _with_repo(paths, move), url, None)
        with _as_nobody():
            _make_bucket(endpoint, urlsplit(url).netloc)
            there = {"remote": {name: {"endpointurl": endpoint, "region": REGION}}}
            return Moved(action, _with_repo(paths, move, there), url, endpoint)


def local_s3(paths: Paths) -> str:
    """The URL of the local stack's S3. Raises ServiceUnavailable when it is not up."""
    url = paths.service_url("aws")
    if url is None:
        raise ServiceUnavailable("The local S3 is not up: start it with captioner up.")
    return url


def _with_repo(paths: Paths, use: Callable[[Repo], T], config: Mapping[str, Any] | None = None) -> T:
    """What `use` makes of the DVC repository, opened with `config` over its own."""
    from dvc.repo import Repo

    with Repo(str(paths.root), config=dict(config) if config else None) as repo:
        return use(repo)


def _remote(paths: Paths) -> tuple[str, dict[str, Any]]:
    """The default remote's name and settings."""
    config = _with_repo(paths, lambda repo: repo.config)
    name = config["core"].get("remote")
    if not name or name not in config["remote"]:
        raise BadEnvironment("DVC has no default remote here: name one with dvc remote default.")
    return str(name), dict(config["remote"][name])


@contextmanager
def _as_nobody() -> Iterator[None]:
    """With the local stack's credentials for as long as the block runs; the user's own never reach it."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(NOBODY)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _make_bucket(endpoint: str, bucket: str) -> None:
    """Make sure that the local store has the bucket. Raises ServiceUnavailable when nobody answers there."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    brief = Config(connect_timeout=5, read_timeout=30, retries={"total_max_attempts": 2})
    s3 = boto3.client("s3", endpoint_url=endpoint, region_name=REGION, config=brief)
    try:
        try:
            s3.head_bucket(Bucket=bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
                raise
            s3.create_bucket(Bucket=bucket)
    except (BotoCoreError, ClientError) as error:
        raise ServiceUnavailable(
            f"The S3 store at {endpoint} did not answer ({error}): see captioner status."
        ) from None


@contextmanager
def _dvc_errors(action: str) -> Iterator[None]:
    """DVC's errors as ours, in one sentence."""
    from dvc.exceptions import CheckoutError, DvcException, FileTransferError
    from dvc.lock import LockError

    try:
        yield
    except CaptionerError:
        raise
    except LockError as error:
        holder = " ".join(str(error).split())
        raise WorkspaceBusy(
            f"Another DVC process is at work here; try again when it has finished ({holder})."
        ) from None
    except FileTransferError as error:
        raise ServiceUnavailable(
            f"{error.amount} files could not be moved: data {action} again moves only those that are missing."
        ) from None
    except CheckoutError as error:
        first = (error.target_infos or ["?"])[0]
        raise BadData(
            f"The remote does not have all that dvc.lock names ({first}): push it where it was made, or run dvc repro."
        ) from None
    except DvcException as error:
        if UNSAVED in str(error):
            files = ", ".join(str(error).splitlines()[1:])
            raise BadData(f"Pull would replace what was changed here ({files}): move it away first.") from None
        raise BadEnvironment(f"DVC could not {action}: {' '.join(str(error).split())}.") from None
    except Exception as error:
        raise _foreign(action, error) from error


def _foreign(action: str, error: Exception) -> CaptionerError:
    """What S3's client raises through DVC (no credentials, no such bucket, refused); anything else is a bug."""
    module = type(error).__module__.partition(".")[0]
    if module in ("botocore", "aiobotocore", "aiohttp", "s3fs") or isinstance(error, OSError):
        return ServiceUnavailable(f"The DVC remote could not be used for {action}: {' '.join(str(error).split())}.")
    raise error
