"""The REST API, by hand: ``captioner up`` starts it too."""

from __future__ import annotations

import argparse
from pathlib import Path

from captioner.commands.adding import Add
from captioner.errors import BadEnvironment


def add(verb: Add) -> None:
    """Name the verb."""
    api = verb("api", _api, "serve the REST API in front of the endpoint")
    api.add_argument("--host", default="127.0.0.1")
    api.add_argument("--port", type=int, default=8000)


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
