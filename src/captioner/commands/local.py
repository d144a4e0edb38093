"""The local stack: up, down, status, schedule."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from captioner.commands.adding import Add, as_json
from captioner.commands.showing import show
from captioner.errors import BadEnvironment


def add(verb: Add) -> None:
    """Name the verbs."""
    as_json(verb("up", _up, "start the local stack: Prefect, MLflow, local AWS, deployments, REST API, web app"))
    as_json(verb("down", _down, "stop the local stack; its state stays"))
    as_json(verb("status", _status, "what is up, and what the endpoint serves"))
    _add_emulator(
        verb("emulator", _emulator, "serve a local AWS until it is stopped: SageMaker, S3, CloudWatch, IAM …")
    )
    schedule = verb("schedule", _schedule, "schedule retraining")
    schedule.add_argument("--cron", required=True, help='five fields, e.g. "0 3 * * 1"; "off" ends it')
    schedule.add_argument("--timezone", default="UTC")


def _add_emulator(emulator: argparse.ArgumentParser) -> None:
    from captioner.emulator.options import add_options

    emulator.add_argument("--port", type=int, required=True, help="of 127.0.0.1; 0 is a free one")
    state = "folder that keeps its state (default: a temporary one, removed at the end)"
    emulator.add_argument("--state", type=Path, default=None, metavar="DIR", help=state)
    add_options(emulator)


def _up(options: argparse.Namespace) -> None:
    from captioner import stack
    from captioner.bootstrap import open_app

    app = open_app()
    show(stack.up(app.settings, app.paths), options.json)


def _down(options: argparse.Namespace) -> None:
    from captioner import stack
    from captioner.paths import Paths
    from captioner.settings import Settings

    # Not through params.yaml: a broken one must not keep servers running.
    settings = Settings.from_env(Path.cwd())
    show(stack.down(settings, Paths.of(Path.cwd(), settings)), options.json)


def _status(options: argparse.Namespace) -> None:
    from captioner.status import overview, render

    found = overview()
    print(json.dumps(found, indent=2) if options.json else render(found))


def _emulator(options: argparse.Namespace) -> None:
    from captioner.emulator.options import read_options

    try:
        from captioner.emulator.server import serve
    except ModuleNotFoundError as error:
        missing = f"The local AWS needs {error.name}: install captioner with its extra 'local'."
        raise BadEnvironment(missing) from None
    if options.state:
        serve(read_options(options, options.state))
        return
    with tempfile.TemporaryDirectory(prefix="captioner-aws-") as state:
        serve(read_options(options, Path(state)))


def _schedule(options: argparse.Namespace) -> int:
    from captioner import stack
    from captioner.bootstrap import open_app

    app = open_app()
    return stack.schedule(app.settings, app.paths, cron=options.cron, timezone=options.timezone)
