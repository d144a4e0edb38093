"""Where it runs: the environment, read once. Nothing here may change what is computed.

Knows nothing of params.yaml. Every variable is listed in README's configuration table (a test compares them).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from captioner.errors import BadParams

VARIABLES = {
    "CAPTIONER_HOME": "folder of the local state (default: .captioner in the project)",
    "CAPTIONER_FLICKR8K": "folder or URL that holds Flickr8k (default: the public release's URL)",
    "CAPTIONER_WORD_VECTORS": "folder that relative word vector files are looked up in (default: the project)",
    "CAPTIONER_FEATURE_STORE": "folder of the feature store (default: .captioner/features)",
    "CAPTIONER_WEIGHTS": "folder with encoder weights as keras.applications names them (default: download)",
    "CAPTIONER_MLFLOW_URI": "tracking and registry server (default: the local one, or its SQLite file)",
    "CAPTIONER_PREFECT_API": "Prefect API (default: the local server)",
    "CAPTIONER_AWS": "local (default) or real: only real ever reaches AWS",
    "CAPTIONER_AWS_ROLE": "execution role of the served models, an ARN (needed with CAPTIONER_AWS=real)",
    "CAPTIONER_AWS_IMAGE": "URI of the serving image in ECR (needed with CAPTIONER_AWS=real)",
    "CAPTIONER_AWS_BUCKET": "bucket that model archives go to (needed with CAPTIONER_AWS=real)",
    "CAPTIONER_AWS_TIME_SCALE": "the local AWS's minutes as a part of AWS's (default 1; 0.01: ten are 6 s)",
    "CAPTIONER_PORT_MLFLOW": "first port tried for MLflow (default 5000)",
    "CAPTIONER_PORT_PREFECT": "first port tried for Prefect (default 4200)",
    "CAPTIONER_PORT_AWS": "first port tried for the local AWS (default 5566)",
    "CAPTIONER_PORT_API": "first port tried for the REST API (default 8000)",
    "CAPTIONER_PORT_WEB": "first port tried for the web app (default 8501)",
    "CAPTIONER_API_ENDPOINT": "endpoint that the REST API asks (default: that of params.yaml)",
    "CAPTIONER_API_KEYS": "NAME:KEY,… that may ask the REST API (default: everybody may)",
    "CAPTIONER_API_RATE": "requests a second that one caller of the REST API may make (default 20)",
    "CAPTIONER_API_SECRET": "what the REST API signs ids and cookies with (default: made once, in CAPTIONER_HOME)",
    "CAPTIONER_API_ORIGINS": "web pages, separated by commas, that may call the REST API (default: none)",
    "CAPTIONER_WEB_API": "URL of the REST API that the web app asks (default: the local one)",
    "CAPTIONER_WEB_KEY": "key that the web app shows the REST API (default: none)",
    "CAPTIONER_THREADS": "threads for TensorFlow (default: one per core)",
    "CAPTIONER_PROGRESS": "bar, json or none (default: bar on a terminal, none elsewhere)",
}


@dataclass(frozen=True)
class Settings:
    """One process's view of the environment. Paths are absolute."""

    home: Path
    flickr8k: str | None
    word_vectors: Path
    feature_store: Path
    weights: Path | None
    mlflow_uri: str | None
    prefect_api: str | None
    aws: str
    port_mlflow: int
    port_prefect: int
    port_aws: int
    threads: int
    progress: str | None
    aws_role: str | None = None
    aws_image: str | None = None
    aws_bucket: str | None = None
    aws_time_scale: float = 1.0
    port_api: int = 8000
    port_web: int = 8501
    api_endpoint: str | None = None
    api_keys: Mapping[str, str] = field(default_factory=dict)
    api_rate: int = 20
    api_secret: str | None = None
    api_origins: tuple[str, ...] = ()
    web_api: str | None = None

    @classmethod
    def from_env(cls, root: Path, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the variables above. Raises BadParams for an unknown CAPTIONER_* name or a bad value."""
        env = os.environ if environ is None else environ
        unknown = sorted(name for name in env if name.startswith("CAPTIONER_") and name not in VARIABLES)
        if unknown:
            raise BadParams(f"{unknown[0]} is not a setting; the valid ones are: {', '.join(VARIABLES)}.")
        home = _path(env.get("CAPTIONER_HOME"), root) or root / ".captioner"
        weights = _path(env.get("CAPTIONER_WEIGHTS"), root)
        return cls(
            home=home,
            flickr8k=env.get("CAPTIONER_FLICKR8K") or None,
            word_vectors=_path(env.get("CAPTIONER_WORD_VECTORS"), root) or root,
            feature_store=_path(env.get("CAPTIONER_FEATURE_STORE"), root) or home / "features",
            weights=weights,
            mlflow_uri=env.get("CAPTIONER_MLFLOW_URI") or None,
            prefect_api=env.get("CAPTIONER_PREFECT_API") or None,
            aws=_one_of(env, "CAPTIONER_AWS", ("local", "real")) or "local",
            port_mlflow=_number(env, "CAPTIONER_PORT_MLFLOW", 5000),
            port_prefect=_number(env, "CAPTIONER_PORT_PREFECT", 4200),
            port_aws=_number(env, "CAPTIONER_PORT_AWS", 5566),
            threads=_number(env, "CAPTIONER_THREADS", os.cpu_count() or 1),
            progress=_one_of(env, "CAPTIONER_PROGRESS", ("bar", "json", "none")),
            aws_role=env.get("CAPTIONER_AWS_ROLE") or None,
            aws_image=env.get("CAPTIONER_AWS_IMAGE") or None,
            aws_bucket=env.get("CAPTIONER_AWS_BUCKET") or None,
            aws_time_scale=_factor(env, "CAPTIONER_AWS_TIME_SCALE"),
            port_api=_number(env, "CAPTIONER_PORT_API", 8000),
            port_web=_number(env, "CAPTIONER_PORT_WEB", 8501),
            api_endpoint=env.get("CAPTIONER_API_ENDPOINT") or None,
            api_keys=_keys(env, "CAPTIONER_API_KEYS"),
            api_rate=_number(env, "CAPTIONER_API_RATE", 20),
            api_secret=env.get("CAPTIONER_API_SECRET") or None,
            web_api=env.get("CAPTIONER_WEB_API") or None,
            api_origins=tuple(one.strip() for one in env.get("CAPTIONER_API_ORIGINS", "").split(",") if one.strip()),
        )


def _path(value: str | None, root: Path) -> Path | None:
    return (root / Path(value).expanduser()).absolute() if value else None


def _one_of(env: Mapping[str, str], name: str, valid: tuple[str, ...]) -> str | None:
    value = env.get(name) or None
    if value is not None and value not in valid:
        raise BadParams(f"{name} is {value!r}; the valid values are: {', '.join(valid)}.")
    return value


def _keys(env: Mapping[str, str], name: str) -> dict[str, str]:
    pairs = [one.strip().partition(":") for one in env.get(name, "").split(",") if one.strip()]
    if not all(holder and key for holder, _, key in pairs) or len({holder for holder, _, _ in pairs}) != len(pairs):
        raise BadParams(f"{name} must be NAME:KEY pairs with different names, separated by commas.")
    return {holder: key for holder, _, key in pairs}


def _number(env: Mapping[str, str], name: str, default: int) -> int:
    value = env.get(name) or str(default)
    if not value.isdigit() or not 0 < int(value) < 65536:
        raise BadParams(f"{name} is {value!r}; it must be a whole number from 1 to 65535.")
    return int(value)


def _factor(env: Mapping[str, str], name: str) -> float:
    value = env.get(name) or "1"
    try:
        found = float(value)
    except ValueError:
        found = 0.0
    if not 0 < found <= 1:
        raise BadParams(f"{name} is {value!r}; it must be a number larger than 0 and at most 1.")
    return found
