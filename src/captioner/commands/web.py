"""The web app: Streamlit, in front of the REST API."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from pathlib import Path

from captioner.commands.adding import Add
from captioner.errors import BadEnvironment

# Nothing leaves this machine, and no browser is opened where there may be none.
OPTIONS = {
    "browser.gatherUsageStats": "false",
    "server.headless": "true",
    "server.maxUploadSize": "4",
    "client.toolbarMode": "minimal",
    "theme.primaryColor": "#b4541f",
}


def add(verb: Add) -> None:
    """Name the verb."""
    web = verb("web", _web, "serve the web app in front of the REST API")
    web.add_argument("--host", default="127.0.0.1")
    web.add_argument("--port", type=int, default=8501)


def _web(options: argparse.Namespace) -> None:
    from captioner.paths import Paths
    from captioner.settings import Settings

    if importlib.util.find_spec("streamlit") is None:
        raise BadEnvironment("The web app needs streamlit: install captioner with its extra 'web'.")
    root = Path.cwd()
    settings = Settings.from_env(root)
    url = settings.web_api or Paths.of(root, settings).service_url("api")
    if not url:
        raise BadEnvironment("There is no REST API here: `captioner up` first, or name one in CAPTIONER_WEB_API.")
    app = Path(__file__).resolve().parents[1] / "web" / "app.py"
    named = {**OPTIONS, "server.address": options.host, "server.port": str(options.port)}
    command = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        str(app),
        *(f"--{name}={value}" for name, value in named.items()),
    ]
    os.environ["CAPTIONER_WEB_API"] = url
    print(f"The web app: http://{options.host}:{options.port} (in front of {url})", flush=True)
    os.execv(sys.executable, command)
