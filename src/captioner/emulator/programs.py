"""Which program stands for a container image, and which digest it is described by.

``*/captioner:*`` is ``captioner serve``. Others are mapped by whoever starts the emulator (``--image NAME=PROGRAM``);
``local-exec:/path`` runs any program, and only where that was allowed: who reaches the port could start anything.
"""

from __future__ import annotations

import functools
import hashlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from captioner.emulator.children import HOST
from captioner.errors import BadData, BadParams

_CAPTIONER = re.compile(r"^(.*/)?captioner(:[^/]*)?(@sha256:[0-9a-f]+)?$")
_LOCAL = "local-exec:"


def command(image: str, folder: Path, local_exec: bool, programs: Mapping[str, str]) -> list[str]:
    """The program that an image stands for. Raises BadData for one that cannot run without Docker."""
    program = _program(image, local_exec, programs)
    if program:
        return [program, "serve", "--model-dir", str(folder)]
    if _CAPTIONER.match(image):
        return [sys.executable, "-m", "captioner", "serve", "--host", HOST, "--model-dir", str(folder)]
    known = ", ".join(["*/captioner:*", *programs])
    raise BadData(
        f"The image {image} cannot run here: the local SageMaker only knows {known} (captioner emulator --image)."
    )


def _program(image: str, local_exec: bool, programs: Mapping[str, str]) -> str | None:
    if image.startswith(_LOCAL) and local_exec:
        return image.removeprefix(_LOCAL)
    # A name without tag or digest stands for all of them.
    return programs.get(image) or programs.get(re.sub(r"(:[^/:@]*)?(@sha256:[0-9a-f]+)?$", "", image))


def resolve(image: str, local_exec: bool, programs: Mapping[str, str]) -> str:
    """The image by digest, as a registry would resolve it: here that of the program which runs."""
    if "@sha256:" in image:
        return image
    program = _program(image, local_exec, programs)
    repository = re.sub(r":[^/:]*$", "", image) if not image.startswith(_LOCAL) else image
    return f"{repository}@sha256:{_digest(program)}"[:255]


def _digest(program: str | None) -> str:
    if program is None:
        return _package_digest()
    try:
        return hashlib.sha256(Path(program).read_bytes()).hexdigest()
    except OSError:
        return hashlib.sha256(
            program.encode()
        ).hexdigest()  # it will not start either, and that error is the better one


@functools.cache
def _package_digest() -> str:
    """Of this package's code: what ``captioner serve`` is."""
    found = hashlib.sha256()
    package = Path(__file__).parents[1]
    for file in sorted(package.rglob("*.py")):
        found.update(f"{file.relative_to(package)}\0".encode() + file.read_bytes())
    return found.hexdigest()


def parse_programs(options: list[str]) -> dict[str, str]:
    """From ``NAME=PROGRAM`` each. Raises BadParams."""
    found = {}
    for option in options:
        name, _, program = option.rpartition("=")
        if not name or not Path(program).is_file():
            raise BadParams(f"--image takes NAME=PROGRAM with a program that exists; got {option!r}.")
        found[name] = str(Path(program).absolute())
    return found
