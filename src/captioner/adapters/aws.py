"""The AWS that we talk to: the local one unless CAPTIONER_AWS=real. One code path: only URL and credentials differ.

The local clients are given everything explicitly, so no profile, proxy or credential of the user leads them elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any

from captioner.errors import BadEnvironment, BadParams, CaptionerError, ServiceUnavailable
from captioner.paths import Paths
from captioner.settings import Settings

LOCAL_REGION = "us-east-1"
LOCAL_ROLE = "arn:aws:iam::123456789012:role/captioner"
LOCAL_IMAGE = "local/captioner:latest"
LOCAL_BUCKET = "captioner"
SERVICE = "aws"  # its name in services.json
NOT_UP = "run `captioner up` and try again"

_REFUSED = (
    "AccessDenied",
    "ExpiredToken",
    "InvalidClientTokenId",
    "InvalidAccessKeyId",
    "Signature",
    "UnrecognizedClient",
)
_MAKING = Lock()  # a session makes one client at a time; the clients may be shared
_BUSY = ("Throttling", "ThrottlingException", "ServiceUnavailable", "InternalFailure", "SlowDown", "RequestTimeout")


@dataclass(frozen=True)
class Account:
    """Where the calls go, and what they need to know there. `url` is None for the real AWS."""

    url: str | None
    region: str | None
    role: str
    image: str
    bucket: str

    def client(self, service: str) -> Any:
        """A boto3 client. Raises BadParams when the real AWS has no region or credentials configured."""
        import boto3
        import botocore.exceptions
        from botocore.config import Config

        retries: Any = {"mode": "standard", "max_attempts": 3}
        with _MAKING:
            if self.url is None:
                try:
                    return boto3.client(
                        service, region_name=self.region, config=Config(retries=retries, read_timeout=75)
                    )
                except botocore.exceptions.BotoCoreError as error:
                    raise BadParams(f"CAPTIONER_AWS=real, but AWS is not configured: {error}.") from None
            return _local_session().client(
                service,
                endpoint_url=self.url,
                region_name=self.region,
                aws_access_key_id="local",
                aws_secret_access_key="local",
                config=Config(
                    retries=retries, connect_timeout=5, read_timeout=75, proxies={}, s3={"addressing_style": "path"}
                ),
            )

    @property
    def called(self) -> str:
        """What error messages call it."""
        return f"the local AWS at {self.url}" if self.url else "AWS"


@cache
def _local_session() -> Any:
    """One for all local clients: each session reads boto3's descriptions of AWS, megabytes of JSON, again."""
    import boto3
    import botocore.session

    # (variable in a config file, in the environment, default, conversion): no profile, no files of the user's.
    nothing = {"profile": None, "config_file": os.devnull, "credentials_file": os.devnull}
    session = botocore.session.Session(session_vars={name: (None, None, to, None) for name, to in nothing.items()})
    return boto3.session.Session(botocore_session=session)


def account(settings: Settings, paths: Paths) -> Account:
    """The account of these settings. Raises ServiceUnavailable when the local AWS was not started, BadParams."""
    if settings.aws == "local":
        return Account(_local_url(paths), LOCAL_REGION, LOCAL_ROLE, LOCAL_IMAGE, LOCAL_BUCKET)
    needed = {
        "CAPTIONER_AWS_ROLE": settings.aws_role,
        "CAPTIONER_AWS_IMAGE": settings.aws_image,
        "CAPTIONER_AWS_BUCKET": settings.aws_bucket,
    }
    missing = [name for name, value in needed.items() if not value]
    if missing:
        raise BadParams(f"CAPTIONER_AWS=real also needs {', '.join(missing)} (see README, configuration).")
    role, image, bucket = (str(value) for value in needed.values())
    return Account(None, None, role, image, bucket)


class Reach:
    """The account of these settings, or `given`, and its clients: each is made once."""

    def __init__(self, settings: Settings, paths: Paths, given: Account | None = None) -> None:
        self._settings, self._paths, self._given = settings, paths, given
        self._clients: dict[tuple[str | None, str], Any] = {}

    def account(self) -> Account:
        """Asked for at each call: the local AWS may have come back on another port. Raises as `account` does."""
        return self._given or account(self._settings, self._paths)

    def client(self, where: Account, service: str) -> Any:
        """The client for `service` at `where`. Raises as `Account.client` does."""
        key = (where.url, service)
        if key not in self._clients:
            self._clients[key] = where.client(service)
        return self._clients[key]

    def clients(self, where: Account) -> Callable[[str], Any]:
        """The clients at `where`, by service."""
        return lambda service: self.client(where, service)


def asking_account(settings: Settings, paths: Paths) -> Account:
    """The account of whoever asks endpoints and deploys nothing: on AWS it needs a bucket only. Raises as `account`."""
    if settings.aws == "local":
        return account(settings, paths)
    if not settings.aws_bucket:
        raise BadParams("CAPTIONER_AWS=real also needs CAPTIONER_AWS_BUCKET (see README, configuration).")
    return Account(None, None, "", "", settings.aws_bucket)


def _local_url(paths: Paths) -> str:
    url = paths.service_url(SERVICE)
    if url is None:
        raise ServiceUnavailable(f"The local AWS is not up: {NOT_UP}.")
    return url


@contextmanager
def in_our_words(where: Account, doing: str) -> Iterator[None]:
    """Translate botocore's errors. `doing` completes the sentence "AWS refused to …"."""
    import botocore.exceptions

    try:
        yield
    except botocore.exceptions.ClientError as error:
        raise _translated(error, where, doing) from None
    except botocore.exceptions.NoCredentialsError:
        raise BadEnvironment("There are no AWS credentials: configure them, or unset CAPTIONER_AWS.") from None
    except (botocore.exceptions.HTTPClientError, botocore.exceptions.ConnectionError) as error:
        advice = NOT_UP if where.url else "check the network and try again"
        raise ServiceUnavailable(
            f"{_capital(where.called)} does not answer ({_first_line(error)}): {advice}."
        ) from None
    except botocore.exceptions.BotoCoreError as error:
        raise BadEnvironment(f"{_capital(where.called)} could not be asked to {doing}: {_first_line(error)}.") from None


def code(error: Any) -> str:
    """The error code of a botocore ClientError."""
    return str(error.response.get("Error", {}).get("Code", ""))


def message(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Message", error))


def _translated(error: Any, where: Account, doing: str) -> CaptionerError:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    said = _first_line(message(error))
    if code(error).startswith(_REFUSED):
        return BadEnvironment(f"AWS does not let these credentials {doing}: {said}.")
    if code(error) in _BUSY or status >= 500:
        return ServiceUnavailable(f"{_capital(where.called)} could not {doing} just now: {said}.")
    if "in-progress" in said:
        return ServiceUnavailable(f"Somebody else is changing the endpoint; try again when they are done: {said}.")
    return BadEnvironment(f"{_capital(where.called)} refused to {doing}: {said}.")


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _first_line(error: object) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")
