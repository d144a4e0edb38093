"""The only place that wires adapters to stages: the CLI verbs and the Prefect tasks both come through here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.errors import BadParams
from captioner.model.runtime import start_tensorflow
from captioner.params import Params, load_params
from captioner.paths import Paths
from captioner.settings import Settings

if TYPE_CHECKING:
    from captioner.ports import Documents, Endpoint, Registry, Tracker


@dataclass(frozen=True)
class App:
    """One project on one machine: what is computed, where it runs, where its files lie."""

    params: Params
    settings: Settings
    paths: Paths

    @property
    def name(self) -> str:
        """The experiment, the registered model and the endpoint of this dataset: profiles of one dataset compete."""
        return f"captioner-{self.params.acquire.dataset}"

    def has_registry(self) -> bool:
        """Is there a registry that could be asked? Looking creates nothing and imports no MLflow."""
        from captioner.adapters.mlflow_store import database_file, database_uri

        file = database_file(database_uri(self.paths))
        return self.settings.mlflow_uri is not None or (file is not None and file.exists())

    def tracker(self) -> Tracker:
        from captioner.adapters.mlflow_tracking import MlflowTracker, tracking_uri

        return MlflowTracker(tracking_uri(self.settings, self.paths), self.name, self.paths)

    def registry(self) -> Registry:
        from captioner.adapters.mlflow_registry import MlflowRegistry
        from captioner.adapters.mlflow_tracking import tracking_uri

        return MlflowRegistry(tracking_uri(self.settings, self.paths), self.paths)

    def endpoint(self) -> Endpoint:
        from captioner.adapters.sagemaker import SageMakerEndpoint

        return SageMakerEndpoint(self.settings, self.paths)

    def documents(self) -> Documents:
        from captioner.adapters.s3_documents import S3Documents

        return S3Documents(self.settings, self.paths)


def open_app(root: Path | None = None) -> App:
    """The project in `root` (default: here). Raises BadParams when params.yaml or a setting is wrong."""
    root = (root or Path.cwd()).absolute()
    settings = Settings.from_env(root)
    return App(params=load_params(root / "params.yaml"), settings=settings, paths=Paths.of(root, settings))


def run_stage(stage: str, candidate: str | None = None, root: Path | None = None) -> Any:
    """Run one stage and return its report. `candidate` is needed by train, export, evaluate and ship."""
    app = open_app(root)
    if stage not in STAGES:
        raise BadParams(f"There is no stage {stage!r}; the stages are: {', '.join(STAGES)}.")
    if stage in PER_CANDIDATE:
        app.params.decoder(candidate or "")
        return STAGES[stage](app, candidate)
    return STAGES[stage](app)


def move_data(action: str, root: Path | None = None) -> Any:
    """Push the data to the DVC remote, or pull it. Returns what was moved."""
    from captioner.adapters import dvc_remote

    app = open_app(root)
    move = {"push": dvc_remote.push, "pull": dvc_remote.pull}[action]
    return move(app.settings, app.paths)


def _acquire(app: App) -> Any:
    from captioner.stages import acquire

    return acquire.run(app.params.acquire, app.paths, app.settings)


def _validate(app: App) -> Any:
    from captioner.stages import validate

    return validate.run(app.params.validate_, app.paths)


def _features(app: App) -> Any:
    from captioner.stages import features

    return features.run(app.params.features, app.paths, app.settings)


def _train(app: App, candidate: str) -> Any:
    start_tensorflow(app.settings.threads)
    from captioner.stages import train

    return train.run(
        app.params.train,
        app.params.decoder(candidate),
        app.paths,
        candidate,
        tracker=app.tracker(),
        word_vectors=app.settings.word_vectors,
        weights=app.settings.weights,
    )


def _export(app: App, candidate: str) -> Any:
    start_tensorflow(app.settings.threads)
    from captioner.stages import export

    return export.run(app.params.export, app.paths, candidate, weights=app.settings.weights)


def _evaluate(app: App, candidate: str) -> Any:
    start_tensorflow(app.settings.threads)
    from captioner.stages import evaluate

    return evaluate.run(app.params.evaluate, app.paths, candidate)


def _register(app: App) -> Any:
    from captioner.stages import register

    return register.run(
        app.params.register_,
        app.paths,
        app.tracker(),
        app.registry(),
        app.name,
        app.params.candidates,
        threads=app.settings.threads,
        weights=app.settings.weights,
    )


def _ship(app: App, candidate: str) -> Any:
    start_tensorflow(app.settings.threads)
    from captioner.stages import ship

    return ship.run(app.params, app.paths, candidate, app.settings.threads, app.settings.weights)


def _deploy(app: App) -> Any:
    from captioner.stages import deploy

    return deploy.run(app.params.deploy, app.paths, app.registry(), app.endpoint(), app.name)


PER_CANDIDATE = ("train", "export", "evaluate", "ship")
STAGES: dict[str, Callable[..., Any]] = {
    "acquire": _acquire,
    "validate": _validate,
    "features": _features,
    "train": _train,
    "export": _export,
    "evaluate": _evaluate,
    "register": _register,
    "deploy": _deploy,
    "ship": _ship,
}
