"""The demo itself, in an empty folder with what a clone has: its own stack, the shipped model, users, a promotion."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.clones import begin

ROOT = Path(__file__).resolve().parents[2]


class Folder:
    """A project in which only the demo runs."""

    def __init__(self, root: Path) -> None:
        self.root = begin(root, "models/shipped")

    def demo(self, *options: str) -> subprocess.CompletedProcess[str]:
        env = {name: value for name, value in os.environ.items() if not name.startswith(("CAPTIONER_", "PREFECT_"))}
        env |= {"PYTHONPATH": str(ROOT / "src"), "CAPTIONER_THREADS": "2"}
        command = [sys.executable, "-m", "captioner", "demo", *options]
        return subprocess.run(command, cwd=self.root, env=env, capture_output=True, text=True, check=False)

    def left(self) -> list[str]:
        """The processes that run in the project."""
        return [one.name() for one in psutil.process_iter() if str(self.root) in " ".join(_words(one))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    folder = Folder(tmp_path_factory.mktemp("demo"))
    try:
        yield folder
    finally:
        folder.demo("--down")
        assert not folder.left()


def _words(process: psutil.Process) -> list[str]:
    try:
        return [*process.cmdline(), process.cwd()]
    except (psutil.Error, OSError):
        return []


def asked(address: str) -> Any:
    with urllib.request.urlopen(address, timeout=30) as answer:
        return json.load(answer)


@pytest.mark.timeout(900)
def test_users_who_like_the_challenger_have_it_promoted_and_the_next_demo_begins_with_the_way_back(
    folder: Folder,
) -> None:
    told = folder.demo("--users", "400", "--rate", "50", "--effect", "4")
    assert told.returncode == 0, told.stdout + told.stderr
    assert re.search(r"promote: The challenger's captions are rated \+.*: better\.", told.stdout)
    assert re.search(r"promote +champion 1 → 2; challenger 2 → none; serves champion 2", told.stdout)
    assert "were not answered" not in told.stdout

    (api,) = re.findall(r"(http://\S+)/docs", told.stdout)
    (web,) = re.findall(r"(http://\S+)/experiment", told.stdout)
    found = asked(f"{api}/v1/experiment")
    assert (found["experiment"]["outcome"], found["analysis"]["verdict"]) == ("promote", "promote")
    shown = sum(arm["exposures"] for arm in found["analysis"]["arms"].values())
    rated = sum(arm["ratings"] for arm in found["analysis"]["arms"].values())
    assert 100 <= rated <= shown <= 400
    with urllib.request.urlopen(web, timeout=30) as page:
        assert page.status == 200

    again = folder.demo("--users", "20", "--rate", "50")
    assert again.returncode != 0
    assert "All 20 users have come and nothing is decided" in again.stderr
    assert re.search(r"rollback +champion 2 → 1; challenger none → 2", again.stdout)
