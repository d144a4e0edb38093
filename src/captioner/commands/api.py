"""The REST API, by hand (``captioner up`` starts it too), and what its users said, to train on."""

from __future__ import annotations

import argparse
from pathlib import Path

from captioner.commands.adding import Add, as_json
from captioner.commands.showing import show
from captioner.errors import BadEnvironment


def add(verb: Add) -> None:
    """Name the verb."""
    api = verb("api", _api, "serve the REST API in front of the endpoint")
    api.add_argument("--host", default="127.0.0.1")
    api.add_argument("--port", type=int, default=8000)
    as_json(verb("feedback", _feedback, "bring corrected captions and their pictures into data/feedback, to train on"))


def _api(options: argparse.Namespace) -> None:
    from captioner.paths import Paths
    from captioner.settings import Settings

    try:
        from captioner.api.starting import serve
    except ModuleNotFoundError as error:
        raise BadEnvironment(f"The REST API needs {error.name}: install captioner with its extra 'api'.") from None
    root = Path.cwd()
    settings = Settings.from_env(root)
    serve(settings, Paths.of(root, settings), options.host, options.port)


def _feedback(options: argparse.Namespace) -> None:
    from captioner.bootstrap import collect_feedback

    show(collect_feedback(), options.json)
