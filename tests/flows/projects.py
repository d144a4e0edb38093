"""Tiny DVC projects whose stages are shell one-liners, and Prefect's API as a test reads it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
PATIENCE_S = 30.0  # with a server that has more to do than to answer tests
CODE = os.pathsep.join([str(ROOT), str(ROOT / "src")])  # this checkout's, whatever is installed
GRAPH = """
stages:
  one:
    cmd: grep -v '^#' in.txt > one.txt
    deps: [in.txt]
    outs: [one.txt]
  two:
    matrix: {candidate: [a, b]}
    cmd: wc -l < one.txt > two-${item.candidate}.txt
    deps: [one.txt]
    outs: ["two-${item.candidate}.txt"]
"""
STAGES = ("one", "two@a", "two@b")


@dataclass(frozen=True)
class Finished:
    """A flow's process that has ended."""

    code: int
    output: str


@dataclass(frozen=True)
class Tiny:
    """A DVC project, and the environment in which its flows run."""

    root: Path
    api: str | None

    def start(self, *options: str) -> subprocess.Popen[str]:
        """``python -m flows.training`` in this project, standard output and error together."""
        # The code is this checkout's, the project is not.
        env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        env |= {"PYTHONPATH": CODE, "PYTHONUNBUFFERED": "1", "DVC_NO_ANALYTICS": "1"}
        if self.api:
            env |= {"PREFECT_API_URL": self.api, "PREFECT_HOME": str(self.root / ".captioner" / "prefect")}
        command = [sys.executable, "-m", "flows.training", *options]
        both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, cwd=self.root, env=env, stdin=subprocess.DEVNULL, text=True, **both)

    def run(self, *options: str) -> Finished:
        with self.start(*options) as child:
            output, _ = child.communicate(timeout=120)
        return Finished(child.returncode, output)

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.root / name.replace("_", ".")).write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class Api:
    """Prefect's REST API, read without Prefect's own client."""

    url: str

    def ask(self, path: str, body: Mapping[str, Any] | None = None, method: str | None = None) -> Any:
        """POST `body` as JSON, GET without one, or any other `method`."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    text = answer.read()
                return json.loads(text) if text else None
            except urllib.error.HTTPError as error:
                # SQLite was locked. Prefect's own client asks again, too.
                if error.code != 503 or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def last_run(self, flow: str = "training") -> dict[str, Any]:
        """The run of `flow` that was started last; runs that are only scheduled sort before it."""
        started = {"flows": {"name": {"any_": [flow]}}, "flow_runs": {"start_time": {"is_null_": False}}}
        runs: list[dict[str, Any]] = self.ask("/flow_runs/filter", {**started, "sort": "START_TIME_DESC", "limit": 1})
        return runs[0]

    def tasks(self, flow_run: str, *names: str) -> dict[str, dict[str, Any]]:
        """The task runs of a flow run by their name, as soon as those called `names` are there and all have ended.

        The server learns of them from events, which may come after the flow run's end. When they do not come: what
        there is by then.
        """
        body = {"flow_runs": {"id": {"any_": [flow_run]}}}
        deadline = time.monotonic() + PATIENCE_S
        while True:
            found = {task["name"]: task for task in self.ask("/task_runs/filter", body)}
            settled = set(names) <= found.keys() and all(one["state_type"] in ENDED for one in found.values())
            if settled or time.monotonic() > deadline:
                return found
            time.sleep(0.2)

    def states(self, task_run: str) -> list[str]:
        """The names of all states that a task run went through."""
        return [state["name"] for state in self.ask(f"/task_run_states/?task_run_id={task_run}")]

    def artifacts(self, key: str) -> list[dict[str, Any]]:
        """All artifacts with `key`, newest first."""
        body = {"artifacts": {"key": {"any_": [key]}}, "sort": "CREATED_DESC"}
        found: list[dict[str, Any]] = self.ask("/artifacts/filter", body)
        return found


def make_project(root: Path, graph: str = GRAPH) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "params.yaml", root)
    (root / "dvc.yaml").write_text(graph, encoding="utf-8")
    (root / "in.txt").write_text("hello\n", encoding="utf-8")
    env = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=root, env=env, check=True)
    return root
