"""The MLflow run of an experiment: the interval at each look as metrics, the analysis and its picture as files.

One run for each experiment, found by its id and written on at every look until it is over. Judges nothing.
"""

from __future__ import annotations

from typing import Any

from captioner.figures import difference_over_time
from captioner.paths import Paths
from captioner.ports import Tracker
from captioner.records import write_bytes, write_json, write_text
from captioner.stages.experiment import Status
from captioner.stages.recording import scratch

ID, OUTCOME = "captioner.experiment_id", "captioner.experiment_outcome"


def record(found: Status, tracker: Tracker, paths: Paths) -> str:
    """Write down what was seen, and return the run's URL, "" where it has none; nothing where no experiment was.

    Raises ServiceUnavailable when MLflow does not answer.
    """
    experiment, analysis = found.experiment, found.analysis
    if experiment is None or analysis is None:
        return ""
    run = tracker.find(ID, experiment.id)
    if run is None:
        run = tracker.start(f"A/B {experiment.id}", {ID: experiment.id, "captioner.stage": "experiment"})
        arms = {name: {"version": arm.version, "digest": arm.digest} for name, arm in experiment.arms.items()}
        run.params({"experiment": experiment.design, "arms": arms})
    if run.tag(OUTCOME):
        return run.url
    seen = found.as_json()
    run.metrics(_metrics(seen["analysis"]), step=analysis.rating.users)
    with scratch(paths) as folder:
        write_json(folder / "analysis.json", seen)
        write_text(folder / "status.txt", f"{found.render()}\n")
        if any(moment.low is not None for moment in analysis.over_time):
            write_bytes(folder / "difference.png", difference_over_time(seen["analysis"]["over_time"]))
        run.file(folder, "experiment")
    if not experiment.running:
        run.tags({OUTCOME: experiment.outcome})
        run.end()
    return run.url


def _metrics(analysis: dict[str, Any]) -> dict[str, float]:
    """What can be drawn over the users who have rated: the difference with its bounds, and each arm's means."""
    difference = {f"difference_{name}": analysis["difference"][name] for name in ("value", "low", "high")}
    kept = ("users", "ratings", "rating", "corrected", "errors", "latency_ms")
    arms = {f"{arm}_{name}": values[name] for arm, values in analysis["arms"].items() for name in kept}
    return {name: float(value) for name, value in {**difference, **arms}.items() if value is not None}
