"""From settings to a running application: what is wired, and how it is served here."""

from __future__ import annotations

import os
import secrets
import signal
import tempfile
from contextlib import suppress
from pathlib import Path

from captioner.adapters.aws import asking_account
from captioner.adapters.s3_documents import S3Documents
from captioner.adapters.s3_events import S3Events
from captioner.adapters.sagemaker_runtime import SageMakerRuntime
from captioner.api.application import Parts, create_app
from captioner.api.fetching import fetch
from captioner.api.journal import Journal
from captioner.api.limits import Keys, Rates
from captioner.api.pages import Pages
from captioner.api.router import Current, Router
from captioner.api.service import Service
from captioner.errors import BadEnvironment, BadParams
from captioner.experiments import Experiments
from captioner.paths import Paths
from captioner.settings import Settings

GRACE_S = 10  # for requests that are being answered when we are told to end


def parts(settings: Settings, paths: Paths, name: str) -> Parts:
    """The application's parts for the endpoint `name`."""
    where = asking_account(settings, paths) if settings.aws == "real" else None
    documents, events = S3Documents(settings, paths, where), S3Events(settings, paths, where)
    runtime, experiments = SageMakerRuntime(settings, paths, where), Experiments(documents, events, name)
    journal, current = Journal(events, name), Current(experiments.current)
    service = Service(name, secret(settings, paths), Router(runtime, name), journal, current)
    rates = Rates(settings.api_rate, 2.0 * settings.api_rate)
    pages = Pages(experiments, documents)
    return Parts(service, pages, runtime, Keys(settings.api_keys), rates, fetch, settings.api_origins)


def endpoint(settings: Settings, root: Path) -> str:
    """The endpoint that is asked: the setting's, else that of params.yaml. Raises BadParams."""
    if settings.api_endpoint:
        return settings.api_endpoint
    from captioner.bootstrap import open_app

    return open_app(root).name


def secret(settings: Settings, paths: Paths) -> str:
    """What ids and cookies are signed with. Raises BadParams on AWS when the setting is missing."""
    if settings.api_secret:
        return settings.api_secret
    if settings.aws == "real":
        raise BadParams("CAPTIONER_AWS=real also needs CAPTIONER_API_SECRET: all instances sign with the same.")
    file = paths.home / "api-secret"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=".api-secret.") as new:  # mode 600
            new.write(secrets.token_hex(32))
            new.flush()
            with suppress(FileExistsError):  # another process was first: its secret is everybody's
                os.link(new.name, file)
    return file.read_text(encoding="utf-8")


def serve(settings: Settings, paths: Paths, host: str, port: int) -> None:
    """Serve until SIGTERM or Ctrl-C; what is being answered is answered, what was logged is written.

    Raises BadEnvironment when the port is taken.
    """
    import uvicorn

    app = create_app(parts(settings, paths, endpoint(settings, paths.root)))
    server = uvicorn.Server(
        uvicorn.Config(
            app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=GRACE_S, access_log=False
        )
    )
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, lambda number, frame: None)  # uvicorn has its own, and raises the signal again at the end
    with suppress(SystemExit):
        server.run()
    if not server.started:
        raise BadEnvironment(f"Port {port} cannot be used: it is taken, or not allowed; choose another.")
