"""Wires what the API works with: settings, the endpoint's name, and the adapters that ask it and keep the log.

Apart from ``bootstrap.py``, which wires stages: a function in Lambda has neither params.yaml nor a registry.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from captioner.bootstrap import open_app
from captioner.experimentparams import ExperimentParams
from captioner.paths import Paths
from captioner.ports import Documents, Events, Inference
from captioner.settings import Settings


@dataclass(frozen=True)
class Routing:
    """What a router in front of the endpoint `name` works with, here and in Lambda."""

    name: str
    settings: Settings
    paths: Paths
    inference: Inference
    documents: Documents
    events: Events
    experiment: ExperimentParams = field(default_factory=ExperimentParams)  # for what its design does not say
    lasts: bool = True  # a process that lives on, and files that outlive it: not so in Lambda

    def secret(self) -> str | None:
        """What the API signs with, None when no setting says. Raises BadEnvironment, ServiceUnavailable."""
        from captioner.adapters.secret import revealed

        given = self.settings.api.secret
        return given and revealed(given)


def open_routing(root: Path | None = None, lasts: bool = True) -> Routing:
    """The router of the project in `root` (default: here), or anywhere of the endpoint that a setting names.

    Raises BadParams.
    """
    from captioner.adapters.s3_documents import S3Documents
    from captioner.adapters.s3_events import S3Events
    from captioner.adapters.sagemaker_runtime import SageMakerInference

    root = (root or Path.cwd()).absolute()
    settings = Settings.from_env(root)
    paths = Paths.of(root, settings)
    app = None if settings.endpoint and not paths.params.exists() else open_app(root)
    name = settings.endpoint or (app.name if app else "")
    params = app.params.experiment if app else ExperimentParams()
    where = (settings, paths)
    return Routing(name, *where, SageMakerInference(*where), S3Documents(*where), S3Events(*where), params, lasts)
