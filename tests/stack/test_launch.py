"""A flow's process, as the commands that start it see it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

STARTS = """
import sys
from pathlib import Path
from captioner import stack
from captioner.paths import Paths
from captioner.settings import Settings
root = Path(sys.argv[1])
settings = Settings.from_env(root, {})
sys.exit(stack.run_module("waits", sys.argv[2:], settings, Paths.of(root, settings)))
"""
WAITS = """
import os, signal, sys, time
if sys.argv[1:] == ["politely"]:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(("options", "code"), [([], 128 + signal.SIGTERM), (["politely"], 3)])
def test_who_is_told_to_end_ends_the_flow_first(tmp_path: Path, options: list[str], code: int) -> None:
    (tmp_path / "waits.py").write_text(WAITS, encoding="utf-8")
    command = [sys.executable, "-c", STARTS, str(tmp_path), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout
        flow = psutil.Process(int(started.stdout.readline()))
        started.send_signal(signal.SIGTERM)
        assert started.wait(30) == code
    assert not flow.is_running()
