"""The only place that wires adapters to stages: the CLI verbs and the Prefect tasks both come through here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.acting import acting
from captioner.errors import BadParams
from captioner.ledger import Cause
from captioner.model.runtime import start_tensorflow
from captioner.params import DeployParams, Params, load_params
from captioner.paths import Paths
from captioner.settings import Settings

if TYPE_CHECKING:
    from captioner.book import Book
    from captioner.experiments import Experiments
    from captioner.ports import Documents, Endpoint, Events, Registry, Tracker
    from captioner.stages.moving import Release


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

    def events(self) -> Events:
        from captioner.adapters.s3_events import S3Events

        return S3Events(self.settings, self.paths)

    def experiments(self) -> Experiments:
        """The experiments on the endpoint `name`."""
        from captioner.experiments import Experiments

        return Experiments(self.documents(), self.events(), self.name)

    def book(self) -> Book:
        """The ledger of `name`."""
        from captioner.book import Book

        return Book(self.documents(), self.registry(), self.paths, self.name)

    def release(self) -> Release:
        """What moves aliases and endpoint, and writes it down."""
        from captioner.stages.moving import Release

        return Release(self.params.deploy, self.paths, self.registry(), self.endpoint(), self.book())


def open_app(root: Path | None = None) -> App:
    """The project in `root` (default: here). Raises BadParams when params.yaml or a setting is wrong."""
    root = (root or Path.cwd()).absolute()
    settings = Settings.from_env(root)
    return App(params=load_params(root / "params.yaml"), settings=settings, paths=Paths.of(root, settings))


def run_stage(stage: str, candidate: str | None = None, root: Path | None = None, cause: Cause | None = None) -> Any:
    """Run one stage and return its report. `candidate` is needed by train, export, evaluate and ship.

    `cause` goes into the ledger with what register and deploy change (default: whoever runs this process).
    """
    app = open_app(root)
    if stage not in STAGES:
        raise BadParams(f"There is no stage {stage!r}; the stages are: {', '.join(STAGES)}.")
    if stage in PER_CANDIDATE:
        app.params.decoder(candidate or "")
        return STAGES[stage](app, candidate)
    if stage in RECORDED:
        from captioner.stages.recorded import recorded

        return recorded(app.release(), stage, cause or Cause(acting()), lambda: STAGES[stage](app))
    return STAGES[stage](app)


def promote(cause: Cause, root: Path | None = None) -> Any:
    """The challenger becomes champion. Returns what was moved."""
    from captioner.stages import promote as stage

    return stage.run(*_released(open_app(root)), cause)


def rollback(cause: Cause, to: int | None = None, root: Path | None = None) -> Any:
    """Aliases and endpoint as they were before the last change of the champion, or as entry `to` left them."""
    from captioner.stages import rollback as stage

    return stage.run(*_released(open_app(root)), cause, to)


def reconcile(cause: Cause, dry_run: bool = False, root: Path | None = None) -> Any:
    """The endpoint follows the aliases. Returns what differed, and what was done."""
    from captioner.stages import reconcile as stage

    return stage.run(*_released(open_app(root)), cause, dry_run)


def collect_feedback(root: Path | None = None) -> Any:
    """Corrected captions and their pictures into ``data/feedback``. Returns what was new."""
    from captioner.adapters.served_models import ServedModels
    from captioner.stages import feedback as stage

    app = open_app(root)
    return stage.collect(app.paths, app.events(), ServedModels(app.settings, app.paths), app.name)


def trace(asked: str, root: Path | None = None) -> Any:
    """From a caption, a variant or the endpoint back to the commit."""
    from captioner.adapters.mlflow_tracking import tracking_uri
    from captioner.adapters.served_models import ServedModels
    from captioner.stages import trace as stage

    app = open_app(root)
    served, uri = ServedModels(app.settings, app.paths), tracking_uri(app.settings, app.paths)
    return stage.run(app.paths, app.registry(), app.tracker(), served, app.book(), asked, uri)


def ramp(cause: Cause, percents: Sequence[float], wait_s: float | None = None, root: Path | None = None) -> Any:
    """Traffic to the challenger in steps, each an entry of the ledger. `wait_s`: None for that of params.yaml."""
    from captioner.errors import GateFailed
    from captioner.stages import ramp as stage
    from captioner.stages.recorded import RecordedEndpoint

    app = open_app(root)
    release, params = app.release(), app.params.deploy
    endpoint = RecordedEndpoint(release, "ramp", cause)
    seconds = params.ramp.wait_s if wait_s is None else wait_s
    try:
        return stage.run(params, app.paths, endpoint, app.documents(), app.name, percents, seconds)
    except GateFailed as error:
        now = release.look_as_far_as_possible()
        release.book.write("ramp", cause, now, now, failed=str(error))
        raise


def down(cause: Cause, captured: bool, root: Path | None = None) -> Any:
    """Delete the endpoint and what belongs to it, its captured data on request."""
    from captioner.stages import removal
    from captioner.stages.recorded import recorded

    app = open_app(root)
    release = app.release()
    return recorded(
        release, "down", cause, lambda: removal.run(release.params, app.paths, release.endpoint, app.name, captured)
    )


def _released(app: App) -> tuple[DeployParams, Paths, Registry, Endpoint, Book]:
    return app.params.deploy, app.paths, app.registry(), app.endpoint(), app.book()


def move_data(action: str, root: Path | None = None) -> Any:
    """Push the data to the DVC remote, or pull it. Returns what was moved."""
    from captioner.adapters import dvc_remote

    app = open_app(root)
    move = {"push": dvc_remote.push, "pull": dvc_remote.pull}[action]
    return move(app.settings, app.paths)


def publish_image(tag: str | None = None, root: Path | None = None) -> Any:
    """Build the serving image and push it where the settings say. Returns what was made."""
    from captioner.adapters import serving_image

    app = open_app(root)
    return serving_image.publish(app.settings, app.paths, tag)


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
    start_tensorflow(app.settings.threads, keras=False)
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
    start_tensorflow(app.settings.threads, keras=False)
    from captioner.stages import ship

    return ship.run(app.params, app.paths, candidate, app.settings.threads, app.settings.weights)


def _deploy(app: App) -> Any:
    from captioner.stages import deploy

    return deploy.run(app.params.deploy, app.paths, app.registry(), app.endpoint(), app.name, app.documents())


RECORDED = ("register", "deploy")  # they change aliases or the endpoint
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
