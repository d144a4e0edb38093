"""Asking an endpoint through boto3: all that a router needs of SageMaker, without what deploys models."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from captioner.adapters.aws import Account, Reach, code, in_our_words, message
from captioner.adapters.sagemaker_live import describe
from captioner.errors import BadEnvironment, BadImage, BadInput, ServiceUnavailable
from captioner.paths import Paths
from captioner.ports import Answer
from captioner.settings import Settings

MAX_IMAGE = 6_291_456  # bytes of an InvokeEndpoint body


class SageMakerRuntime:
    """`ports.Runtime` of the account that the settings name, or of `where`."""

    def __init__(self, settings: Settings, paths: Paths, where: Account | None = None) -> None:
        self._aws = Reach(settings, paths, where)

    def status(self, name: str) -> str | None:
        """The endpoint's status, None when there is no such endpoint. Raises ServiceUnavailable, BadEnvironment."""
        where = self._aws.account()
        with in_our_words(where, f"describe the endpoint {name}"):
            found = describe(self._aws.clients(where), name)
        return str(found["EndpointStatus"]) if found else None

    def invoke(
        self, name: str, image: bytes, content_type: str, variant: str | None = None, inference_id: str | None = None
    ) -> Answer:
        """Ask the endpoint, or one variant of it. Raises BadImage for a picture that it refuses, BadInput,
        ServiceUnavailable, BadEnvironment."""
        import botocore.exceptions

        where = self._aws.account()
        if len(image) > MAX_IMAGE:
            raise BadInput(f"The image has {len(image)} bytes; an endpoint takes {MAX_IMAGE} at most.")
        target = {"TargetVariant": variant} if variant else {}
        if inference_id:
            target["InferenceId"] = inference_id
        with in_our_words(where, f"ask the endpoint {name}"):
            try:
                answer = self._aws.client(where, "sagemaker-runtime").invoke_endpoint(
                    EndpointName=name, Body=image, ContentType=content_type, Accept="application/json", **target
                )
                body = json.loads(answer["Body"].read())
            except botocore.exceptions.ClientError as error:
                _raise_refusal(error, name)
                raise
            except ValueError:
                raise BadEnvironment(
                    f"The endpoint {name} did not answer with JSON: it serves something else."
                ) from None
        return Answer(answer["InvokedProductionVariant"], body)


def _raise_refusal(error: Any, name: str) -> None:
    """Raise what the model itself said, or that there is no such endpoint; return for any other error."""
    if code(error) == "ModelError":
        status, text = int(error.response.get("OriginalStatusCode", 0)), str(error.response.get("OriginalMessage", ""))
        with suppress(ValueError, AttributeError):
            text = json.loads(text).get("error", text)
        if status == 429:  # its queue is full: nothing is wrong with the picture
            raise ServiceUnavailable(f"The model behind {name} is busy: {text}") from None
        if 400 <= status < 500:
            raise BadImage(text) from None
        raise ServiceUnavailable(f"The model behind {name} failed ({status}): {text}") from None
    if code(error) == "ModelNotReadyException":
        raise ServiceUnavailable(f"The model behind {name} is not ready: {message(error)}") from None
    if code(error) == "ValidationError":
        raise BadInput(f"The endpoint {name} cannot be asked: {message(error)}") from None
