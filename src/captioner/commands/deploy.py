"""What answers: plan a change of the endpoint, apply it, move traffic in steps, take it down."""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
from typing import Any

from captioner.commands.adding import Add, as_json
from captioner.commands.showing import show
from captioner.errors import BadInput


def add(verb: Add) -> Any:
    """Name the verb and its actions; returns the actions' subparsers, for those that live elsewhere."""
    deploy = as_json(verb("deploy", _apply, "bring the endpoint in line with champion and challenger"))
    actions = deploy.add_subparsers(metavar="ACTION")
    plan = verb("plan", _plan, "what apply would do: each call, what changes, what it costs", actions)
    apply = verb("apply", _apply, "do it; the same as plain deploy", actions)
    ramp = verb("ramp", _ramp, "move traffic to the challenger in steps, back by itself", actions)
    ramp.add_argument("percents", nargs="+", type=float, metavar="PERCENT", help="of the traffic, e.g. 10 25 50")
    ramp.add_argument("--wait", type=int, metavar="SECONDS", help="that each step is watched (default: deploy.ramp)")
    down = verb("down", _down, "delete endpoint, configs, models and alarms, and show what is left", actions)
    down.add_argument("--with-captured-data", action="store_true", help="the captured requests and answers too")
    down.add_argument("--yes", action="store_true", help="do not ask")
    for action in (plan, apply, ramp, down):
        # Without a default: an action's own would hide what was said before its name (`deploy --json plan`).
        action.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="one JSON object")
    return actions


def _plan(options: argparse.Namespace) -> int:
    from captioner.bootstrap import open_app
    from captioner.release.showing import render
    from captioner.stages import deploy

    app = open_app()
    todo = deploy.plan(app.params.deploy, app.paths, app.registry(), app.endpoint(), app.name, app.documents())
    print(json.dumps(dataclasses.asdict(todo), indent=2, sort_keys=True) if options.json else render(todo))
    return 1 if todo.refusals else 0


def _apply(options: argparse.Namespace) -> None:
    from captioner.bootstrap import run_stage

    _as_interrupt()
    show(run_stage("deploy"), options.json)


def _ramp(options: argparse.Namespace) -> None:
    from captioner.bootstrap import open_app
    from captioner.stages import ramp

    _as_interrupt()
    app = open_app()
    wait_s = app.params.deploy.ramp.wait_s if options.wait is None else options.wait
    report = ramp.run(app.params.deploy, app.paths, app.endpoint(), app.documents(), app.name, options.percents, wait_s)
    show(report, options.json)


def _down(options: argparse.Namespace) -> None:
    from captioner.bootstrap import open_app
    from captioner.stages import removal

    app = open_app()
    if not options.yes:
        _ask(f"Delete the endpoint {app.name} and everything that belongs to it?")
    show(removal.run(app.params.deploy, app.paths, app.endpoint(), app.name, options.with_captured_data), options.json)


def _as_interrupt() -> None:
    """Whoever ends this politely (a service manager, `kill`) gets what Ctrl-C gets: a ramp goes back."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise BadInput("Nobody can be asked here whether to delete the endpoint: say --yes.")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise BadInput("Nothing was deleted.")
