"""The services of the stack: how each is started, where it answers, what it must come after.

Bound to 127.0.0.1 only, telemetry off. A service that a setting points elsewhere is not started here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

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
KEYS = ("PREFECT_API_AUTH_STRING", "PREFECT_API_KEY")
QUIET = {
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DVC_NO_ANALYTICS": "1",
}
DEPLOYMENTS_ABOVE_PREFECT = 20  # its health page's first port: nobody opens it, so it has no setting of its own

Environment = Callable[[int, Mapping[str, str]], Mapping[str, str]]


@dataclass(frozen=True)
class Service:
    """One service. It is healthy when `health` (a path) answers 200, and started when all of `after` are healthy."""

    name: str
    first_port: int
    health: str
    command: Callable[[int], Sequence[str]]  # port → command line
    env: Environment = field(default=lambda port, urls: {})  # port, URLs of the running services → more environment
    after: tuple[str, ...] = ()


def wanted(settings: Settings, paths: Paths) -> list[Service]:
    """The services that these settings leave to the local stack."""
    services = []
    if settings.prefect_api is None:
        services.append(_prefect(settings.port_prefect))
    if settings.mlflow_uri is None:
        services.append(_mlflow(settings.port_mlflow, paths))
    if settings.aws == "local":
        services.append(_aws(settings.port_aws, paths, settings.aws_time_scale))
    services.append(_deployments(settings, paths))
    if settings.aws == "local":
        services += [_api(settings), _web(settings)]
    return services


def _prefect(port: int) -> Service:
    def env(port: int, urls: Mapping[str, str]) -> dict[str, str]:
        return {
            "PREFECT_API_URL": f"http://{HOST}:{port}/api",
            # One SQLite file under a server, served flows and command lines: wait for a lock, do not fail.
            "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
            # A schedule that was set in the UI is looked at this often; by default a whole minute may pass.
            "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "15",
        }

    def command(port: int) -> list[str]:
        return [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]

    return Service("prefect", port, "/api/health", command, env)


def _mlflow(port: int, paths: Paths) -> Service:
    def command(port: int) -> list[str]:
        return [sys.executable, "-m", "captioner.stack.mlflow_server", str(port), str(paths.mlflow / "mlflow.db")]

    # Its job runner is eight more processes that nothing here uses.
    return Service(
        "mlflow", port, "/health", command, lambda port, urls: {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    )


def _aws(port: int, paths: Paths, time_scale: float) -> Service:
    def command(port: int) -> list[str]:
        program = [sys.executable, "-m", "captioner.emulator", "--port", str(port), "--home", str(paths.aws)]
        return [*program, "--time-scale", str(time_scale)]

    return Service("aws", port, "/_captioner/health", command)


def _api(settings: Settings) -> Service:
    def command(port: int) -> list[str]:
        return [sys.executable, "-m", "captioner", "api", "--port", str(port)]

    return Service("api", settings.port_api, "/openapi.json", command, after=("aws",))


def _web(settings: Settings) -> Service:
    def command(port: int) -> list[str]:
        return [sys.executable, "-m", "captioner", "web", "--port", str(port)]

    def env(port: int, urls: Mapping[str, str]) -> dict[str, str]:
        return {"CAPTIONER_WEB_API": settings.web_api or urls["api"]}

    return Service("web", settings.port_web, "/_stcore/health", command, env, after=("api",))


def _deployments(settings: Settings, paths: Paths) -> Service:
    def env(port: int, urls: Mapping[str, str]) -> dict[str, str]:
        api = settings.prefect_api or f"{urls['prefect']}/api"
        address = {"PREFECT_RUNNER_SERVER_HOST": HOST, "PREFECT_RUNNER_SERVER_PORT": str(port)}
        return flow_environment(settings, paths, api) | address

    first = settings.port_prefect + DEPLOYMENTS_ABOVE_PREFECT
    after = () if settings.prefect_api else ("prefect",)
    return Service(
        "deployments", first, "/health", lambda port: [sys.executable, "-m", "flows.serve_deployments"], env, after
    )


def base_environment(paths: Paths) -> dict[str, str]:
    """What everything gets: the user's environment, less what leads elsewhere, and what keeps it quiet and at home."""
    env = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    at_home = {
        "CAPTIONER_HOME": str(paths.home),
        "PREFECT_HOME": str(paths.prefect),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(paths.root), os.environ.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",
    }
    return env | QUIET | at_home


def flow_environment(settings: Settings, paths: Paths, prefect_api: str) -> dict[str, str]:
    """What a process that runs flows gets. A server that is not ours is shown the user's key."""
    keys = KEYS if settings.prefect_api else ()
    shown = {name: os.environ[name] for name in keys if name in os.environ}
    return base_environment(paths) | shown | {"PREFECT_API_URL": prefect_api}
