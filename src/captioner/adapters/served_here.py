"""The smoke test: an artifact, unpacked as SageMaker would, served by the program that its image runs, in a process of
its own, and asked for the golden images' captions.

A process of its own because that is what the container will be: the packed layout, the server, the program's exit and
its memory are tried along with the model, and nothing that dies there takes the deployment with it. (The export stage
has already held the artifact against the training path: this is about what is packed, not about what was learned.)
What it said is kept under the digest and the code's hash, so a deployment that was cut off does not serve it again.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import captioner
from captioner.errors import BadData, BadEnvironment, GateFailed
from captioner.golden import golden_images
from captioner.model.captioner import unpack
from captioner.paths import Paths
from captioner.records import read_json, write_json
from captioner.release import names, smoke

HOST = "127.0.0.1"
HEALTHY_S = 240.0  # what SageMaker gives a container until its first healthy ping
ANSWER_S = 60.0  # and for an answer
DRAIN_S = 30.0  # and between SIGTERM and SIGKILL
STARTS = 2  # a port can be taken between its choice and its use: one more try
TYPES = {".png": "image/png", ".jpg": "image/jpeg"}

# Before the program itself: on Linux the kernel ends it with whoever started it (1 is PR_SET_PDEATHSIG).
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""


def program_of(image: str) -> list[str]:
    """The program that `image` runs: that of this package, or the one that a local test image names."""
    prefix = "local-exec:"
    if image.startswith(prefix):
        return [image.removeprefix(prefix), "serve"]
    return [sys.executable, "-m", "captioner", "serve", "--host", HOST]


def smoke_test(paths: Paths, program: Sequence[str], artifact: Path, digest: str, version: str) -> smoke.Answers:
    """The golden images' captions by `artifact`, image → answer.

    Raises GateFailed when it answers otherwise than a released model must, BadData when the archive is damaged,
    BadEnvironment when nothing can be started here.
    """
    kept = _kept(paths, program, digest)
    if kept.is_file():
        known: smoke.Answers = read_json(kept)
        return known
    with tempfile.TemporaryDirectory(prefix="captioner-smoke-") as temporary:
        folder = Path(temporary) / "model"
        unpack(artifact, folder)
        environment = {names.VERSION: version, names.DIGEST: digest}
        with _serving(program, folder, environment, paths.logs / "smoke.log") as port:
            answers = {name: _ask(port, name, data) for name, data in golden_images().items()}
    for name, answer in answers.items():
        if wrong := smoke.fault(answer, digest):
            raise GateFailed(f"Version {version} is not deployed: asked for {name} by itself, {wrong}.")
    write_json(kept, answers)
    return answers


def known_answers(paths: Paths, program: Sequence[str], digest: str) -> smoke.Answers | None:
    """What an earlier smoke test of this model, by this code, was told; None when there was none."""
    kept = _kept(paths, program, digest)
    if not kept.is_file():
        return None
    found: smoke.Answers = read_json(kept)
    return found


def _kept(paths: Paths, program: Sequence[str], digest: str) -> Path:
    code = hashlib.sha256(json.dumps(list(program)).encode())
    root = Path(captioner.__file__).parent
    for file in sorted(root.rglob("*.py")):
        code.update(file.relative_to(root).as_posix().encode() + file.read_bytes())
    return paths.home / "smoke" / f"{digest[:16]}-{code.hexdigest()[:12]}.json"


@contextmanager
def _serving(program: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path) -> Iterator[int]:
    """The port of a healthy server, which has ended when the block has."""
    for last in (number == STARTS for number in range(1, STARTS + 1)):
        port = _free_port()
        process = _start([*program, "--model-dir", str(folder), "--port", str(port)], environment, log)
        try:
            if _healthy(process, port):
                yield port
                return
        finally:
            _stop(process)
        if last:
            ended = process.returncode
            raise GateFailed(f"The model is not deployed: served by itself it ended with {ended}; see {log}.")


def _start(command: list[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    # As in a container: nothing of the user's settings or credentials.
    host = {name: value for name, value in os.environ.items() if not name.startswith(("CAPTIONER_", "AWS_"))}
    if sys.platform == "linux":
        command = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            return subprocess.Popen(
                command, env={**host, **environment}, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
    except OSError as error:
        raise BadEnvironment(f"The model cannot be served here to be tried: {error.strerror or error}.") from None


def _healthy(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + HEALTHY_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if _request(port, "GET", "/ping", b"", "", 2.0)[0] == 200:
                return True
        except (OSError, http.client.HTTPException):
            time.sleep(0.1)
    return False


def _ask(port: int, name: str, image: bytes) -> Any:
    try:
        status, body = _request(port, "POST", "/invocations", image, TYPES[Path(name).suffix], ANSWER_S)
    except (OSError, http.client.HTTPException) as error:
        raise GateFailed(f"The model is not deployed: served by itself it does not answer {name} ({error}).") from None
    if status != 200:
        raise GateFailed(f"The model is not deployed: served by itself it answers {name} with status {status}.")
    try:
        return json.loads(body)
    except ValueError:
        raise BadData(f"The model answers {name} with something that is not JSON.") from None


def _request(port: int, method: str, path: str, body: bytes, kind: str, timeout_s: float) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout_s)
    try:
        connection.request(method, path, body or None, {"Content-Type": kind} if kind else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(DRAIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
