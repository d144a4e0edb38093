"""InvokeEndpoint: picks the variant by weight or by name, asks an instance of it, and says which variant answered."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from dataclasses import dataclass

from captioner.emulator.children import HOST
from captioner.emulator.endpoints import SERVING, Endpoints
from captioner.emulator.faults import AwsError
from captioner.emulator.fleet import Fleet
from captioner.emulator.instance import Instance
from captioner.emulator.store import ACCOUNT, REGION

MAX_BODY = 6_291_456
ANSWER_S = 60.0  # SageMaker's limit for a container's answer
CUSTOM = "X-Amzn-SageMaker-Custom-Attributes"
INFERENCE_ID = "X-Amzn-SageMaker-Inference-Id"
TARGET = "X-Amzn-SageMaker-Target-Variant"
INVOKED = "x-Amzn-Invoked-Production-Variant"


@dataclass(frozen=True)
class Reply:
    """The container's answer."""

    body: bytes
    headers: list[tuple[str, str]]


def invoke(endpoints: Endpoints, name: str, headers: Mapping[str, str], body: bytes) -> Reply:
    """Answer one InvokeEndpoint. `headers` has lower-case names. Raises AwsError."""
    received = time.monotonic()
    _check_headers(headers)
    status, fleet = endpoints.serving(name)
    if status is None:
        raise AwsError("ValidationError", f"Endpoint {name} of account {ACCOUNT} not found.")
    if status not in SERVING or fleet is None:
        raise AwsError("ValidationError", f"Endpoint {name} of account {ACCOUNT} is {status}, not InService.")
    variant = _variant(fleet, name, headers.get(TARGET.lower()))
    started = time.monotonic()
    answer_status, answer_headers, answer = _ask(fleet, variant, headers, body)
    answered = time.monotonic()
    fleet.count(variant, answer_status, int((answered - started) * 1e6), int((started - received) * 1e6))
    if not 200 <= answer_status < 300:
        raise _model_error(name, answer_status, answer)
    if len(answer) > MAX_BODY:
        raise _model_error(name, 500, b"The container's answer is larger than 6291456 bytes.")
    passed = [("Content-Type", answer_headers.get("content-type", "application/octet-stream")), (INVOKED, variant)]
    passed += [(CUSTOM, answer_headers[CUSTOM.lower()])] if CUSTOM.lower() in answer_headers else []
    return Reply(answer, passed)


def _check_headers(headers: Mapping[str, str]) -> None:
    custom, inference_id = headers.get(CUSTOM.lower(), ""), headers.get(INFERENCE_ID.lower())
    if len(custom) > 1024 or not custom.isascii():
        raise AwsError("ValidationError", "CustomAttributes must be at most 1024 ASCII characters.")
    if inference_id is not None and not 1 <= len(inference_id) <= 64:
        raise AwsError("ValidationError", "InferenceId must have 1 to 64 characters.")


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


def _ask(fleet: Fleet, variant: str, headers: Mapping[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
    for _ in range(len(fleet.variants[variant].instances) + 1):
        instance = fleet.instance(variant)
        if instance is None:
            break
        try:
            return _send(instance, headers, body)
        except ConnectionRefusedError:
            continue  # it died just now: nothing was sent, so another instance may be asked
        except (OSError, http.client.HTTPException) as error:
            fleet.count(variant, 500, 0)
            raise AwsError("InternalFailure", f"The container of variant {variant} broke off: {error!r}", 500) from None
    fleet.count(variant, 503, 0)
    raise AwsError("ServiceUnavailable", f"Variant {variant} has no healthy instance at the moment.", status=503)


def _send(instance: Instance, headers: Mapping[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
    passed = {name: headers[name] for name in ("content-type", "accept", CUSTOM.lower()) if headers.get(name)}
    if INFERENCE_ID.lower() in headers:
        passed[INFERENCE_ID] = headers[INFERENCE_ID.lower()]
    with instance.lease() as port:
        connection = http.client.HTTPConnection(HOST, port, timeout=ANSWER_S)
        try:
            connection.request("POST", "/invocations", body=body, headers=passed)
            answer = connection.getresponse()
            return (
                answer.status,
                {name.lower(): value for name, value in answer.getheaders()},
                answer.read(MAX_BODY + 1),
            )
        finally:
            connection.close()


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
