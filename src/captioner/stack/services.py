"""The services of the stack: how each is started, where it answers, how long that may take.

Bound to 127.0.0.1 only, telemetry off. A service that a setting points elsewhere is not started here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from captioner.paths import Paths
from captioner.settings import Settings
from captioner.stack.processes import HOST

# What would lead a service of ours to somebody else's server or database.
FOREIGN = (
    "PREFECT_API_AUTH_STRING",
    "PREFECT_API_DATABASE_CONNECTION_URL",
    "PREFECT_API_KEY",
    "PREFECT_API_URL",
    "PREFECT_PROFILE",
    "PREFECT_PROFILES_PATH",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL",
    "MLFLOW_BACKEND_STORE_URI",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_TRACKING_URI",
)
QUIET = {
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DVC_NO_ANALYTICS": "1",
}


@dataclass(frozen=True)
class Service:
    """One service. `after` must be healthy before this one is started; `page` is what a person opens, if anything."""

    name: str
    first_port: int
    health: str
    after: tuple[str, ...] = ()
    page: str | None = None


def wanted(settings: Settings) -> list[Service]:
    """The services that these settings leave to the local stack."""
    services = []
    if settings.prefect_api is None:
        services.append(Service("prefect", settings.port_prefect, "/api/health", page=""))
    if settings.mlflow_uri is None:
        services.append(Service("mlflow", settings.port_mlflow, "/health", page=""))
    if settings.aws == "local":
        services.append(Service("aws", settings.port_aws, "/_captioner/health"))
    after = ("prefect",) if settings.prefect_api is None else ()
    services.append(Service("deployments", settings.port_prefect + 20, "/health", after=after))
    return services


def command(service: Service, port: int, paths: Paths) -> list[str]:
    """The command line that serves `service` on `port`."""
    python = sys.executable
    if service.name == "prefect":
        return [python, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]
    if service.name == "mlflow":
        # Runs written without the server must be readable through it: one database, plain file artifacts.
        return [
            *(python, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{paths.mlflow / 'mlflow.db'}"),
            *("--default-artifact-root", (paths.mlflow / "artifacts").as_uri()),
            *("--artifacts-destination", (paths.mlflow / "artifacts").as_uri()),
        ]
    if service.name == "aws":
        return [python, "-m", "captioner.emulator", "--port", str(port), "--home", str(paths.aws)]
    return [python, "-m", "flows.serve_deployments"]


def environment(service: Service, port: int, paths: Paths, prefect_api: str | None) -> dict[str, str]:
    """The environment of `service`: the user's, minus what leads elsewhere, plus what keeps it quiet and at home."""
    env = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    env |= QUIET | {
        "CAPTIONER_HOME": str(paths.home),
        "PREFECT_HOME": str(paths.prefect),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(paths.root), os.environ.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",
    }
    if service.name == "prefect":
        # One SQLite file under a server, served flows and command lines: wait for a lock, do not fail.
        env |= {"PREFECT_API_URL": f"http://{HOST}:{port}/api", "PREFECT_SERVER_DATABASE_TIMEOUT": "60"}
    if service.name == "mlflow":
        env |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    if service.name == "deployments":
        env |= flow_environment(paths, prefect_api or "")
        env |= {"PREFECT_RUNNER_SERVER_HOST": HOST, "PREFECT_RUNNER_SERVER_PORT": str(port)}
    return env


def flow_environment(paths: Paths, prefect_api: str, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a process that runs flows needs on top of `base`."""
    return {
        **(base or {}),
        **QUIET,
        "PREFECT_API_URL": prefect_api,
        "PREFECT_HOME": str(paths.prefect),
        "PYTHONUNBUFFERED": "1",
    }
