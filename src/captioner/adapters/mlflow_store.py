"""Where MLflow's memory lies and how it is reached: a URI, the local SQLite file, errors in our words.

Three cases, in this order: the setting ``CAPTIONER_MLFLOW_URI``; the local server that ``services.json`` names, when
it answers; the SQLite file that this server stands on, opened directly. The local store keeps its artifacts in a plain
folder, and its experiments carry that folder's path: a ``mlflow-artifacts:`` location would need the server for every
read, while a path is read alike by the server and without it (docs/decisions/0020). A foreign server decides itself.

Knows nothing of runs, models or the gate. Named ``mlflow_*``, since a module ``mlflow`` beside it would be confusing.
"""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from captioner.errors import BadEnvironment, CaptionerError, ServiceUnavailable
from captioner.paths import Paths
from captioner.settings import Settings

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

# MLflow's own defaults wait and retry for minutes before they admit that a server is not there.
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
QUIET = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
PROBE_S = 3.0


def tracking_uri(settings: Settings, paths: Paths) -> str:
    """Where to track: the setting, else the local server when it answers, else its SQLite file."""
    if settings.mlflow_uri:
        return settings.mlflow_uri
    url = paths.service_url("mlflow")
    if url and answers(url):
        return url
    return database_uri(paths)


def database_uri(paths: Paths) -> str:
    """The SQLite file of the local store, as SQLAlchemy names it."""
    return f"sqlite:///{paths.mlflow.absolute() / 'mlflow.db'}"


def artifact_folder(uri: str, paths: Paths) -> Path | None:
    """Where runs of the store at `uri` keep their files: beside the SQLite file; None lets a foreign server decide."""
    file = database_file(uri)
    if file is None and uri == paths.service_url("mlflow"):
        file = database_file(database_uri(paths))
    return file.parent / "artifacts" if file else None


def database_file(uri: str) -> Path | None:
    """The file of a SQLite URI, None for any other."""
    return Path(uri.removeprefix("sqlite:///")).absolute() if uri.startswith("sqlite:///") else None


def answers(url: str, strict: bool = True) -> bool:
    """Does an MLflow server say that it is well at `url`? A taken port that holds something else says no.

    Not `strict`: any HTTP answer will do, since a gateway before a foreign server may refuse to show its health.
    """
    request = urllib.request.Request(f"{url.rstrip('/')}/health")
    # A proxy of the environment must not be asked for a server on this machine.
    local = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if local else []))
    try:
        with opener.open(request, timeout=PROBE_S) as answer:
            return not strict or (answer.status == 200 and answer.read(16).strip() == b"OK")
    except urllib.error.HTTPError as error:
        return not strict and error.code < 500
    except (OSError, ValueError):
        return False


def client(uri: str) -> MlflowClient:
    """A client of the store at `uri`; a SQLite file is created when it is not there yet.

    Raises ServiceUnavailable when a server does not answer (within seconds), BadEnvironment when the disk refuses.
    """
    for name, value in {**QUIET, **PATIENCE}.items():
        os.environ.setdefault(name, value)
    if uri.startswith(("http://", "https://")):
        if not answers(uri, strict=False):
            where = _without_password(uri)
            raise ServiceUnavailable(
                f"MLflow does not answer at {where}: start it (captioner up) or set CAPTIONER_MLFLOW_URI."
            )
    elif (file := database_file(uri)) is not None:
        prepare(file)
    logging.getLogger("mlflow").setLevel(logging.WARNING)  # whoever imported it before us did not ask for quiet
    with in_our_words(uri):
        from mlflow.tracking import MlflowClient

        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def prepare(file: Path) -> None:
    """Create the SQLite file of a store, unless it is there; safe when several processes come at once.

    MLflow builds its schema by running every migration since its first release, each with its own sync of the disk,
    and takes no lock: two processes that meet an empty file break each other. Here one builds it aside, without syncs,
    and renames it into place when it is whole. Raises BadEnvironment when the folder cannot be written.
    """
    if file.exists():
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with (file.parent / f"{file.name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not file.exists():
                _build(file)
    except OSError as error:
        raise BadEnvironment(f"{file.parent} cannot be written: {error.strerror or error}.") from None


def _build(file: Path) -> None:
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".building-") as folder:
        new = Path(folder) / file.name
        # Imported before the loggers are hushed: the import sets their levels.
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        with quiet_logs("mlflow.store.db.utils", "alembic"), _without_syncs(new), in_our_words(str(file)):
            store: Any = SqlAlchemyStore  # MLflow ships without types here
            store(f"sqlite:///{new}", str(file.parent / "artifacts")).engine.dispose()
        os.replace(new, file)


@contextmanager
def _without_syncs(file: Path) -> Iterator[None]:
    """Until the rename nobody needs the file, so it need not survive a power cut."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def relax(connection: Any, _record: Any) -> None:
        if any(Path(row[2]) == file for row in connection.execute("PRAGMA database_list")):
            connection.execute("PRAGMA synchronous=OFF")

    event.listen(Engine, "connect", relax)
    try:
        yield
    finally:
        event.remove(Engine, "connect", relax)


@contextmanager
def quiet_logs(*names: str) -> Iterator[None]:
    """Only warnings and worse of these loggers."""
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def in_our_words(uri: str) -> Iterator[None]:
    """Whatever MLflow, SQLite or the disk raises in this block becomes one of our errors."""
    try:
        yield
    except CaptionerError:
        raise
    except Exception as error:
        translated = _translate(error, uri)
        if translated is None:
            raise
        raise translated from error


def _translate(error: Exception, uri: str) -> CaptionerError | None:
    from mlflow.exceptions import MlflowException

    where = _without_password(uri)
    said = " ".join(str(error).split())
    if isinstance(error, OSError) and not isinstance(error, urllib.error.URLError):
        if type(error).__module__.startswith("requests"):
            return ServiceUnavailable(f"MLflow does not answer at {where}: start it (captioner up) and try again.")
        return BadEnvironment(f"MLflow's files cannot be used: {error}.")
    if not isinstance(error, MlflowException) and not type(error).__module__.startswith("sqlalchemy"):
        return None
    if "failed with exception" in said or "failed with timeout" in said:
        return ServiceUnavailable(f"MLflow does not answer at {where}: start it (captioner up) and try again.")
    if "out-of-date database schema" in said:
        return BadEnvironment(f"MLflow's database is of another release of MLflow: run `mlflow db upgrade {where}`.")
    if "database is locked" in said:
        return ServiceUnavailable(f"MLflow's database is busy ({where}): try again.")
    if any(sign in said for sign in ("readonly database", "disk is full", "unable to open database", "disk I/O error")):
        return BadEnvironment(f"MLflow's database cannot be written ({where}): check the disk and its permissions.")
    if "file is not a database" in said or "malformed" in said:
        return BadEnvironment(f"MLflow's database is damaged ({where}): restore it, or move it away to start anew.")
    return BadEnvironment(f"MLflow at {where} refused: {said[:300].rstrip('.')}.")


def _without_password(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.password is None:
        return uri
    host = parts.hostname or ""
    return parts._replace(netloc=f"{parts.username}@{host}" + (f":{parts.port}" if parts.port else "")).geturl()
