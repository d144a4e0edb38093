"""Flows from the command line: make sure that the stack is up, then run one in a process of its own.

Knows no Prefect: flows sit above the CLI and are started as ``python -m flows.…``.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence

from captioner.paths import Paths
from captioner.settings import Settings
from captioner.stack import control, services


def run_flow(settings: Settings, paths: Paths, release: bool = True, force: bool = False) -> int:
    """Run the training flow against the standing stack, which is started when it is not up. Returns the exit code."""
    ensure_up(settings, paths)
    options = ([] if release else ["--no-release"]) + (["--force"] if force else [])
    code = run_module("flows.training", options, settings, paths)
    print(places(settings, paths))
    return code


def schedule(settings: Settings, paths: Paths, cron: str, timezone: str = "UTC") -> int:
    """Give the served training deployment a cron schedule, or take it away (``off``). Returns the exit code."""
    ensure_up(settings, paths)
    return run_module("flows.schedule", ["training", "--cron", cron, "--timezone", timezone], settings, paths)


def ensure_up(settings: Settings, paths: Paths) -> None:
    """Start whatever of the stack is not up, and say so."""
    wanted = {one.name for one in services.wanted(settings, paths)}
    healthy = {name for name, one in control.status(settings, paths).items() if one["healthy"]}
    if wanted <= healthy:
        return
    print(f"Starting the local stack ({', '.join(sorted(wanted - healthy))}); `captioner down` stops it.", flush=True)
    control.up(settings, paths)


def run_module(module: str, options: Sequence[str], settings: Settings, paths: Paths) -> int:
    """Run ``python -m module`` with the local Prefect as its server. What ends us ends it; its exit code is ours."""
    env = services.flow_environment(settings, paths, control.prefect_api(settings, paths) or "")
    child = subprocess.Popen([sys.executable, "-m", module, *options], cwd=paths.root, env=env)
    # `kill` and service managers tell one process only.
    usual = signal.signal(signal.SIGTERM, lambda number, _: child.send_signal(number))
    try:
        while True:
            try:
                code = child.wait()
            except KeyboardInterrupt:
                continue  # the terminal sent it to the child as well, which ends in its own time
            return 128 - code if code < 0 else code
    finally:
        signal.signal(signal.SIGTERM, usual)


def places(settings: Settings, paths: Paths) -> str:
    """Where the user interfaces are."""
    found = control.status(settings, paths)
    lines = [f"{name:<8} {found[name]['url']}" for name in ("prefect", "mlflow") if name in found]
    return "\n".join(["", *lines, "`captioner status` shows what is served, `captioner down` stops it all."])
