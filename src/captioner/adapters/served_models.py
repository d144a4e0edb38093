"""What stands behind an endpoint's variants, and what data capture kept of its answers: `ports.Served`, read only.

Data capture's layout is SageMaker's: ``PREFIX/ENDPOINT/VARIANT/yyyy/mm/dd/hh/*.jsonl``. Knows nothing of the registry.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlparse

from captioner.adapters.aws import Account, Reach, code, in_our_words, message
from captioner.adapters.s3 import MISSING, keys_below
from captioner.errors import BadInput
from captioner.paths import Paths
from captioner.ports import Captured, CapturedRequest, LiveModel
from captioner.progress import track
from captioner.release.names import CAPTURE, DIGEST, VERSION, archive_key
from captioner.settings import Settings


class ServedModels:
    """Endpoints of the account that the settings name, or of `where`."""

    def __init__(self, settings: Settings, paths: Paths, where: Account | None = None) -> None:
        self._aws = Reach(settings, paths, where)

    def models(self, endpoint: str) -> Sequence[LiveModel]:
        """The model behind each variant of `endpoint` as it is live; empty when there is no endpoint."""
        where = self._aws.account()
        with in_our_words(where, f"describe the endpoint {endpoint}"):
            client = self._aws.client(where, "sagemaker")
            found = _asked(client.describe_endpoint, EndpointName=endpoint)
            name = (found or {}).get("EndpointConfigName", "")
            config = _asked(client.describe_endpoint_config, EndpointConfigName=name) if name else None
            variants = [one for kind in ("", "Shadow") for one in (config or {}).get(f"{kind}ProductionVariants") or []]
            return [self._model(client, one) for one in variants]

    def captured(self, endpoint: str, inference_id: str) -> Captured | None:
        """The captured inference with this id, the newest hours first; None when there is none.

        Raises BadInput when nothing was ever captured of the endpoint.
        """
        neither = f", so {inference_id!r} cannot be looked up: it is neither an endpoint nor a variant"
        for variant, place, body in self._files(endpoint, neither):
            if inference_id.encode() not in body:
                continue  # pictures are large, and none of them need be read as JSON
            for record in _records(body, {inference_id}):
                return _captured(record, inference_id, variant, place)
        return None

    def requests(self, endpoint: str, inference_ids: Collection[str]) -> Iterator[CapturedRequest]:
        """What these inferences asked for, the newest first; some may never have been captured, or no more be there.

        Raises BadInput when nothing was ever captured of the endpoint.
        """
        wanted = set(inference_ids)
        for _, _, body in self._files(endpoint):
            for record in _records(body, wanted):
                given = record.get("captureData", {}).get("endpointInput")
                if given is not None:
                    wanted.discard(found := record["eventMetadata"]["inferenceId"])
                    yield CapturedRequest(found, given.get("observedContentType", ""), _bytes(given))
            if not wanted:
                return

    def _files(self, endpoint: str, so: str = "") -> Iterator[tuple[str, str, bytes]]:
        """What was captured of `endpoint`, the newest hours first: variant, place and lines of each file."""
        where = self._aws.account()
        with in_our_words(where, f"read what was captured of {endpoint}"):
            described = _asked(self._aws.client(where, "sagemaker").describe_endpoint, EndpointName=endpoint) or {}
            # Where deploy lets it go, when the live config no longer says.
            target = described.get("DataCaptureConfig", {}).get("DestinationS3Uri") or f"s3://{where.bucket}/{CAPTURE}"
            place = urlparse(str(target))
            prefix = f"{place.path.strip('/')}/{endpoint}/".lstrip("/")
            client = self._aws.client(where, "s3")
            written = (key for key in keys_below(client, place.netloc, prefix) if key.endswith(".jsonl"))
            keys = sorted(written, key=_hour, reverse=True)
            if not keys:
                raise BadInput(
                    f"Nothing was captured of {endpoint} ({target}){so}. Data capture is switched on in params.yaml "
                    "(deploy)."
                )
            with track("captured data", len(keys), "files") as progress:
                for key in keys:
                    body = client.get_object(Bucket=place.netloc, Key=key)["Body"].read()
                    progress.advance()
                    yield key[len(prefix) :].split("/")[0], f"s3://{place.netloc}/{key}", body

    def archive(self, digest: str) -> str | None:
        """Where the artifact with this SHA-256 lies in S3, None when it is not there."""
        import botocore.exceptions

        where = self._aws.account()
        key = archive_key(digest)
        with in_our_words(where, f"look for {key} in the bucket {where.bucket}"):
            try:
                self._aws.client(where, "s3").head_object(Bucket=where.bucket, Key=key)
            except botocore.exceptions.ClientError as error:
                if code(error) in MISSING:
                    return None
                raise
        return f"s3://{where.bucket}/{key}"

    def _model(self, client: Any, variant: Mapping[str, Any]) -> LiveModel:
        name = variant.get("ModelName", "")
        found = (_asked(client.describe_model, ModelName=name) if name else None) or {}
        container = found.get("PrimaryContainer", {})
        environment = container.get("Environment", {})
        return LiveModel(
            variant=variant["VariantName"],
            model=name,
            exists=bool(found),
            image=container.get("Image", ""),
            url=container.get("ModelDataUrl", ""),
            version=environment.get(VERSION, ""),
            digest=environment.get(DIGEST, ""),
        )


def _asked(call: Any, **request: str) -> dict[str, Any] | None:
    """What a Describe call says, None when there is no such thing."""
    import botocore.exceptions

    try:
        found: dict[str, Any] = call(**request)
        return found
    except botocore.exceptions.ClientError as error:
        if code(error) == "ValidationException" and "Could not find" in message(error):
            return None
        raise


def _hour(key: str) -> list[str]:
    """yyyy/mm/dd/hh and the file's name: what is newest, whatever the variant."""
    return key.split("/")[-5:]


def _records(body: bytes, inference_ids: Collection[str]) -> Iterator[Mapping[str, Any]]:
    for line in body.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue  # a line that is none of data capture's is not what is looked for
        if isinstance(record, Mapping) and record.get("eventMetadata", {}).get("inferenceId") in inference_ids:
            yield record


def _bytes(part: Mapping[str, Any]) -> bytes:
    data = str(part.get("data", ""))
    return base64.b64decode(data) if part.get("encoding") == "BASE64" else data.encode()


def _captured(record: Mapping[str, Any], inference_id: str, variant: str, place: str) -> Captured:
    output = record.get("captureData", {}).get("endpointOutput")
    answer: Any = None
    if output is not None:
        try:
            answer = json.loads(_bytes(output))
        except ValueError:
            answer = None  # a container that answers otherwise
    answer = answer if isinstance(answer, Mapping) else None
    return Captured(inference_id, variant, str(record["eventMetadata"].get("inferenceTime", "")), place, answer)
