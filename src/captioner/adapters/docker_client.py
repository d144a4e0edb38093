"""The docker client on this machine, as a program: build an image, log in to a registry, push. Knows nothing of AWS.

What docker says goes to standard error as it comes, so that standard output stays the verb's own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from captioner.errors import BadEnvironment, ServiceUnavailable

PLATFORM = "linux/amd64"  # of the instance types that params.yaml may name; a Mac would build for its own processor


class Docker:
    """Calls `program`. Raises BadEnvironment when there is none."""

    def __init__(self) -> None:
        found = shutil.which("docker")
        if found is None:
            raise BadEnvironment("There is no docker on the PATH: install Docker, or run this where it is.")
        self._program = found

    def build(self, root: Path, name: str, labels: Mapping[str, str]) -> None:
        """Build the Dockerfile in `root` as `name`. Raises BadEnvironment.

        Without attestations and in Docker's own format: SageMaker takes no OCI manifest and no index of several.
        """
        labelled = [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
        command = ["buildx", "build", "--platform", PLATFORM, "--provenance=false", "--output", "type=docker"]
        self._call("build the image", [*command, *labelled, "--tag", name, str(root)])

    def login(self, registry: str, user: str, password: str) -> None:
        """Let `push` write to `registry`. The password goes through standard input: command lines are seen."""
        command = ["login", "--username", user, "--password-stdin", registry]
        self._call(f"log in to {registry}", command, password)

    def push(self, name: str) -> None:
        """Send `name` to its registry. Raises ServiceUnavailable: docker goes on from the layers that are there."""
        self._call(f"push {name}", ["push", name], failure=ServiceUnavailable)

    def _call(
        self,
        doing: str,
        command: Sequence[str],
        given: str | None = None,
        failure: type[BadEnvironment] = BadEnvironment,
    ) -> None:
        sys.stderr.flush()
        done = subprocess.run(
            [self._program, *command],
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            stdout=sys.stderr.fileno() if _has_file(sys.stderr) else subprocess.DEVNULL,
            text=True,
            check=False,
            env=dict(os.environ),
        )
        if done.returncode:
            raise failure(f"docker could not {doing} (exit code {done.returncode}): what it said is above.")


def _has_file(stream: object) -> bool:
    try:
        stream.fileno()  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return False
    return True
