"""The training flow, read back from the real Prefect API."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from captioner import stack
from tests.flows.projects import STAGES, Tiny, make_project

Make = Callable[..., Any]

REPORTING = """
stages:
  train:
    matrix: {candidate: [a]}
    cmd: >-
      echo '{"progress": {"task": "train", "done": 3, "total": 4, "unit": "epochs", "note": "loss 0.5"}}' >&2;
      mkdir -p reports; echo '{"scores": {"bleu_4": 51.25}, "best_epoch": 2}' > reports/train-a.json
    deps: [in.txt]
    metrics: [reports/train-a.json]
"""
# Fails until the file `again` is there, in the way a verb of the CLI does it.
FAILING = """
stages:
  acquire:
    cmd: >-
      test -e again && cp in.txt out.txt ||
      {{ touch again; echo '{{"error": {{"type": "{kind}", "message": "{message}"}}}}' >&2; exit 2; }}
    deps: [in.txt]
    outs: [out.txt]
"""
BLOCKING = """
stages:
  slow:
    cmd: echo started >&2; read line < gate; cp in.txt out.txt
    deps: [in.txt]
    outs: [out.txt]
"""


def test_without_a_server_it_says_so_and_starts_the_stack(standing: Any) -> None:
    assert "Starting the local stack (api, aws, deployments, mlflow, prefect, web)" in standing.first.output
    services = stack.status(standing.settings, standing.paths)
    assert services.keys() == {"prefect", "mlflow", "aws", "deployments", "api", "web"}
    assert all(one["healthy"] for one in services.values())


def test_the_states_say_what_dvc_did(tiny: Make, api: Any) -> None:
    project = tiny()

    def run(*options: str) -> dict[str, str]:
        ended = project.run("--no-release", *options)
        assert ended.code == 0, ended.output
        tasks = api.tasks(api.last_run()["id"], *(("one",) if "one" in options else STAGES))
        assert {task["state_type"] for task in tasks.values()} == {"COMPLETED"}
        names = {name: task["state_name"] for name, task in tasks.items()}
        assert ("Nothing changed" in ended.output) == (set(names.values()) == {"Cached"})
        return names

    assert run() == {"one": "Completed", "two@a": "Completed", "two@b": "Completed"}
    assert run() == {"one": "Cached", "two@a": "Cached", "two@b": "Cached"}

    # Runs, and writes the same bytes as before: what follows is up to date.
    project.write(in_txt="# a comment\nhello\n")
    assert run() == {"one": "Completed", "two@a": "Cached", "two@b": "Cached"}

    # DVC still has the outs of these inputs: restored, not run.
    project.write(in_txt="hello\n")
    assert run("one") == {"one": "Cached"}
    assert "restored" in api.tasks(api.last_run()["id"], "one")["one"]["state"]["message"]

    assert run("--force", "one") == {"one": "Completed"}


def test_progress_and_report_become_artifacts(tiny: Make, api: Any) -> None:
    assert tiny(REPORTING).run("--no-release").code == 0

    progress = api.artifacts("train-a-progress")[0]
    assert (progress["type"], progress["data"]) == ("progress", 75.0)
    assert progress["description"] == "train: 3 of 4 epochs (loss 0.5)"
    report = api.artifacts("train-a")[0]
    assert "| bleu_4 | 51.25 |" in report["data"]
    assert report["task_run_id"] == api.tasks(api.last_run()["id"], "train@a")["train@a"]["id"]


def test_what_may_pass_is_tried_again(tiny: Make, api: Any) -> None:
    project = tiny(FAILING.format(kind="ServiceUnavailable", message="The release page did not answer."))
    ended = project.run("--no-release")

    assert ended.code == 0, ended.output
    task = api.tasks(api.last_run()["id"], "acquire")["acquire"]
    assert (task["state_name"], task["run_count"]) == ("Completed", 2)


@pytest.mark.parametrize(("kind", "code"), [("BadData", 2), ("GateFailed", 1)])
def test_what_cannot_pass_is_not_tried_again(tiny: Make, api: Any, kind: str, code: int) -> None:
    project = tiny(FAILING.format(kind=kind, message="Too many rows are bad."))
    ended = project.run()

    assert ended.code == code
    assert "captioner: Too many rows are bad." in ended.output
    # DVC shows the stage's command, and this one has the sentence in it.
    told = [line for line in ended.output.splitlines() if "Too many rows" in line and '"error"' not in line]
    assert len(told) == 3, "by the task's state, the flow and the command, and not again by the flow's state"
    assert "Traceback" not in ended.output
    run = api.last_run()
    assert run["state_name"] == "Failed"
    tasks = api.tasks(run["id"], "acquire")
    assert tasks.keys() == {"acquire"}  # and nothing was released
    assert (tasks["acquire"]["state_name"], tasks["acquire"]["run_count"]) == ("Failed", 1)
    assert "Too many rows are bad." in tasks["acquire"]["state"]["message"]


def test_a_stage_that_just_dies_is_one_sentence(tiny: Make) -> None:
    ended = tiny("stages: {one: {cmd: echo no space >&2; exit 7, deps: [in.txt], outs: [out.txt]}}").run("--no-release")
    assert ended.code == 2
    assert "captioner: The stage one failed" in ended.output
    assert "Traceback" not in ended.output


def test_two_flows_at_once_queue_for_the_workspace(tiny: Make, api: Any) -> None:
    project = tiny(BLOCKING)
    os.mkfifo(project.root / "gate")
    first = project.start("--no-release")
    until(first, "started")
    second = project.start("--no-release")
    waiting = until(second, "Waiting for the workspace")
    assert "held by the training flow '" in waiting
    assert f"process {first.pid}" in waiting

    (project.root / "gate").write_text("go\n", encoding="utf-8")

    assert (first.wait(60), second.wait(60)) == (0, 0)
    run = api.last_run()
    assert api.tasks(run["id"], "slow")["slow"]["state_name"] == "Cached"
    close(first, second)


def test_it_waits_for_a_person_who_runs_dvc(tiny: Make) -> None:
    project = tiny(BLOCKING)
    os.mkfifo(project.root / "gate")
    command = [Path(sys.executable).with_name("dvc"), "repro"]
    by_hand = subprocess.Popen(command, cwd=project.root, stdout=-1, stderr=subprocess.STDOUT, text=True)
    until(by_hand, "started")
    flow = project.start("--no-release")
    waiting = until(flow, "Waiting: process")
    assert f"process {by_hand.pid} (" in waiting
    assert waiting.rstrip().endswith("dvc repro) is at work here.")

    (project.root / "gate").write_text("go\n", encoding="utf-8")

    assert (by_hand.wait(60), flow.wait(60)) == (0, 0)
    assert "slow is up to date" in flow.stdout.read()
    close(by_hand, flow)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_signal_ends_the_stage_and_the_next_run_goes_on(tiny: Make, number: int, code: int) -> None:
    project = tiny(BLOCKING)
    os.mkfifo(project.root / "gate")
    first = project.start("--no-release")
    until(first, "started")
    first.send_signal(number)
    output = first.communicate(timeout=180)[0]
    assert first.returncode == code, output
    assert ("captioner: interrupted" in output) == (number == signal.SIGINT)
    assert "Traceback" not in output

    again = project.start("--no-release")
    until(again, "started")
    # Were the first stage's process still there, it could take this line.
    (project.root / "gate").write_text("go\n", encoding="utf-8")
    assert again.wait(60) == 0
    close(first, again)


def test_a_server_that_does_not_answer_is_a_sentence(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        api = f"http://127.0.0.1:{closed.getsockname()[1]}/api"
        ended = Tiny(make_project(tmp_path / "project"), api).run()
    assert ended.code == 2
    assert f"captioner: Prefect does not answer at {api}" in ended.output
    assert "Traceback" not in ended.output


def until(child: Any, words: str) -> str:
    """The first line of `child`'s output that holds `words`."""
    seen = []
    for line in child.stdout:
        seen.append(line)
        if words in line and "echo" not in line:
            return str(line)
    raise AssertionError("".join(seen))


def close(*children: Any) -> None:
    for child in children:
        child.stdout.close()
