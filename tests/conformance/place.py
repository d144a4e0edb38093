"""Where the conformance suite runs, and everything that it makes there: tagged, and deleted at the end.

Plain boto3. Nothing of captioner is imported, here or in any test beside it: what holds here holds for anybody's code.
"""

from __future__ import annotations

import io
import tarfile
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

TAG = "captioner-conformance"
STEADY = ("InService", "Failed", "OutOfService", "UpdateRollbackFailed")


@dataclass
class Place:
    """An account: AWS's (`url` is None) or one that listens on `url`."""

    url: str | None
    image: str
    role: str
    bucket: str
    instance_type: str
    answer_s: float  # how long a container may take: 60 s on AWS
    wait_s: float  # how long an endpoint may take to be steady
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    _made: list[tuple[str, str]] = field(default_factory=list)
    _clients: dict[tuple[str, int], Any] = field(default_factory=dict)

    def client(self, service: str, attempts: int = 3) -> Any:
        """A client with botocore's standard retries."""
        if (service, attempts) not in self._clients:
            retries: Any = {"mode": "standard", "total_max_attempts": attempts}
            config = Config(retries=retries, read_timeout=75, s3={"addressing_style": "path"} if self.url else None)
            keys = {"region_name": "us-east-1", "aws_access_key_id": "any", "aws_secret_access_key": "thing"}
            more: dict[str, Any] = {"endpoint_url": self.url, **keys} if self.url else {}
            self._clients[service, attempts] = boto3.client(service, config=config, **more)
        return self._clients[service, attempts]

    @property
    def sagemaker(self) -> Any:
        return self.client("sagemaker")

    @property
    def tags(self) -> list[dict[str, str]]:
        return [{"Key": TAG, "Value": self.run}]

    def name(self, what: str) -> str:
        """A name of this run's own."""
        return f"conformance-{self.run}-{what}"

    # Made, and remembered

    def archive(self) -> str:
        """The URL of a model.tar.gz; its content is nothing to the container."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as tar:
            entry = tarfile.TarInfo("1/saved_model.pb")
            entry.size = 4
            tar.addfile(entry, io.BytesIO(b"tiny"))
        key = f"{TAG}/{self.run}/model.tar.gz"
        s3 = self.client("s3")
        if self.url:
            with suppress(ClientError):  # there already
                s3.create_bucket(Bucket=self.bucket)
        s3.put_object(Bucket=self.bucket, Key=key, Body=packed.getvalue())
        return f"s3://{self.bucket}/{key}"

    def model(self, what: str, **environment: str) -> str:
        name = self.name(what)
        container = {"Image": self.image, "ModelDataUrl": self.archive(), "Environment": environment}
        self.sagemaker.create_model(
            ModelName=name, PrimaryContainer=container, ExecutionRoleArn=self.role, Tags=self.tags
        )
        self._made.append(("model", name))
        return name

    def variant(self, model: str, name: str = "only", weight: float = 1.0, count: int = 1) -> dict[str, Any]:
        """One production variant of a config."""
        return {
            "VariantName": name,
            "ModelName": model,
            "InstanceType": self.instance_type,
            "InitialInstanceCount": count,
            "InitialVariantWeight": weight,
        }

    def config(self, what: str, *variants: dict[str, Any], **more: Any) -> str:
        name = self.name(what)
        self.sagemaker.create_endpoint_config(
            EndpointConfigName=name, ProductionVariants=list(variants), Tags=self.tags, **more
        )
        self._made.append(("endpoint_config", name))
        return name

    def endpoint(self, what: str, config: str) -> str:
        """Begin to create an endpoint. Call `steady` after."""
        name = self.name(what)
        self._made.append(("endpoint", name))
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config, Tags=self.tags)
        return name

    def alarm(self, what: str, endpoint: str) -> str:
        """An alarm on an endpoint's errors, which nothing but a test ever raises."""
        name = self.name(what)
        self._made.append(("alarm", name))
        self.client("cloudwatch").put_metric_alarm(
            AlarmName=name,
            Namespace="AWS/SageMaker",
            MetricName="Invocation5XXErrors",
            Dimensions=[{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": "only"}],
            Statistic="Sum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=1e9,
            ComparisonOperator="GreaterThanThreshold",
            TreatMissingData="notBreaching",
            Tags=self.tags,
        )
        return name

    # Looked at

    def steady(self, endpoint: str) -> dict[str, Any]:
        """The endpoint's description once nothing changes it any more."""

        def look() -> dict[str, Any] | None:
            found: dict[str, Any] = self.sagemaker.describe_endpoint(EndpointName=endpoint)
            return found if found["EndpointStatus"] in STEADY else None

        found: dict[str, Any] = self.until(look, f"{endpoint} to be steady")
        return found

    def in_service(self, what: str, config: str) -> str:
        """A new endpoint that answers."""
        name = self.endpoint(what, config)
        found = self.steady(name)
        assert found["EndpointStatus"] == "InService", found.get("FailureReason")
        return name

    def until(self, look: Callable[[], Any], said: str) -> Any:
        deadline = time.monotonic() + self.wait_s
        while not (value := look()):
            assert time.monotonic() < deadline, f"waited {self.wait_s:.0f} s for {said}"
            time.sleep(0.05 if self.url else 5)
        return value

    def objects(self, prefix: str) -> dict[str, bytes]:
        """The objects of the bucket below `prefix`, by key."""
        s3 = self.client("s3")
        listed = s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", [])
        return {one["Key"]: s3.get_object(Bucket=self.bucket, Key=one["Key"])["Body"].read() for one in listed}

    # Deleted

    def forget(self, kind: str, name: str) -> None:
        """A test has deleted it itself."""
        self._made.remove((kind, name))

    def clean_up(self) -> list[str]:
        """Delete everything that was made: endpoints first, for they cost by the hour. What could not be deleted."""
        left, going = [], []
        for wanted in ("endpoint", "endpoint_config", "model", "alarm"):
            for kind, name in [one for one in self._made if one[0] == wanted]:
                try:
                    self._delete(kind, name)
                    going += [name] if kind == "endpoint" else []
                except Exception as error:
                    left.append(f"{kind} {name}: {error}")
        # "Deleting" may take a while, and costs until it is over.
        for name in going:
            try:
                self.until(partial(self._is_gone, name), f"{name} to be gone")
            except Exception as error:
                left.append(f"endpoint {name}: {error}")
        try:
            for key in self.objects(f"{TAG}/{self.run}/"):
                self.client("s3").delete_object(Bucket=self.bucket, Key=key)
        except Exception as error:
            left.append(f"s3://{self.bucket}/{TAG}/{self.run}/: {error}")
        return left

    def _is_gone(self, endpoint: str) -> bool:
        try:
            self.sagemaker.describe_endpoint(EndpointName=endpoint)
        except ClientError as error:
            if "Could not find" in error.response["Error"]["Message"]:
                return True
            raise
        return False

    def _delete(self, kind: str, name: str) -> None:
        if kind == "alarm":
            self.client("cloudwatch").delete_alarms(AlarmNames=[name])
            return
        if kind == "endpoint":
            try:
                self.steady(name)
            except ClientError:
                return  # it is gone
        member = {"endpoint": "EndpointName", "endpoint_config": "EndpointConfigName", "model": "ModelName"}[kind]
        getattr(self.sagemaker, f"delete_{kind}")(**{member: name})
