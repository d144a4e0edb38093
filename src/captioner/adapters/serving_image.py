"""The serving image, from the Dockerfile to the repository: built, pushed once under a tag that says what is in it.

The local SageMaker runs the same program without any image, so with ``CAPTIONER_AWS=local`` it is built and stays here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from captioner import __version__
from captioner.adapters.aws import LOCAL_IMAGE
from captioner.adapters.docker_client import Docker
from captioner.adapters.ecr import TAKEN, Repository
from captioner.errors import BadEnvironment, BadParams
from captioner.lineage import git_state
from captioner.paths import Paths
from captioner.settings import Settings

TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True)
class ImageReport:
    """What was made. `digest` is the repository's, None for an image that was only built here."""

    image: str
    commit: str
    digest: str | None
    built: bool
    pushed: bool

    def render(self) -> str:
        """For a terminal."""
        if self.digest is None:
            return f"{self.image}: built; the local SageMaker needs no image, so it was not pushed anywhere"
        how = "built and pushed" if self.pushed else "in the repository already, nothing to do"
        return f"{self.image}: {how}\n  {self.digest}\n  deploy with it: export CAPTIONER_AWS_IMAGE={self.image}"


def publish(settings: Settings, paths: Paths, tag: str | None = None) -> ImageReport:
    """Build the image of this checkout and, unless CAPTIONER_AWS is local, push it to CAPTIONER_AWS_IMAGE's repository.

    Without `tag` it is named after the commit. Raises BadParams (no repository named, a bad tag, changes that no commit
    has), BadEnvironment (no docker, no repository, a build that failed), ServiceUnavailable.
    """
    tag, commit = _tag(paths.root, tag)
    labels = {"org.opencontainers.image.revision": commit or "unknown", "org.opencontainers.image.version": __version__}
    if settings.aws == "local":
        image = f"{LOCAL_IMAGE.rpartition(':')[0]}:{tag}"
        Docker().build(paths.root, image, labels)
        return ImageReport(image, commit, None, built=True, pushed=False)
    if not settings.aws_image:
        raise BadParams("CAPTIONER_AWS=real also needs CAPTIONER_AWS_IMAGE: the repository's URI (docs/aws.md).")
    repository = Repository(settings.aws_image)
    image = repository.uri(tag)
    there = repository.find(tag)
    if there:
        return ImageReport(image, commit, there.digest, built=False, pushed=False)
    docker = Docker()
    docker.build(paths.root, image, labels)
    docker.login(repository.registry, *repository.credentials())
    docker.push(image)
    there = repository.find(tag)
    if there is None:
        raise BadEnvironment(f"docker pushed {image}, but the repository does not have it: look at its credentials.")
    if there.media_type not in (None, TAKEN):
        raise BadEnvironment(
            f"{image} was pushed as {there.media_type}, and SageMaker takes {TAKEN} only: "
            "push it with another version of docker, under another --tag."
        )
    return ImageReport(image, commit, there.digest, built=True, pushed=True)


def _tag(root: Path, given: str | None) -> tuple[str, str]:
    """The tag, and the commit that is checked out ("" outside a repository)."""
    state = git_state(root)
    if given is not None:
        if not TAG.fullmatch(given):
            raise BadParams(f"{given!r} is not a tag: letters, digits, '_', '.' and '-', 128 at most.")
        return given, state.sha
    if not state.sha:
        raise BadParams("There is no git commit to name the image after: give --tag.")
    if state.dirty:
        raise BadParams("This checkout has changes that no commit has: commit them, or give --tag.")
    return f"{__version__}-{state.sha[:12]}", state.sha
