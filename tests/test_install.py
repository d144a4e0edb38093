"""scripts/install.py: what it decides, without an index. The real set-up is what `.ci/run` starts with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.loading import script

ROOT = Path(__file__).resolve().parents[1]
install = script("install")


@pytest.fixture
def environment(tmp_path: Path) -> Any:
    """A checkout with one-line locks and a .venv that looks alive."""
    (tmp_path / "requirements").mkdir()
    for name in install.SUPERSETS:
        (tmp_path / "requirements" / f"{name}.txt").write_text(f"{name}==1\n")
    (tmp_path / "pyproject.toml").write_text('[build-system]\nrequires = []\n[project]\nname = "captioner"\n')
    commands = tmp_path / ".venv" / "bin"
    commands.mkdir(parents=True)
    for name in ("python", "captioner"):
        (commands / name).touch()
    return install.Environment(tmp_path)


def test_nothing_is_there_at_first(environment: Any) -> None:
    assert not any(environment.has(lock) for lock in install.SUPERSETS)
    assert not environment.has_project()


def test_a_superset_stands_in_for_a_subset_but_not_the_other_way(environment: Any) -> None:
    environment.write(web=environment.digest("web"))
    assert environment.has("web")
    assert not environment.has("local")
    environment.write(local=environment.digest("local"))
    assert [lock for lock in install.SUPERSETS if environment.has(lock)] == [
        "uv",
        "runtime",
        "serve",
        "pipeline",
        "local",
        "api",
        "web",
    ]


@pytest.mark.parametrize("changed", ["local", "uv"])
def test_a_changed_lock_is_installed_again(environment: Any, changed: str) -> None:
    environment.write(local=environment.digest("local"))
    (environment.root / "requirements" / f"{changed}.txt").write_text("local==2\n")
    assert not environment.has("local")
    assert not environment.has("serve")


def test_an_older_superset_is_forgotten_when_a_newer_subset_goes_over_it(environment: Any) -> None:
    environment.write(dev=environment.digest("dev"))
    before = (environment.root / "requirements" / "dev.txt").read_text()
    (environment.root / "requirements" / "dev.txt").write_text("dev==2\n")
    environment.write(local=environment.digest("local"))
    (environment.root / "requirements" / "dev.txt").write_text(before)
    assert not environment.has("dev")


def test_an_environment_of_a_moved_checkout_is_not_trusted(environment: Any) -> None:
    environment.write(dev=environment.digest("dev"))
    assert not environment.moved()
    note = json.loads(environment.note.read_text())
    environment.note.write_text(json.dumps({**note, "root": "/elsewhere"}))
    assert environment.moved()
    assert not environment.has("dev")


def test_a_vanished_python_or_a_broken_note_is_not_trusted(environment: Any) -> None:
    environment.write(dev=environment.digest("dev"))
    environment.python.unlink()
    assert not environment.has("dev")
    environment.python.touch()
    assert environment.has("dev")
    environment.note.write_text("{half a no")
    assert not environment.has("dev")


def test_the_project_is_installed_again_when_its_metadata_changes_and_not_for_a_tools_settings(
    environment: Any,
) -> None:
    environment.write(project=environment.project_digest())
    file = environment.root / "pyproject.toml"
    file.write_text(file.read_text() + "[tool.ruff]\nline-length = 120\n")
    assert environment.has_project()
    file.write_text(file.read_text() + '[project.scripts]\ncaptioner = "captioner:main"\n')
    assert not environment.has_project()


def test_uv_is_told_the_index_and_the_certificate_of_pip(environment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    environment.python = Path(sys.executable)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(environment.root / "pip.conf"))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    (environment.root / "pip.conf").write_text("[global]\ncert = /certificates.pem\ntimeout = 3\n")
    monkeypatch.delenv("PIP_CERT", raising=False)
    assert environment.index_of_pip() == {
        "UV_DEFAULT_INDEX": "http://127.0.0.1:1/simple",
        "SSL_CERT_FILE": "/certificates.pem",
    }


def test_a_python_that_does_not_suit_is_told_which_does() -> None:
    sentence = install.refusal((3, 9), "python3")
    assert "3.11, 3.12 or 3.13" in sentence
    assert "python3 is 3.9" in sentence


def test_an_unknown_lock_is_refused_with_the_valid_ones() -> None:
    command = [sys.executable, "scripts/install.py", "everything"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pipeline|openvino|local" in done.stderr
