"""InvokeEndpoint: picks the variant by weight or by name, asks an instance of it, and says which variant answered.

Beside the answer, and never in its way: a sampled copy for the shadow variant, and data capture.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from captioner.emulator.asking import Answer, TimedOut, ask
from captioner.emulator.capture import Capture, Exchange
from captioner.emulator.delays import ANSWER_S
from captioner.emulator.endpoints import SERVING, Endpoints
from captioner.emulator.faults import AwsError
from captioner.emulator.fleet import Fleet
from captioner.emulator.shadow import Shadows, share
from captioner.emulator.store import ACCOUNT, REGION, Resource, Store

MAX_BODY = 6_291_456
MAX_SERVERLESS_BODY = 4 << 20
CUSTOM = "X-Amzn-SageMaker-Custom-Attributes"
INFERENCE_ID = "X-Amzn-SageMaker-Inference-Id"
TARGET = "X-Amzn-SageMaker-Target-Variant"
INVOKED = "x-Amzn-Invoked-Production-Variant"
# Members that only other kinds of endpoints take: what AWS refuses must not be ignored here.
FOREIGN = {
    "X-Amzn-SageMaker-Target-Model": "TargetModel needs a multi-model endpoint",
    "X-Amzn-SageMaker-Target-Container-Hostname": "TargetContainerHostname needs a multi-container endpoint",
    "X-Amzn-SageMaker-Inference-Component": "InferenceComponentName needs an endpoint with inference components",
    "X-Amzn-SageMaker-Enable-Explanations": "EnableExplanations needs an endpoint with an ExplainerConfig",
    "X-Amzn-SageMaker-Session-Id": "SessionId needs a stateful model; it does not make a caller stick to a variant",
}


@dataclass(frozen=True)
class Reply:
    """The container's answer."""

    body: bytes
    headers: list[tuple[str, str]]


class Runtime:
    """Answers InvokeEndpoint. `answer_s` is how long a container may take."""

    def __init__(
        self, store: Store, endpoints: Endpoints, capture: Capture, shadows: Shadows, answer_s: float = ANSWER_S
    ) -> None:
        self._store, self._endpoints = store, endpoints
        self._capture, self._shadows, self._answer_s = capture, shadows, answer_s
        self._lock = threading.Lock()
        self._concurrent: dict[str, int] = {}

    def invoke(self, name: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Answer one request. `headers` has lower-case names. Raises AwsError."""
        received = time.monotonic()
        _check_headers(headers)
        endpoint = self._store.get("endpoint", name)
        status, fleet = self._endpoints.serving(name)
        if status is None or endpoint is None:
            raise AwsError("ValidationError", f"Endpoint {name} of account {ACCOUNT} not found.")
        if status not in SERVING or fleet is None:
            raise AwsError("ValidationError", f"Endpoint {name} of account {ACCOUNT} is {status}, not InService.")
        variant = _variant(fleet, name, headers.get(TARGET.lower()))
        limits = _serverless(endpoint, variant)
        largest = MAX_SERVERLESS_BODY if limits else MAX_BODY
        if len(body) > largest:
            raise AwsError("413", f"HTTP content length exceeded {largest} bytes.", status=413)
        self._mirror(endpoint, fleet, variant, headers, body)
        with self._room(name, limits):
            answer = self._ask(endpoint, fleet, variant, headers, body, bool(limits), received)
        if not 200 <= answer.status < 300:
            raise _model_error(name, answer.status, answer.body)
        if len(answer.body) > largest:
            raise _model_error(name, 500, b"The container's answer is larger than %d bytes." % largest)
        passed = [("Content-Type", answer.content_type), (INVOKED, variant)]
        passed += [(CUSTOM, answer.headers[CUSTOM.lower()])] if CUSTOM.lower() in answer.headers else []
        return Reply(answer.body, passed)

    def _ask(
        self,
        endpoint: Resource,
        fleet: Fleet,
        variant: str,
        headers: Mapping[str, str],
        body: bytes,
        serverless: bool = False,
        received: float | None = None,
    ) -> Answer:
        """The answer of an instance of `variant`, a shadow or not: counted, captured when it is a good one."""
        passed = {name: headers[name] for name in ("content-type", "accept", CUSTOM.lower()) if headers.get(name)}
        inference_id = headers.get(INFERENCE_ID.lower())
        passed |= {INFERENCE_ID: inference_id} if inference_id is not None else {}
        started = time.monotonic()
        try:
            answer = ask(fleet, variant, passed, body, self._answer_s, MAX_BODY + 1)
        except TimedOut:
            fleet.count(variant, 500, int((time.monotonic() - started) * 1e6))
            raise _model_error(endpoint["EndpointName"], 0, _TIMED_OUT) from None
        except OSError as error:
            fleet.count(variant, 500, 0)
            # As where AWS's own machine fails: 500, which every SDK's standard retries repeat.
            raise AwsError("InternalFailure", f"The container of variant {variant} broke off: {error!r}", 500) from None
        if answer is None:
            fleet.count(variant, 503, 0)
            if serverless:
                raise AwsError("ModelNotReadyException", f"Variant {variant} is still being provisioned.", status=429)
            raise AwsError("ServiceUnavailable", f"Variant {variant} has no healthy instance at the moment.", 503)
        latency, overhead = time.monotonic() - started, started - (received or started)
        fleet.count(variant, answer.status, int(latency * 1e6), int(overhead * 1e6))
        if 200 <= answer.status < 300:
            kinds = (headers.get("content-type", ""), answer.content_type)
            exchange = Exchange(endpoint["EndpointName"], variant, kinds[0], body, kinds[1], answer.body, inference_id)
            self._capture.record(endpoint.get("DataCapture"), exchange)
        return answer

    def _mirror(self, endpoint: Resource, fleet: Fleet, variant: str, headers: Mapping[str, str], body: bytes) -> None:
        for name, shadow in fleet.shadows.items():
            part = share(shadow.weight, fleet.variants[variant].weight)
            self._shadows.mirror(part, partial(self._ask, endpoint, fleet, name, headers, body))

    @contextmanager
    def _room(self, name: str, limits: Resource | None) -> Iterator[None]:
        """One of a serverless variant's MaxConcurrency places; any number of an instance's."""
        if not limits:
            yield
            return
        with self._lock:
            if self._concurrent.get(name, 0) >= limits["MaxConcurrency"]:
                raise AwsError("ThrottlingException", f"Endpoint {name} is at its MaxConcurrency; try again.")
            self._concurrent[name] = self._concurrent.get(name, 0) + 1
        try:
            yield
        finally:
            with self._lock:
                self._concurrent[name] -= 1


def _check_headers(headers: Mapping[str, str]) -> None:
    custom, inference_id = headers.get(CUSTOM.lower(), ""), headers.get(INFERENCE_ID.lower())
    if len(custom) > 1024 or not custom.isascii():
        raise AwsError("ValidationError", "CustomAttributes must be at most 1024 ASCII characters.")
    if inference_id is not None and not 1 <= len(inference_id) <= 64:
        raise AwsError("ValidationError", "InferenceId must have 1 to 64 characters.")
    for name, needs in FOREIGN.items():
        if headers.get(name.lower()):
            raise AwsError("ValidationError", f"{needs}.")


def _variant(fleet: Fleet, endpoint: str, target: str | None) -> str:
    if target is not None:
        if target not in fleet.variants:
            known = ", ".join(fleet.variants)
            raise AwsError("ValidationError", f"Variant {target} not found for endpoint {endpoint}; it has: {known}.")
        return target
    chosen = fleet.choose()
    if chosen is None:
        raise AwsError("ValidationError", f"Every variant of endpoint {endpoint} has the weight 0.")
    return chosen


def _serverless(endpoint: Resource, variant: str) -> Resource | None:
    """The ServerlessConfig of a variant, None when it has instances."""
    return next((one.get("Serverless") for one in endpoint["Variants"] if one["VariantName"] == variant), None)


def _model_error(endpoint: str, status: int, answer: bytes) -> AwsError:
    who = "client" if 400 <= status < 500 else "server"
    message = answer.decode("utf-8", "replace")[:4096]
    group = f"/aws/sagemaker/Endpoints/{endpoint}"
    return AwsError(
        "ModelError",
        f'Received {who} error ({status}) from primary with message "{message}".',
        status=424,
        OriginalStatusCode=status,
        OriginalMessage=message,
        LogStreamArn=f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}",
    )


_TIMED_OUT = (
    b"Your invocation timed out while waiting for a response from container primary. Review the latency metrics for "
    b"each container in Amazon CloudWatch, resolve the issue, and try again."
)
