"""The served deployments: *Run* with a typed form, schedules that create runs that finish, across restarts."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
import urllib.error
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from captioner import stack
from tests.flows.projects import CODE, ENDED, ROOT, STAGES

PATIENCE_S = 90.0  # Prefect's scheduler looks every few seconds, the runner as well, then a process starts
DEPLOYING_S = 400.0  # TensorFlow starts twice for each model: in its smoke test, and behind the endpoint


def wait_for(
    api: Any, done: Callable[[list[dict[str, Any]]], dict[str, Any] | None], patience_s: float = PATIENCE_S
) -> dict[str, Any]:
    """The flow run that `done` picks from all runs, as soon as there is one."""
    deadline = time.monotonic() + patience_s
    while True:
        begun = {"state": {"type": {"not_any_": ["SCHEDULED"]}}}  # schedules make hundreds of runs ahead
        runs = api.ask("/flow_runs/filter", {"sort": "START_TIME_DESC", "flow_runs": begun})
        if (found := done(runs)) is not None:
            return found
        assert time.monotonic() < deadline, [(run["name"], run["state_name"], run["state"]) for run in runs]
        time.sleep(0.5)


def finished(run_id: str) -> Callable[[list[dict[str, Any]]], dict[str, Any] | None]:
    return lambda runs: next((run for run in runs if run["id"] == run_id and run["state_type"] in ENDED), None)


@pytest.fixture(autouse=True)
def _this_checkouts_flows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The project of these tests is not the checkout, so its flows are found like this."""
    monkeypatch.setenv("PYTHONPATH", CODE)


def deployment(api: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = api.ask(f"/deployments/name/{name}/{name}")
    return found


def reconciled(api: Any) -> dict[str, Any]:
    """What *Run* in the UI does, once it has ended. One that meets the scheduled run is cancelled: then once more."""
    while True:
        run = api.ask(f"/deployments/{deployment(api, 'reconcile')['id']}/create_flow_run", {})
        ended = wait_for(api, finished(run["id"]), DEPLOYING_S)
        if ended["state_type"] != "CANCELLED":
            return ended


def test_the_run_form_is_typed(api: Any) -> None:
    form = deployment(api, "training")["parameter_openapi_schema"]["properties"]
    assert form.keys() == {"stages", "force", "release"}
    assert (form["force"]["type"], form["force"]["default"]) == ("boolean", False)
    assert (form["release"]["type"], form["release"]["default"]) == ("boolean", True)
    assert {"type": "array", "items": {"type": "string"}} in form["stages"]["anyOf"]
    assert "only these DVC stages" in form["stages"]["description"]


def test_run_in_the_ui_works_and_refuses_what_does_not_fit(api: Any) -> None:
    path = f"/deployments/{deployment(api, 'training')['id']}/create_flow_run"
    with pytest.raises(urllib.error.HTTPError) as refused:
        api.ask(path, {"parameters": {"force": "perhaps"}})
    assert refused.value.code in (409, 422)

    run = api.ask(path, {"parameters": {"stages": ["one"], "force": True}})
    ended = wait_for(api, finished(run["id"]))
    assert ended["state_name"] == "Completed", ended["state"]
    assert {name: task["state_name"] for name, task in api.tasks(run["id"], "one").items()} == {"one": "Completed"}


def test_cancel_in_the_ui_ends_the_stage(standing: Any, api: Any) -> None:
    root = standing.tiny.root
    graph = (root / "dvc.yaml").read_text(encoding="utf-8")
    os.mkfifo(root / "started")
    standing.tiny.write(dvc_yaml="stages: {endless: {cmd: echo > started; exec sleep 600, outs: [never.txt]}}")
    try:
        path = f"/deployments/{deployment(api, 'training')['id']}/create_flow_run"
        run = api.ask(path, {"parameters": {"release": False}})
        (root / "started").read_text(encoding="utf-8")  # returns when the stage is there
        assert stages_in(root)
        api.ask(f"/flow_runs/{run['id']}/set_state", {"state": {"type": "CANCELLING"}})
        assert wait_for(api, finished(run["id"]))["state_name"] == "Cancelled"
        assert not stages_in(root)
    finally:
        standing.tiny.write(dvc_yaml=graph)


def stages_in(root: Path) -> list[list[str]]:
    """The command lines of the endless stages that run in `root`."""
    found = psutil.process_iter(["cmdline", "cwd"])
    lines = [one.info["cmdline"] for one in found if one.info["cwd"] == str(root)]
    return [line for line in lines if line and "sleep 600" in " ".join(line)]


def test_a_schedule_creates_a_run_that_finishes(api: Any) -> None:
    training = deployment(api, "training")["id"]
    # As the UI does it.
    schedule = {"interval": 15, "anchor_date": datetime.now(UTC).isoformat(), "timezone": "UTC"}
    body = [{"schedule": schedule, "active": True, "parameters": {"release": False}}]
    made = api.ask(f"/deployments/{training}/schedules", body)
    try:
        ended = wait_for(
            api,
            lambda runs: next(
                (run for run in runs if run["auto_scheduled"] and run["end_time"] and run["deployment_id"] == training),
                None,
            ),
        )
        assert ended["state_name"] == "Completed", ended["state"]
        assert api.tasks(ended["id"], *STAGES).keys() == set(STAGES)
    finally:
        api.ask(f"/deployments/{training}/schedules/{made[0]['id']}", method="DELETE")


def test_reconcile_is_scheduled_from_the_start_and_finishes_before_anything_is_released(api: Any) -> None:
    found = deployment(api, "reconcile")
    assert [one["schedule"]["cron"] for one in found["schedules"]] == ["*/5 * * * *"]
    ended = reconciled(api)
    assert (ended["state_type"], ended["state_name"]) == ("COMPLETED", "Nothing to serve"), ended["state"]


def test_the_experiment_is_looked_at_every_hour_and_quietly_where_there_is_none(api: Any) -> None:
    found = deployment(api, "experiment")
    assert [one["schedule"]["cron"] for one in found["schedules"]] == ["7 * * * *"]
    run = api.ask(f"/deployments/{found['id']}/create_flow_run", {})
    ended = wait_for(api, finished(run["id"]))
    assert (ended["state_type"], ended["state_name"]) == ("COMPLETED", "Nothing running"), ended["state"]


def test_schedules_outlive_a_restart_and_missed_runs_do_not(standing: Any, api: Any) -> None:
    def schedule(*options: str) -> int:
        return stack.schedule(standing.settings, standing.paths, *options)

    def crons() -> list[str]:
        return [one["schedule"]["cron"] for one in deployment(api, "training")["schedules"]]

    assert schedule("0 3 * * 1", "Europe/Berlin") == 0
    assert schedule("0 4 * * 1") == 0
    assert crons() == ["0 4 * * 1"]
    pid = stack.status(standing.settings, standing.paths)["deployments"]["pid"]
    os.kill(pid, 9)
    # What the scheduler made before, and whose time passes while nothing is served.
    training = deployment(api, "training")["id"]
    past = {"type": "SCHEDULED", "state_details": {"scheduled_time": "2024-01-01T00:00:00Z"}}
    late, asked = (api.ask(f"/deployments/{training}/create_flow_run", {"state": past}) for _ in range(2))
    with sqlite3.connect(standing.paths.prefect / "prefect.db", timeout=30) as database:
        # The API does not let anybody but the scheduler say so.
        changed = database.execute("UPDATE flow_run SET auto_scheduled = 1 WHERE id = ?", (late["id"],))
    assert changed.rowcount == 1

    told = stack.up(standing.settings, standing.paths)

    assert told.started == ("deployments",)
    assert crons() == ["0 4 * * 1"]
    assert [one["schedule"]["cron"] for one in deployment(api, "reconcile")["schedules"]] == ["*/5 * * * *"]
    assert wait_for(api, finished(late["id"]))["state_name"] == "Cancelled"
    # Somebody asked for that one: it is still wanted.
    assert api.ask(f"/flow_runs/{asked['id']}")["state_type"] != "CANCELLED"
    assert schedule("off") == 0
    assert crons() == []


def test_prefect_yaml_deploys_the_same_flows_to_a_work_pool(standing: Any, api: Any) -> None:
    env = {**os.environ, "PREFECT_API_URL": api.url, "PREFECT_HOME": str(standing.paths.prefect)}
    api.ask("/work_pools/", {"name": "captioner", "type": "process"})
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr

    for name in ("training", "reconcile", "experiment", "confirm"):
        pooled, served = api.ask(f"/deployments/name/{name}/pool"), deployment(api, name)
        assert pooled["work_pool_name"] == "captioner"
        # Prefect names the served one from where it looked, which is not always the checkout.
        assert served["entrypoint"].endswith(pooled["entrypoint"])
        assert pooled["parameter_openapi_schema"] == served["parameter_openapi_schema"]
        assert pooled["concurrency_options"] == served["concurrency_options"]
