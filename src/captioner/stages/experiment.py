"""The life of an experiment on the endpoint: started, looked at, acted on, ended; each change an entry of the ledger.

What is concluded comes from ``experiment/``, what is kept from ``experiments.py``, what is done to the endpoint from
the release's own stages. Every step can be repeated: whoever is killed between two is finished by the next look.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from captioner.errors import BadInput, GateFailed
from captioner.experiment.analysis import Analysis, as_json
from captioner.experiment.document import STOPPED, Experiment, as_document
from captioner.experiment.showing import render
from captioner.experiment.verdict import CONTINUE, PROMOTE, REJECT
from captioner.experimentparams import ExperimentParams
from captioner.experiments import Experiments, params_of
from captioner.ledger import CHALLENGER, CHAMPION, EXPERIMENT, Cause, Model
from captioner.ports import Documents, Endpoint
from captioner.release.names import status_key
from captioner.stages.moving import Release

LEAST = 0.005  # by which a bandit's share must differ before it is moved
ENDS = (PROMOTE, REJECT, STOPPED)  # the acts after which no experiment runs


@dataclass(frozen=True)
class Started:
    """An experiment that runs from now on."""

    experiment: Experiment

    def render(self) -> str:
        """For a terminal."""
        one = self.experiment
        arms = ", ".join(f"{name} version {model.version}" for name, model in one.arms.items())
        return f"The experiment {one.id} runs on {one.endpoint}: {arms}; {one.share:.0%} meet the challenger."


@dataclass(frozen=True)
class Ended:
    """An experiment that is over."""

    experiment: Experiment

    def render(self) -> str:
        """For a terminal."""
        return f"The experiment {self.experiment.id} is over ({self.experiment.outcome}): {self.experiment.why}"


@dataclass(frozen=True)
class Status:
    """An experiment and what is known of it; both None where there never was one."""

    experiment: Experiment | None
    analysis: Analysis | None

    def render(self) -> str:
        """For a terminal."""
        return render(self.experiment, self.analysis)

    def as_json(self) -> dict[str, Any]:
        """What is published, and what ``--json`` prints."""
        return {
            "experiment": as_document(self.experiment) if self.experiment else None,
            "analysis": as_json(self.analysis) if self.analysis else None,
        }


@dataclass(frozen=True)
class Act:
    """What a look led to: `what` is promote, reject, ramp, continue, or nothing where no experiment runs."""

    what: str
    why: str
    share: float | None = None


def start(
    params: ExperimentParams, endpoint: Endpoint, experiments: Experiments, release: Release, cause: Cause
) -> Started:
    """Users are shared out between champion and challenger from now on, by the first step of the ramp.

    Raises BadInput where the endpoint does not serve both, GateFailed when an experiment is running already.
    """
    arms = _arms(endpoint, experiments.name)
    if set(arms) != {CHAMPION, CHALLENGER}:
        raise BadInput(
            f"{experiments.name} does not serve a champion and a challenger that answer users: register a challenger "
            "and `captioner deploy` first (a shadow answers nobody)."
        )
    if arms[CHAMPION].digest == arms[CHALLENGER].digest:
        raise BadInput("Champion and challenger are the same model: there is nothing to compare.")
    started = experiments.start(arms, params, params.ramp[0] / 100)
    _write(release, cause, {"started": started.id, "share": started.share})
    return Started(started)


def stop(experiments: Experiments, release: Release, cause: Cause) -> Ended:
    """End the running experiment without a verdict; the endpoint stays as it is. Raises BadInput when none runs."""
    ended = experiments.end(STOPPED, cause.why or "Nobody said why.")
    _write(release, cause, {"ended": ended.id, "outcome": STOPPED})
    return Ended(ended)


def look(experiments: Experiments) -> Status:
    """What is known of the running or the last experiment by now."""
    experiment = experiments.current()
    return Status(experiment, experiments.look(experiment) if experiment else None)


def publish(found: Status, endpoint: str, documents: Documents, mlflow: str = "") -> None:
    """What was seen, for pages that cannot look. `mlflow`: the experiment's run; "" keeps what was published before."""
    before = documents.read(status_key(endpoint))
    if before and not mlflow and found.experiment:
        last = before.value["experiment"] or {}
        mlflow = before.value["links"]["mlflow"] if last.get("id") == found.experiment.id else ""
    value = {**found.as_json(), "links": {"mlflow": mlflow}}
    # Whoever else publishes at the same moment saw the same.
    if before:
        documents.replace(status_key(endpoint), value, before.tag)
    else:
        documents.create(status_key(endpoint), value)


def next_act(found: Status, served: dict[str, Model]) -> Act:
    """What should be done now. `served`: what the endpoint's variants are.

    The step of the ramp follows from the time alone, so that a look that was missed or came twice changes nothing.
    """
    one, analysis = found.experiment, found.analysis
    if one is None or analysis is None or not one.running:
        return Act("nothing", "No experiment is running.")
    if served.get(CHAMPION) == one.arms[CHALLENGER]:
        return Act(PROMOTE, "The challenger is the champion already.")
    if served.get(CHAMPION) != one.arms[CHAMPION] or served.get(CHALLENGER) != one.arms[CHALLENGER]:
        return Act(STOPPED, "The endpoint serves other models than those that were compared.")
    verdict, params = analysis.verdict, params_of(one)
    if verdict.outcome in (PROMOTE, REJECT):
        return Act(verdict.outcome, verdict.reasons[0])
    if not verdict.sample_ratio_ok:
        return Act(CONTINUE, verdict.reasons[0])
    last = len(params.ramp) - 1
    reached = min(int(analysis.runtime_h / params.step_hours), last) if params.step_hours else last
    due = params.ramp[reached] / 100
    if reached == last and analysis.bandit:
        if abs(analysis.bandit.share - one.share) < LEAST:
            return Act(CONTINUE, verdict.reasons[0])
        return Act("ramp", f"The bandit: {analysis.bandit.words}.", analysis.bandit.share)
    if due > one.share + 1e-9:
        return Act("ramp", f"The experiment has run for {analysis.runtime_h:.1f} h and nothing speaks against it.", due)
    return Act(CONTINUE, verdict.reasons[0])


def act(
    found: Status,
    endpoint: Endpoint,
    experiments: Experiments,
    release: Release,
    cause: Cause,
    ramp: Callable[[Cause, float], Any],
    promote: Callable[[Cause], Any],
) -> Act:
    """Do what `next_act` says. `ramp` brings the challenger to a share, `promote` makes it champion.

    The verdict is marked first, then the endpoint changes, and the experiment ends last: a kill in between leaves an
    experiment that the next look ends the same way. Raises what `ramp` and `promote` do, and GateFailed when the
    registry's challenger is not the model that was compared; the experiment then still runs, and its verdict stands.
    """
    experiment, now = found.experiment, experiments.current()
    if experiment is None or now is None or now.id != experiment.id or not now.running:
        return Act("nothing", "The experiment that was looked at does not run any more.")
    served = _arms(endpoint, experiments.name)
    one = next_act(found, served)
    because = Cause(cause.who, f"{one.why} {cause.why}".strip())
    if one.what == "ramp" and one.share is not None:
        ramp(because, one.share)
    if one.what not in ENDS or found.analysis is None:
        return one
    # While the challenger leaves its place, its users are answered by the champion: that is not its fault.
    experiments.close(experiment.id, found.analysis.as_of)
    if one.what != STOPPED:
        _mark(release, experiment, one)
    if one.what == REJECT:
        ramp(because, 0.0)
    if one.what == PROMOTE and served.get(CHAMPION) != experiment.arms[CHALLENGER]:
        if release.aliases().get(CHALLENGER) != experiment.arms[CHALLENGER]:
            raise GateFailed(
                f"The verdict is on version {experiment.arms[CHALLENGER].version}, and the registry's challenger is "
                "another one by now: move the alias back to promote it, or stop the experiment."
            )
        promote(because)
    evidence = {"ended": experiment.id, "outcome": one.what, "verdict": found.as_json()["analysis"]}
    _write(release, because, evidence, id=f"{experiment.id}-ended")
    experiments.end(one.what, one.why, experiment.id)
    return one


def _arms(endpoint: Endpoint, name: str) -> dict[str, Model]:
    state = endpoint.state(name)
    if state is None or state.status != "InService":
        raise BadInput(f"The endpoint {name} {f'is {state.status}' if state else 'does not exist'}: try again later.")
    return {one.name: Model(one.model_version, one.digest) for one in state.variants}


def _mark(release: Release, experiment: Experiment, verdict: Act) -> None:
    """The verdict on the challenger's version in the registry, where a promotion looks for its evidence."""
    model = release.registry.by_version(release.name, experiment.arms[CHALLENGER].version)
    if model is not None:
        release.registry.tag(model, {"captioner.experiment": f"{verdict.what} ({experiment.id}): {verdict.why}"})


def _write(release: Release, cause: Cause, evidence: dict[str, Any], id: str = "") -> None:
    """An entry of the ledger; with an `id`, once, however often it is written."""
    if id and any(entry.id == id for entry in release.book.entries()):
        return
    with release.alone():  # nothing changes between the look and the entry
        now = release.look_as_far_as_possible()
        release.book.write("experiment", cause, now, now, {EXPERIMENT: evidence}, id=id)
