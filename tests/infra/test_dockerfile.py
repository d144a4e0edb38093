"""The serving image's definition. No Docker engine is needed: what it would run, copy and be sent is read from it.

What this cannot see is whether the base image is there and the build succeeds; docs/aws.md says what was tried.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from captioner.cli import parser
from captioner.emulator.children import HOST
from captioner.emulator.programs import command
from tests.infra.dockerfiles import instructions, is_sent, stages

ROOT = Path(__file__).resolve().parents[2]
FILE, IGNORE = ROOT / "Dockerfile", ROOT / ".dockerignore"
LAST = stages(FILE)[-1]
CONTRACT = ["serve"]  # SageMaker runs `docker run IMAGE serve`


def last(name: str) -> list[str]:
    (found,) = [one for one in LAST if one.name == name]
    return found.exec_form


def test_it_runs_exactly_what_the_local_variants_run() -> None:
    local = command("local/captioner:latest", Path("/opt/ml/model"), local_exec=False, programs={})
    program, *arguments = [*last("ENTRYPOINT"), *CONTRACT]
    assert Path(program).name == "python"
    assert arguments == local[1 : 1 + len(arguments)]
    # The rest of the local command says where; what the contract fixes is what the program takes by itself.
    here = parser().parse_args([*local[3:], "--port", "8081"])
    there = parser().parse_args(arguments[2:])
    assert here.handler is there.handler
    assert (here.host, str(here.model_dir), here.port) == (HOST, "/opt/ml/model", 8081)
    assert (there.host, str(there.model_dir), there.port) == ("0.0.0.0", "/opt/ml/model", 8080)


def test_without_a_command_it_serves_too() -> None:
    assert last("CMD") == CONTRACT


def test_no_shell_and_no_installer_stands_between_docker_and_the_server() -> None:
    words = [*last("ENTRYPOINT"), *last("CMD")]
    assert not {"sh", "bash", "/bin/sh", "/bin/bash", "pip", "-c"} & set(words)
    assert not [one for one in instructions(FILE) if one.name == "SHELL"]


def test_it_does_not_run_as_root() -> None:
    assert [one.name for one in LAST].index("USER") < [one.name for one in LAST].index("ENTRYPOINT")
    (user,) = [one.rest for one in LAST if one.name == "USER"]
    assert user.isdigit()  # a number: an orchestrator can check it without the image's passwd
    assert int(user) > 0


def test_it_takes_the_locked_packages_and_nothing_unchecked() -> None:
    installs = [one.rest for one in instructions(FILE) if one.name == "RUN" and " install " in one.rest]
    assert len(installs) == 2
    packages, ourselves = installs
    assert "--require-hashes -r requirements/serve.txt" in packages
    assert "--no-deps" in ourselves
    assert "--no-index" in ourselves
    fetchers = {"apt-get", "apt", "curl", "wget", "git"}
    assert not [one for one in instructions(FILE) if one.name == "ADD" or fetchers & set(one.rest.split())]


def test_the_base_is_a_python_that_the_locks_are_for() -> None:
    (base,) = [one.rest for one in instructions(FILE) if one.name == "ARG"]
    name, _, tag = base.partition("=")[2].rpartition(":")
    assert name.endswith("/python")
    version, *rest = tag.split("-")
    assert rest[0] == "slim"
    assert tuple(map(int, version.split("."))) in [(3, 11), (3, 12), (3, 13)]
    assert {one[0].words[0] for one in stages(FILE)} == {"${BASE}"}


def copied() -> list[str]:
    """The sources, in the context, of every COPY."""
    found = [one for one in instructions(FILE) if one.name == "COPY" and one.option("from") is None]
    return [source for one in found for source in one.words[:-1]]


def test_every_source_of_a_copy_exists_and_is_sent() -> None:
    assert copied()
    for source in copied():
        place = ROOT / source
        assert place.exists(), source
        files = [place] if place.is_file() else list(place.rglob("*.py"))
        assert files
        assert all(is_sent(one.relative_to(ROOT).as_posix(), IGNORE) for one in files), source


def test_only_what_is_copied_is_sent() -> None:
    sent = []
    for folder, names, files in os.walk(ROOT):
        place = Path(folder).relative_to(ROOT)
        if place == Path():
            names[:] = [name for name in names if name not in (".git", ".venv")]  # asked below, by name
        sent += [path for name in files if is_sent(path := (place / name).as_posix(), IGNORE)]
    strangers = [path for path in sent if not any(path == one or path.startswith(f"{one}/") for one in copied())]
    assert not strangers
    assert {Path(path).suffix for path in sent if path.startswith("src/")} <= {".py", ".typed", ".json"}
    assert sum((ROOT / path).stat().st_size for path in sent) < 3_000_000


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".venv/bin/python",
        ".env",
        ".captioner/aws/s3/x",
        "data/raw/images-000.zip",
        "models/shipped/weights.npz",
        "models/candidates/attention/exported/model.tar.gz",
        "reports/evaluate-attention.json",
        "tests/test_cli.py",
        "requirements/dev.txt",
        "src/captioner/__pycache__/cli.cpython-311.pyc",
        "src/captioner.egg-info/PKG-INFO",
        "benchmarks/results.json",
        "params.yaml",
    ],
)
def test_data_models_tests_and_secrets_are_not_sent(path: str) -> None:
    assert not is_sent(path, IGNORE)


def test_hadolint_has_nothing_to_say() -> None:
    beside = str(Path(sys.executable).parent)
    program = shutil.which("hadolint", path=os.pathsep.join([beside, os.environ.get("PATH", "")]))
    if program is None and not (os.environ.get("CI") and sys.platform == "linux"):
        pytest.skip("hadolint has no package for this machine")
    assert program
    done = subprocess.run([program, str(FILE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
