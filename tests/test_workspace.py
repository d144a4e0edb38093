"""The workspace lock, held by real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from captioner.errors import BadEnvironment, WorkspaceBusy
from captioner.paths import Paths
from captioner.workspace import holder, workspace_lock

HOLD = """
import sys
from pathlib import Path
from captioner.paths import Paths
from captioner.workspace import workspace_lock

root = Path(sys.argv[1])
with workspace_lock(Paths(root=root, home=root), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def process_that_holds(root: Path, who: str) -> Iterator[subprocess.Popen[str]]:
    """A process that asks for the lock, says `held`, and lets go at a line on its standard input."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(root), who], stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def let_go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(root=tmp_path, home=tmp_path)


def test_the_second_process_waits_and_says_once_who_holds_it(paths: Paths) -> None:
    with process_that_holds(paths.root, "the first flow") as first:
        assert said(first) == "held"
        with process_that_holds(paths.root, "the second flow") as second:
            assert second.stderr is not None
            line = second.stderr.readline()
            assert "Waiting for the workspace, held by the first flow" in line
            assert str(first.pid) in line
            let_go(first)
            assert said(second) == "held"
            let_go(second)
            assert second.wait(10) == 0
            assert second.stderr.read() == ""


def test_without_wait_a_held_workspace_is_an_error_that_names_the_holder(paths: Paths) -> None:
    with process_that_holds(paths.root, "the nightly flow") as other:
        assert said(other) == "held"
        with (
            pytest.raises(WorkspaceBusy, match=rf"the nightly flow \(process {other.pid}, since .*try again"),
            workspace_lock(paths, "me", wait=False),
        ):
            pytest.fail("two holders")


def test_a_killed_holder_lets_go(paths: Paths) -> None:
    with process_that_holds(paths.root, "doomed") as other:
        assert said(other) == "held"
        os.kill(other.pid, signal.SIGKILL)
        other.wait(10)
        assert holder(paths) is None
        with workspace_lock(paths, "me", wait=False):
            mine = holder(paths)
            assert mine is not None
            assert (mine.who, mine.pid) == ("me", os.getpid())


def test_a_child_of_the_holder_does_not_keep_the_lock(paths: Paths) -> None:
    with workspace_lock(paths, "me", wait=False):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with workspace_lock(paths, "me again", wait=False):
            pass
    finally:
        child.communicate(b"\n")


def test_it_is_let_go_when_the_block_raises(paths: Paths) -> None:
    with pytest.raises(RuntimeError), workspace_lock(paths, "me"):
        raise RuntimeError
    assert holder(paths) is None
    with workspace_lock(paths, "me", wait=False):
        pass


def test_the_waiting_message_goes_where_the_caller_wants_it(paths: Paths) -> None:
    heard = []

    def hear(message: str) -> None:
        heard.append(message)
        let_go(other)

    with process_that_holds(paths.root, "the first flow") as other:
        assert said(other) == "held"
        with workspace_lock(paths, "me", say=hear):
            assert len(heard) == 1
            assert "the first flow" in heard[0]


def test_a_home_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    paths = Paths(root=tmp_path, home=tmp_path / "file")
    with pytest.raises(BadEnvironment, match="cannot be written"), workspace_lock(paths, "me"):
        pytest.fail("there is no lock")
