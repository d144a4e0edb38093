"""What is done with experiments, for CLI verbs and Prefect tasks alike; wired as ``bootstrap`` wires the rest."""

from __future__ import annotations

from pathlib import Path

from captioner.bootstrap import open_app, promote, ramp
from captioner.ledger import Cause
from captioner.stages import experiment as stage


def start(cause: Cause, root: Path | None = None) -> stage.Started:
    """Share out users between champion and challenger from now on. Returns the experiment."""
    app = open_app(root)
    return stage.start(app.params.experiment, app.endpoint(), app.experiments(), app.release(), cause)


def stop(cause: Cause, root: Path | None = None) -> stage.Ended:
    """End the running experiment without a verdict."""
    app = open_app(root)
    return stage.stop(app.experiments(), app.release(), cause)


def status(root: Path | None = None) -> stage.Status:
    """Look at the running or the last experiment, and publish what was seen."""
    app = open_app(root)
    return stage.status(app.experiments(), app.documents(), app.settings.mlflow_uri or "")


def act(found: stage.Status, cause: Cause, root: Path | None = None) -> stage.Act:
    """Ramp, promote or reject, as what was found says. Returns what was done."""
    app = open_app(root)
    return stage.act(
        found,
        app.endpoint(),
        app.experiments(),
        app.release(),
        cause,
        ramp=lambda because, share: ramp(because, [100 * share], root=root),
        promote=lambda because: promote(because, root),
    )
