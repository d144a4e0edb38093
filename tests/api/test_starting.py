"""`captioner api` as a command: what it says when it cannot, and the secret that it makes once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from captioner.api.starting import endpoint, secret
from captioner.errors import BadParams
from captioner.paths import Paths
from captioner.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "CAPTIONER_API_ENDPOINT": "captioner-x"}
        command = [sys.executable, "-m", "captioner", "api", "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "cannot be used: it is taken" in done.stderr
    assert "Traceback" not in done.stderr


def test_everybody_gets_the_same_secret(settings: Settings, paths: Paths) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: secret(settings, paths), range(16)))
    assert len(found) == 1
    assert len(found.pop()) == 64
    assert (paths.home / "api-secret").stat().st_mode & 0o777 == 0o600
    given = Settings.from_env(paths.root, {"CAPTIONER_API_SECRET": "mine"})
    assert secret(given, paths) == "mine"
    with pytest.raises(BadParams, match="CAPTIONER_API_SECRET"):
        secret(Settings.from_env(paths.root, {"CAPTIONER_AWS": "real"}), paths)


def test_the_endpoint_is_that_of_params_yaml_or_the_settings(project: Path, settings: Settings) -> None:
    assert endpoint(settings, project) == "captioner-sample"
    assert endpoint(Settings.from_env(project, {"CAPTIONER_API_ENDPOINT": "captioner-x"}), project) == "captioner-x"


def test_keys_are_pairs(project: Path) -> None:
    found = Settings.from_env(project, {"CAPTIONER_API_KEYS": "anna:one, ben:two:three"})
    assert found.api_keys == {"anna": "one", "ben": "two:three"}
    for wrong in ("anna", "anna:", ":one", "anna:one,anna:two"):
        with pytest.raises(BadParams, match="NAME:KEY"):
            Settings.from_env(project, {"CAPTIONER_API_KEYS": wrong})
