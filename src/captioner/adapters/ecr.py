"""One image repository in ECR: how to log in to it, and what it holds under a tag. Knows nothing of docker."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Any

from captioner.adapters.aws import Account, code, in_our_words
from captioner.errors import BadEnvironment, BadParams

_URI = re.compile(r"^((\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?)/([a-z0-9][a-z0-9._/-]*)(?::[^/]*)?$")
TAKEN = "application/vnd.docker.distribution.manifest.v2+json"
"""The only kind of manifest that SageMaker's CreateModel takes."""


@dataclass(frozen=True)
class Pushed:
    """An image in the repository: ``sha256:…``, its size there in bytes, and its manifest's media type."""

    digest: str
    size: int | None
    media_type: str | None


class Repository:
    """The repository that an image URI lies in; a tag or digest at the URI's end does not matter. Raises BadParams."""

    def __init__(self, uri: str) -> None:
        found = _URI.match(uri.partition("@")[0])
        if not found:
            raise BadParams(
                f"CAPTIONER_AWS_IMAGE is {uri!r}, which is no image in ECR: "
                "it is ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME, with or without a tag."
            )
        self.registry, self._account, region, self.name = found.groups()
        self._where = Account(None, region, "", uri, "")  # the URI says which region, whatever the user's default is
        self._client: Any = None

    def uri(self, tag: str) -> str:
        return f"{self.registry}/{self.name}:{tag}"

    def credentials(self) -> tuple[str, str]:
        """User and password for `registry`, good for twelve hours. Raises BadEnvironment, ServiceUnavailable."""
        with in_our_words(self._where, f"let us log in to {self.registry}"):
            (data,) = self._ecr().get_authorization_token()["authorizationData"]
        user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
        return user, password

    def find(self, tag: str) -> Pushed | None:
        """What is there under `tag`, None when nothing is. Raises BadEnvironment when there is no such repository."""
        import botocore.exceptions

        with in_our_words(self._where, f"look into the repository {self.name}"):
            try:
                answer = self._ecr().describe_images(
                    registryId=self._account, repositoryName=self.name, imageIds=[{"imageTag": tag}]
                )
            except botocore.exceptions.ClientError as error:
                if code(error) == "ImageNotFoundException":
                    return None
                if code(error) == "RepositoryNotFoundException":
                    raise BadEnvironment(
                        f"{self.registry} has no repository {self.name}: infra/base.yaml makes one (docs/aws.md)."
                    ) from None
                raise
        one = answer["imageDetails"][0]
        return Pushed(one["imageDigest"], one.get("imageSizeInBytes"), one.get("imageManifestMediaType"))

    def _ecr(self) -> Any:
        if self._client is None:
            self._client = self._where.client("ecr")
        return self._client
