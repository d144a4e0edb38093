"""What is done with experiments, for CLI verbs and Prefect tasks alike; wired as ``bootstrap`` wires the rest."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from captioner.bootstrap import App, open_app, promote, ramp
from captioner.errors import CaptionerError
from captioner.experiments import Experiments
from captioner.ledger import Cause
from captioner.stages import experiment as stage
from captioner.stages import experiment_run


def start(cause: Cause, root: Path | None = None) -> stage.Started:
    """Share out users between champion and challenger from now on. Returns the experiment."""
    app = open_app(root)
    return stage.start(app.params.experiment, app.endpoint(), app.experiments(), app.release(), cause)


def stop(cause: Cause, root: Path | None = None) -> stage.Ended:
    """End the running experiment without a verdict."""
    app = open_app(root)
    experiments = app.experiments()
    ended = stage.stop(experiments, app.release(), cause)
    with suppress(CaptionerError):  # it is over, whether MLflow answers or not; the next look writes this down
        _seen(app, stage.look(experiments))
    return ended


def status(root: Path | None = None) -> stage.Status:
    """Look at the running or the last experiment, and publish what was seen."""
    app = open_app(root)
    found = stage.look(app.experiments())
    stage.publish(found, app.name, app.documents())
    return found


def look(root: Path | None = None, experiments: Experiments | None = None) -> stage.Status:
    """The same, and onto the experiment's run in MLflow: what the hourly flow does.

    `experiments`: whoever looks again and again keeps them, and what they have read.
    """
    app = open_app(root)
    found = stage.look(experiments or app.experiments())
    _seen(app, found)
    return found


def act(found: stage.Status, cause: Cause, root: Path | None = None) -> stage.Act:
    """Ramp, promote or reject, as what was found says. Returns what was done."""
    app = open_app(root)
    experiments = app.experiments()
    done = stage.act(
        found,
        app.endpoint(),
        experiments,
        app.release(),
        cause,
        ramp=lambda because, share: ramp(because, [100 * share], root=root),
        promote=lambda because: promote(because, root),
    )
    if done.what in stage.ENDS:
        with suppress(CaptionerError):  # it is over, whether MLflow answers or not
            _seen(app, replace(found, experiment=experiments.current()))
    return done


def _seen(app: App, found: stage.Status) -> None:
    """Onto the run in MLflow, and where the pages read it."""
    stage.publish(found, app.name, app.documents(), experiment_run.record(found, app.tracker(), app.paths))
