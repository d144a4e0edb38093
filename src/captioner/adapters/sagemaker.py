"""A SageMaker endpoint through boto3: `ports.Endpoint` for the real AWS and the local one alike.

`apply` only ever moves forward in this order: new models and config, update, wait, verify what answers, then delete
what nothing refers to. Knows nothing of the registry.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from captioner.adapters.aws import Account, account, code, in_our_words, message
from captioner.adapters.s3 import upload
from captioner.adapters.sagemaker_plan import DIGEST, VERSION, Plan, base, fleet, is_config_of, is_model_of, plan
from captioner.errors import BadEnvironment, BadImage, BadInput, ServiceUnavailable
from captioner.paths import Paths
from captioner.ports import Answer, EndpointState, Variant, VariantSpec
from captioner.progress import Progress, track
from captioner.settings import Settings

STEADY = ("InService", "Failed", "OutOfService", "UpdateRollbackFailed")
MAX_IMAGE = 6_291_456  # bytes of an InvokeEndpoint body


class SageMakerEndpoint:
    """Endpoints of the account that the settings name, or of `where`."""

    def __init__(self, settings: Settings, paths: Paths, where: Account | None = None) -> None:
        self._settings, self._paths, self._given = settings, paths, where
        self._clients: dict[tuple[str | None, str], Any] = {}

    def state(self, name: str) -> EndpointState | None:
        """The endpoint as it is live, None when there is none. Raises ServiceUnavailable, BadEnvironment."""
        where = self._where()
        with in_our_words(where, f"describe the endpoint {name}"):
            found = self._describe(where, name)
            return None if found is None else self._state(where, found)

    def apply(
        self, name: str, variants: Sequence[VariantSpec], instance_type: str, instances: int, wait_s: int
    ) -> EndpointState:
        """Make the endpoint be `variants`; does nothing when it is that already. Returns what is live afterwards.

        Raises BadEnvironment when AWS refused or rolled back (the old variants then still answer), ServiceUnavailable
        when it did not answer or took longer than `wait_s` seconds, BadData when an artifact is not what its digest is.
        """
        where = self._where()
        with in_our_words(where, f"change the endpoint {name}"):
            urls = {one.digest: upload(where, one.artifact, one.digest) for one in variants}
            wanted = plan(name, variants, urls, where, instance_type, instances)
            with track("deploy", 3 + len(variants), "steps") as progress:
                return self._apply(where, name, wanted, variants, wait_s, progress)

    def _apply(
        self, where: Account, name: str, wanted: Plan, variants: Sequence[VariantSpec], wait_s: int, progress: Progress
    ) -> EndpointState:
        client = self._client(where, "sagemaker")
        live = self._wait(where, name, wait_s, progress)
        if live and live["EndpointStatus"] != "InService":
            # A failed endpoint can only be deleted.
            client.delete_endpoint(EndpointName=name)
            live = self._wait(where, name, wait_s, progress, gone=True)
        progress.advance(note="compared")
        same_fleet = live is not None and self._fleet(where, live) == fleet(wanted.config["ProductionVariants"])
        if live and same_fleet:
            if _same(_weights(live), wanted.weights):
                return self._state(where, live)
            desired = [{"VariantName": one, "DesiredWeight": weight} for one, weight in wanted.weights.items()]
            client.update_endpoint_weights_and_capacities(EndpointName=name, DesiredWeightsAndCapacities=desired)
        else:
            self._create_parts(where, wanted)
            change = client.update_endpoint if live else client.create_endpoint
            _eventually(change, EndpointName=name, EndpointConfigName=wanted.config_name)
        progress.advance(note="asked for")
        after = self._wait(where, name, wait_s, progress)
        config = live["EndpointConfigName"] if live and same_fleet else wanted.config_name
        _check_arrived(name, after, config, wanted.weights)
        assert after is not None
        progress.advance(note="in service")
        for one in variants:
            self._verify(name, one)
            progress.advance(note=f"{one.name} answers")
        self._collect(where, name)
        return self._state(where, after)

    def invoke(self, name: str, image: bytes, content_type: str, variant: str | None = None) -> Answer:
        """Ask the endpoint, or one variant of it. Raises BadImage for a picture that it refuses, BadInput,
        ServiceUnavailable, BadEnvironment."""
        import botocore.exceptions

        where = self._where()
        if len(image) > MAX_IMAGE:
            raise BadInput(f"The image has {len(image)} bytes; an endpoint takes {MAX_IMAGE} at most.")
        target = {"TargetVariant": variant} if variant else {}
        with in_our_words(where, f"ask the endpoint {name}"):
            try:
                answer = self._client(where, "sagemaker-runtime").invoke_endpoint(
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

    def _describe(self, where: Account, name: str) -> dict[str, Any] | None:
        import botocore.exceptions

        try:
            found: dict[str, Any] = self._client(where, "sagemaker").describe_endpoint(EndpointName=name)
            return found
        except botocore.exceptions.ClientError as error:
            if code(error) == "ValidationException" and "Could not find" in message(error):
                return None
            raise

    def _state(self, where: Account, found: dict[str, Any]) -> EndpointState:
        models = {one["VariantName"]: one.get("ModelName", "") for one in self._production(where, found)}
        variants = []
        for one in found.get("ProductionVariants") or []:
            environment = self._environment(where, models.get(one["VariantName"], ""))
            variants.append(
                Variant(
                    name=one["VariantName"],
                    weight=one.get("CurrentWeight", one.get("DesiredWeight", 0.0)),
                    model_version=environment.get(VERSION, ""),
                    digest=environment.get(DIGEST, ""),
                )
            )
        return EndpointState(
            name=found["EndpointName"],
            status=found["EndpointStatus"],
            config=found.get("EndpointConfigName"),
            variants=tuple(variants),
            failure=found.get("FailureReason"),
        )

    def _production(self, where: Account, found: dict[str, Any]) -> list[dict[str, Any]]:
        """The variants of the live config; empty when somebody deleted it under the endpoint."""
        import botocore.exceptions

        try:
            config = self._client(where, "sagemaker").describe_endpoint_config(
                EndpointConfigName=found["EndpointConfigName"]
            )
        except botocore.exceptions.ClientError as error:
            if code(error) == "ValidationException":
                return []
            raise
        production: list[dict[str, Any]] = config["ProductionVariants"]
        return production

    def _environment(self, where: Account, model: str) -> dict[str, str]:
        import botocore.exceptions

        try:
            found = self._client(where, "sagemaker").describe_model(ModelName=model) if model else {}
        except botocore.exceptions.ClientError as error:
            if code(error) != "ValidationException":
                raise
            found = {}
        environment: dict[str, str] = found.get("PrimaryContainer", {}).get("Environment", {})
        return environment

    def _fleet(self, where: Account, live: dict[str, Any]) -> set[tuple[Any, ...]]:
        """What runs: the live config, with the instance counts as they are now."""
        counts = {one["VariantName"]: one.get("CurrentInstanceCount") for one in live["ProductionVariants"]}
        production = self._production(where, live)
        return fleet([{**one, "InitialInstanceCount": counts.get(one["VariantName"])} for one in production])

    def _create_parts(self, where: Account, wanted: Plan) -> None:
        import botocore.exceptions

        client = self._client(where, "sagemaker")
        calls = [(client.create_model, model) for model in wanted.models]
        for call, request in [*calls, (client.create_endpoint_config, wanted.config)]:
            try:
                _eventually(call, **request)
            except botocore.exceptions.ClientError as error:
                # Names follow from content: what is there already is the same.
                if "already existing" not in message(error):
                    raise

    def _wait(
        self, where: Account, name: str, wait_s: int, progress: Progress, gone: bool = False
    ) -> dict[str, Any] | None:
        """The endpoint once it is steady, None when there is none (with `gone`: once there is none)."""
        deadline, pause, longest = time.monotonic() + wait_s, 0.1, 1.0 if where.url else 10.0
        while True:
            found = self._describe(where, name)
            if found is None or (found["EndpointStatus"] in STEADY and not gone):
                return found
            progress.advance(0, note=found["EndpointStatus"])
            if time.monotonic() > deadline:
                state = found["EndpointStatus"]
                raise ServiceUnavailable(
                    f"The endpoint {name} is still {state} after {wait_s} s; `captioner reconcile` looks again."
                )
            time.sleep(pause)
            pause = min(longest, pause * 1.5)

    def _verify(self, name: str, wanted: VariantSpec) -> None:
        """Whether the variant answers as the model that was asked for: a status says nothing of that."""
        answer = self.invoke(name, probe_image(), "image/png", variant=wanted.name)
        digest = answer.body.get("model", {}).get("digest")
        if answer.variant != wanted.name or digest != wanted.digest:
            raise BadEnvironment(
                f"The variant {wanted.name} of {name} answers as model {str(digest)[:12]}, not {wanted.digest[:12]}: "
                "the endpoint is in service with something else."
            )

    def _collect(self, where: Account, name: str) -> None:
        """Delete our configs and models that the live endpoint does not use. What is live is asked for anew."""
        client = self._client(where, "sagemaker")
        live = self._describe(where, name)
        if live is None or live["EndpointStatus"] != "InService":
            return
        used = {one.get("ModelName") for one in self._production(where, live)}
        configs = client.get_paginator("list_endpoint_configs").paginate(NameContains=f"{base(name)}-c-")
        for config in [one["EndpointConfigName"] for page in configs for one in page["EndpointConfigs"]]:
            if config != live["EndpointConfigName"] and is_config_of(name, config):
                _ignore_missing(client.delete_endpoint_config, EndpointConfigName=config)
        models = client.get_paginator("list_models").paginate(NameContains=f"{base(name)}-m-")
        for model in [one["ModelName"] for page in models for one in page["Models"]]:
            if used and model not in used and is_model_of(name, model):
                _ignore_missing(client.delete_model, ModelName=model)

    def _where(self) -> Account:
        # Asked for each time: the local AWS may have come back on another port.
        return self._given or account(self._settings, self._paths)

    def _client(self, where: Account, service: str) -> Any:
        key = (where.url, service)
        if key not in self._clients:
            self._clients[key] = where.client(service)
        return self._clients[key]


def probe_image() -> bytes:
    """A small PNG that every model can caption."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (90, 120, 150)).save(buffer, "PNG")
    return buffer.getvalue()


def _weights(live: dict[str, Any]) -> dict[str, float]:
    return {one["VariantName"]: one["CurrentWeight"] for one in live["ProductionVariants"]}


def _same(weights: dict[str, float], wanted: dict[str, float]) -> bool:
    # AWS keeps weights in single precision.
    return weights.keys() == wanted.keys() and all(abs(weights[name] - wanted[name]) < 1e-6 for name in wanted)


def _check_arrived(name: str, after: dict[str, Any] | None, config: str, weights: dict[str, float]) -> None:
    """The trap of the InService waiter: a rolled-back update is InService too, with the old config."""
    reason = ((after or {}).get("FailureReason") or "AWS gave no reason").rstrip(".")
    if after is None:
        raise BadEnvironment(f"The endpoint {name} was deleted while it was being changed.")
    if after["EndpointStatus"] != "InService":
        raise BadEnvironment(f"The endpoint {name} is {after['EndpointStatus']}: {reason}.")
    if after["EndpointConfigName"] != config or not _same(_weights(after), weights):
        raise BadEnvironment(f"The endpoint {name} was not changed, its old variants still answer: {reason}.")


def _raise_refusal(error: Any, name: str) -> None:
    """Raise what the model itself said, or that there is no such endpoint; return for any other error."""
    if code(error) == "ModelError":
        status, text = int(error.response.get("OriginalStatusCode", 0)), str(error.response.get("OriginalMessage", ""))
        with suppress(ValueError, AttributeError):
            text = json.loads(text).get("error", text)
        if 400 <= status < 500:
            raise BadImage(text) from None
        raise ServiceUnavailable(f"The model behind {name} failed ({status}): {text}") from None
    if code(error) == "ValidationError":
        raise BadInput(f"The endpoint {name} cannot be asked: {message(error)}") from None


def _eventually(call: Any, **request: Any) -> None:
    """Call until what was just created is found: AWS's reads lag behind its writes."""
    import botocore.exceptions

    for pause in (0.2, 1.0, 3.0, None):
        try:
            call(**request)
            return
        except botocore.exceptions.ClientError as error:
            if pause is None or code(error) != "ValidationException" or "Could not find" not in message(error):
                raise
            time.sleep(pause)


def _ignore_missing(delete: Any, **request: str) -> None:
    import botocore.exceptions

    try:
        delete(**request)
    except botocore.exceptions.ClientError as error:
        # Somebody else collects too.
        if "Could not find" not in message(error):
            raise
