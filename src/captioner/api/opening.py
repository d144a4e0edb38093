"""Puts the application together from settings and ports: the same for uvicorn, for Lambda and for tests."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from captioner import __version__
from captioner.api.application import Parts, create
from captioner.api.cached import Cached
from captioner.api.captions import Captions, Fetch
from captioner.api.commits import Commits
from captioner.api.exposures import Exposures
from captioner.api.fetching import Fetcher
from captioner.api.identity import InferenceIds
from captioner.api.journal import Journal, Say
from captioner.api.limits import Buckets, Keys
from captioner.api.lines import Lines, TooMany
from captioner.api.published import NOTHING, Look, Published
from captioner.api.routing import DEADLINE_S, Router
from captioner.api.users import Users
from captioner.api.wiring import Routing
from captioner.errors import BadEnvironment, CaptionerError
from captioner.experiment.document import Experiment

DEFAULT_RATE = 20.0  # requests a second of a key, where there are keys and no setting
ANALYSED_S = 5.0  # how long an analysis is shown
OK = ("InService", "Updating", "SystemUpdating", "RollingBack")  # states in which an endpoint answers


@dataclass(frozen=True)
class Opened:
    """The application, and what outlives a request: what has to be written yet, and the experiment as it was read."""

    app: FastAPI
    exposures: Exposures
    running: Cached[Experiment | None]
    published: Published


def opened(
    routing: Routing,
    say: Say | None = None,
    fetch: Fetch | None = None,
    deadline_s: float = DEADLINE_S,
    ids: InferenceIds | None = None,
) -> Opened:
    """The API of `routing`. Raises BadEnvironment when there is no secret and none can be kept, BadParams."""
    say = say or Journal()
    settings, name, home = routing.settings.api, routing.name, routing.paths.home / "api"
    secret = _secret(routing, home)
    published = Published(routing.documents, name, _look(routing, say) if routing.lasts else None)
    exposures = Exposures(routing.events, name, say, outbox=home if routing.lasts else None)
    running: Cached[Experiment | None] = Cached("running experiment", published.running, None, say)
    router = Router(routing.inference, name, running, exposures, say)
    captions = Captions(
        router, Commits(routing.events, name), ids or InferenceIds(secret, name), fetch or Fetcher(), deadline_s
    )

    def health() -> Mapping[str, Any]:
        status: str | None
        try:
            status = routing.inference.status(name)
        except CaptionerError as error:
            say("unhealthy", error=str(error))
            status = None
        well = "ok" if status in OK else "down"
        return {"status": well, "endpoint": {"name": name, "status": status}, "version": __version__}

    parts = Parts(
        captions=captions,
        exposures=exposures,
        users=Users(secret),
        keys=Keys(settings.keys, settings.testers),
        buckets=Buckets(settings.rate or (DEFAULT_RATE if settings.keys else None)),
        say=say,
        health=Cached("health", health, {}, say, stale_s=5.0),
        experiment=Cached("experiment", published.experiment, NOTHING, say, fresh_s=ANALYSED_S),
        models=Cached("models", published.models, {}, say),
        ledger=Cached("ledger", published.ledger, [], say),
        cors=settings.cors,
    )
    return Opened(create(parts), exposures, running, published)


def _look(routing: Routing, say: Say) -> Look:
    """An analysis of what the log has by now."""
    from captioner.experiment.analysis import analyse, as_json

    lines = Lines(routing.events, routing.name)

    def look(experiment: Experiment) -> Mapping[str, Any] | None:
        try:
            shown, said = lines.of(experiment)
        except TooMany:
            say("too_many_lines", experiment=experiment.id)
            return None
        return as_json(analyse(experiment, shown, said, routing.experiment, datetime.now(UTC)))

    return look


def _secret(routing: Routing, home: Path) -> bytes:
    """The setting's, or that of this machine, which is made once."""
    if (given := routing.secret()) is not None:
        return given.encode()
    file = home / "secret"
    try:
        home.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), open(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as out:
            out.write(secrets.token_hex(32))
        found = file.read_text(encoding="ascii").strip()
    except OSError as error:
        why = error.strerror or error
        raise BadEnvironment(f"{file} cannot be written ({why}): set CAPTIONER_API_SECRET.") from None
    if not found:
        raise BadEnvironment(f"{file} is empty: delete it; what was signed with the old one is not known any more.")
    return found.encode()
