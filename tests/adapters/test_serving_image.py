"""`captioner deploy image`, run as a user runs it, against moto's ECR.

There is no Docker engine here, so `docker` on the PATH is a program that notes how it was called; on `push` it puts an
image into ECR, as the real one would by way of the registry. A user has the real one.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from captioner import __version__
from captioner.adapters.ecr import TAKEN
from captioner.cli import main
from tests.moto_server import moto_server

REGISTRY = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}

DOCKER = f"""#!{sys.executable}
import json, os, sys
import boto3

arguments = sys.argv[1:]
given = sys.stdin.read() if "--password-stdin" in arguments else None
with open(os.environ["DOCKER_LOG"], "a") as log:
    log.write(json.dumps([arguments, given]) + "\\n")
if arguments[0] == os.environ.get("DOCKER_FAILS"):
    sys.exit("docker: it does not work today")
if arguments[0] == "push" and not os.environ.get("DOCKER_LOSES"):
    registry, _, rest = arguments[1].partition("/")
    name, _, tag = rest.partition(":")
    kind = os.environ.get("DOCKER_MEDIA_TYPE", "{TAKEN}")
    layer = {{"digest": "sha256:" + "b" * 64, "size": 7, "mediaType": "x"}}
    manifest = {{"schemaVersion": 2, "mediaType": kind, "config": layer, "layers": [layer]}}
    boto3.client("ecr", region_name=registry.split(".")[3]).put_image(
        repositoryName=name, imageTag=tag, imageManifest=json.dumps(manifest), imageManifestMediaType=kind
    )
"""


class World:
    """A committed project, a docker that notes its calls, and an account with a repository."""

    def __init__(self, project: Path, place: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.project, self.place, self.url, self._monkeypatch = project, place, url, monkeypatch
        self.log = place / "docker.log"
        git(project, "init", "-q")
        git(project, "add", "-A")
        git(project, "commit", "-qm", "all")
        self.commit = git(project, "rev-parse", "HEAD")
        self.setenv(
            **CREDENTIALS,
            AWS_ENDPOINT_URL=url,
            AWS_CONFIG_FILE=os.devnull,
            AWS_SHARED_CREDENTIALS_FILE=os.devnull,
            CAPTIONER_AWS="real",
            CAPTIONER_AWS_IMAGE=f"{REGISTRY}/captioner:of-before",
            DOCKER_LOG=str(self.log),
        )
        monkeypatch.chdir(project)

    def setenv(self, **environ: str) -> None:
        for name, value in environ.items():
            self._monkeypatch.setenv(name, value)

    def with_docker(self) -> None:
        program = self.place / "bin" / "docker"
        program.parent.mkdir()
        program.write_text(DOCKER)
        program.chmod(0o755)
        self.setenv(PATH=f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    @property
    def calls(self) -> list[tuple[list[str], str | None]]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [tuple(json.loads(line)) for line in lines]


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def ecr_url() -> Iterator[str]:
    with moto_server() as url:
        yield url


@pytest.fixture
def world(project: Path, tmp_path_factory: pytest.TempPathFactory, ecr_url: str, monkeypatch) -> Iterator[World]:
    one = World(project, tmp_path_factory.mktemp("docker"), ecr_url, monkeypatch)
    one.with_docker()
    client = ecr(one)
    client.create_repository(repositoryName="captioner", imageTagMutability="IMMUTABLE")
    yield one
    client.delete_repository(repositoryName="captioner", force=True)


def ecr(world: World) -> Any:
    return boto3.client("ecr", endpoint_url=world.url, region_name="eu-central-1")


def report(capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capfd.readouterr().out)
    return found


def test_it_builds_logs_in_pushes_and_says_what_is_there_now(world: World, capfd) -> None:
    assert main(["deploy", "image", "--json"]) == 0
    tag = f"{__version__}-{world.commit[:12]}"
    image = f"{REGISTRY}/captioner:{tag}"
    (build, _), (login, password), (push, _) = world.calls
    assert build[:3] == ["buildx", "build", "--platform"]
    assert "--provenance=false" in build
    assert build[build.index("--output") + 1] == "type=docker"
    assert build[build.index("--tag") + 1] == image
    assert f"org.opencontainers.image.revision={world.commit}" in build
    assert build[-1] == str(world.project)
    assert login == ["login", "--username", "AWS", "--password-stdin", REGISTRY]
    # The region is the registry's, not the user's default.
    token = ecr(world).get_authorization_token()["authorizationData"][0]["authorizationToken"]
    assert f"AWS:{password}" == base64.b64decode(token).decode()
    assert push == ["push", image]
    (stored,) = ecr(world).describe_images(repositoryName="captioner", imageIds=[{"imageTag": tag}])["imageDetails"]
    said = report(capfd)
    assert said == {
        "image": image,
        "commit": world.commit,
        "digest": stored["imageDigest"],
        "built": True,
        "pushed": True,
    }


def test_what_is_there_is_not_built_again(world: World, capfd) -> None:
    assert main(["deploy", "image", "--tag", "v1"]) == 0
    assert f"export CAPTIONER_AWS_IMAGE={REGISTRY}/captioner:v1" in capfd.readouterr().out
    before = world.calls
    assert main(["deploy", "image", "--tag", "v1", "--json"]) == 0
    assert world.calls == before
    again = report(capfd)
    assert (again["built"], again["pushed"]) == (False, False)
    assert again["digest"].startswith("sha256:")


def test_locally_it_is_built_and_stays_here(world: World, capfd) -> None:
    world.setenv(CAPTIONER_AWS="local")
    assert main(["deploy", "image", "--tag", "v1"]) == 0
    assert [call[0][0] for call in world.calls] == ["buildx"]
    assert "local/captioner:v1: built" in capfd.readouterr().out


def failed(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["deploy", "image", *arguments]) == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("captioner: ")
    assert not [line for line in lines if "Traceback" in line]
    return lines[-1]


def test_without_docker_it_is_one_sentence(world: World, capfd) -> None:
    world.setenv(PATH=str(Path(sys.executable).parent / "no-such-folder"))
    assert "There is no docker on the PATH: install Docker" in failed(capfd, "--tag", "v1")


@pytest.mark.parametrize(("command", "says"), [("buildx", "build the image"), ("login", "log in"), ("push", "push")])
def test_what_docker_could_not_do_is_said_under_its_own_words(world: World, capfd, command: str, says: str) -> None:
    world.setenv(DOCKER_FAILS=command)
    assert main(["deploy", "image", "--tag", "v1"]) == 2
    error = capfd.readouterr().err
    assert "it does not work today" in error
    assert f"docker could not {says}" in error.strip().splitlines()[-1]
    assert world.calls[-1][0][0] == command  # and nothing was tried after it


def test_a_push_that_did_not_arrive_is_noticed(world: World, capfd) -> None:
    world.setenv(DOCKER_LOSES="1")
    assert "the repository does not have it" in failed(capfd, "--tag", "v1")


def test_an_image_that_sagemaker_does_not_take_is_noticed(world: World, capfd) -> None:
    world.setenv(DOCKER_MEDIA_TYPE="application/vnd.oci.image.manifest.v1+json")
    assert "SageMaker takes application/vnd.docker" in failed(capfd, "--tag", "v1")


def test_changes_that_no_commit_has_need_a_tag(world: World, capfd) -> None:
    (world.project / "params.yaml").write_text((world.project / "params.yaml").read_text() + "\n# changed\n")
    assert "commit them, or give --tag" in failed(capfd)
    assert not world.calls


@pytest.mark.parametrize("image", ["captioner", "docker.io/somebody/captioner:1", f"{REGISTRY}/"])
def test_a_repository_that_is_not_in_ecr_is_refused(world: World, capfd, image: str) -> None:
    world.setenv(CAPTIONER_AWS_IMAGE=image)
    assert "which is no image in ECR" in failed(capfd, "--tag", "v1")


def test_a_missing_repository_and_a_missing_setting_and_a_bad_tag_are_said(world: World, capfd) -> None:
    assert "'a b' is not a tag" in failed(capfd, "--tag", "a b")
    world.setenv(CAPTIONER_AWS_IMAGE=f"{REGISTRY}/elsewhere")
    assert "has no repository elsewhere: infra/base.yaml makes one" in failed(capfd, "--tag", "v1")
    world.setenv(CAPTIONER_AWS_IMAGE="")
    assert "also needs CAPTIONER_AWS_IMAGE" in failed(capfd, "--tag", "v1")
    assert not world.calls
