"""An endpoint as routers ask it: `ports.Inference` through boto3, for the real AWS and the local one alike.

One question is one call: no retries here, for only the router knows how much time is left and who else could answer.
"""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from typing import Any

from captioner.adapters.aws import Account, account, code, in_our_words, message
from captioner.adapters.sagemaker_live import missing
from captioner.errors import BadEnvironment, BadImage, BadInput, ModelUnavailable
from captioner.paths import Paths
from captioner.ports import Answer, Question
from captioner.settings import Settings

CONNECT_S, READ_S = 2.0, 25.0
CONNECTIONS = 64
_AGAIN = (
    "InternalDependencyException",
    "InternalFailure",
    "ModelNotReadyException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
)


class SageMakerInference:
    """Endpoints of the account that the settings name, or of `where`. Threads may share it."""

    def __init__(self, settings: Settings, paths: Paths, where: Account | None = None) -> None:
        self._settings, self._paths, self._given = settings, paths, where
        self._clients: dict[tuple[str | None, str], Any] = {}
        self._lock = threading.Lock()

    def ask(self, name: str, question: Question) -> Answer:
        """The answer to `question`. Raises BadImage, BadInput, ModelUnavailable, BadEnvironment."""
        import botocore.exceptions

        request: dict[str, Any] = {"Body": question.body, "ContentType": question.content_type}
        request |= {"Accept": "application/json", "InferenceId": question.id}
        request |= {"TargetVariant": question.variant} if question.variant else {}
        request |= {"CustomAttributes": question.trace} if question.trace else {}
        where = self._where()
        client = self._client(where, "sagemaker-runtime")
        with in_our_words(where, f"ask the endpoint {name}"):
            try:
                answer = client.invoke_endpoint(EndpointName=name, **request)
                body = json.loads(answer["Body"].read())
            except botocore.exceptions.ClientError as error:
                raise_in_our_words(error, name, question.variant)
                raise
            except botocore.exceptions.ReadTimeoutError:
                raise ModelUnavailable(f"{_called(name, question.variant)} did not answer in time.") from None
            except (botocore.exceptions.HTTPClientError, botocore.exceptions.ConnectionError) as error:
                broke = f"{_called(name, question.variant)} cannot be reached ({type(error).__name__})."
                raise ModelUnavailable(broke, again=True) from None
            except ValueError:
                raise ModelUnavailable(f"{_called(name, question.variant)} did not answer with JSON.") from None
        if not isinstance(body, dict) or not isinstance(body.get("caption"), str):
            raise ModelUnavailable(f"{_called(name, question.variant)} answered without a caption.")
        return Answer(answer["InvokedProductionVariant"], body)

    def status(self, name: str) -> str | None:
        """The endpoint's status, None when there is no such endpoint. Raises ServiceUnavailable, BadEnvironment."""
        import botocore.exceptions

        where = self._where()
        with in_our_words(where, f"describe the endpoint {name}"):
            try:
                found = self._client(where, "sagemaker").describe_endpoint(EndpointName=name)
            except botocore.exceptions.ClientError as error:
                if missing(error):
                    return None
                raise
        return str(found["EndpointStatus"])

    def _where(self) -> Account:
        # Asked for each time: the local AWS may have come back on another port.
        return self._given or account(self._settings, self._paths, deploys=False)

    def _client(self, where: Account, service: str) -> Any:
        key, once = (where.url, service), {"total_max_attempts": 1, "mode": "standard"}
        with self._lock:  # a client may be shared, making one may not
            if key not in self._clients:
                times = {"connect_timeout": CONNECT_S, "read_timeout": READ_S}
                self._clients[key] = where.client(service, retries=once, max_pool_connections=CONNECTIONS, **times)
            return self._clients[key]


def raise_in_our_words(error: Any, name: str, variant: str | None) -> None:
    """Raise who was at fault: the picture, or the variant that was asked. Return for whatever else AWS refused."""
    kind, who = code(error), _called(name, variant)
    if kind == "ModelError":
        status, text = int(error.response.get("OriginalStatusCode", 0)), str(error.response.get("OriginalMessage", ""))
        with suppress(ValueError, AttributeError):
            text = json.loads(text).get("error", text)
        if status in (429, 503):  # its queue is full, or the request waited too long in it
            raise ModelUnavailable(f"{who} is busy: {text}", again=True) from None
        if 400 <= status < 500:
            raise BadImage(text) from None
        raise ModelUnavailable(f"{who} failed ({status or 'timeout'}).") from None
    if kind == "413":
        raise BadInput("The picture is larger than an endpoint takes: scale it down.") from None
    if (
        kind == "ValidationError"
    ):  # no such variant or endpoint, or one that is not in service: requests are well formed
        raise ModelUnavailable(f"{who} cannot be asked: {message(error)}") from None
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if kind in _AGAIN or status >= 500:
        raise ModelUnavailable(f"{who} is not ready: {message(error)}", again=True) from None
    if status in (401, 403):
        raise BadEnvironment(f"AWS does not let these credentials ask {name}: {message(error)}") from None


def _called(name: str, variant: str | None) -> str:
    return f"The variant {variant} of {name}" if variant else f"The endpoint {name}"
