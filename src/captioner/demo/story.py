"""``captioner demo``: prepares, plays, looks, decides, and says at each step what happens. Ends with the UIs open."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captioner import experimenting, stack
from captioner.acting import acting
from captioner.bootstrap import open_app, rollback, run_stage
from captioner.demo.crowd import Crowd
from captioner.demo.playing import Play
from captioner.demo.project import prepare
from captioner.errors import BadParams, CaptionerError, GateFailed
from captioner.golden import golden_images
from captioner.ledger import CHALLENGER, CHAMPION, Cause, render
from captioner.paths import Paths
from captioner.settings import Settings
from captioner.shipped import read_shipped
from captioner.stack.services import Service, wanted
from captioner.stages.experiment import ENDS, Status

LOOK_S = 5.0
KEPT = ("CAPTIONER_THREADS", "CAPTIONER_PROGRESS", "CAPTIONER_WEIGHTS")
SERVICES = ("mlflow", "aws", "api", "web")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How the demo is played. `rate`: users a second; `effect`: rating points that they like the challenger more."""

    users: int
    rate: float
    effect: float
    seed: int

    def __post_init__(self) -> None:
        if self.users < 1 or self.rate <= 0 or not -4 <= self.effect <= 4:
            raise BadParams("--users must be at least 1, --rate above 0, --effect between -4 and 4 rating points.")


def run(plan: Plan, project: Path, say: Say = print) -> str:
    """Play it in `project`'s ``.captioner/demo``; returns the outcome: promote, reject, or continue.

    Raises GateFailed when all users have come and nothing is decided, and what the stages raise.
    """
    shipped = read_shipped(Paths.of(project, Settings.from_env(project)).shipped)
    root = surroundings(project)
    settings = Settings.from_env(root)
    paths, who = Paths.of(root, settings), f"captioner demo ({acting()})"
    say("1. The local stack: MLflow, a local AWS, the REST API, the web app")
    stack.up(settings, paths, _services(settings, paths, ("mlflow", "aws")))
    say("2. Two models of the shipped weights, judged on rendered scenes: the champion searches with a beam, the "
        "challenger is greedy and quicker")  # fmt: skip
    prepare(root, paths, shipped, project / "profiles" / "sample.yaml", who)
    say("3. Both behind one endpoint, each a process of its own; every model is asked before and after")
    _from_the_beginning(root, who)
    say(run_stage("deploy", root=root, cause=Cause(who, "both answer")).render())
    found = stack.up(settings, paths, _services(settings, paths, SERVICES))
    say("4. An experiment: the hash of a user decides who answers them")
    say(experimenting.start(Cause(who, "do users like the greedy one more?"), root).render())
    outcome = _play(plan, root, found.services["api"].url, who, say)
    say("6. What the ledger has of it")
    say(render(open_app(root).book().entries()[-6:]))
    say("Open, until `captioner demo --down`:")
    for name, path in (("web", "/experiment"), ("web", "/models"), ("api", "/docs"), ("mlflow", "")):
        say(f"  {found.services[name].url}{path}")
    if outcome not in ENDS:
        raise GateFailed(f"All {plan.users} users have come and nothing is decided: let more come (--users).")
    return outcome


def down(project: Path) -> Any:
    """Stop the demo's stack; what it left stays. Returns what was stopped."""
    root = surroundings(project)
    settings = Settings.from_env(root)
    return stack.down(settings, Paths.of(root, settings))


def surroundings(project: Path) -> Path:
    """The demo's folder. This process and all that it starts see no other settings than the demo's."""
    root = Paths.of(project, Settings.from_env(project)).home / "demo"
    for name in [name for name in os.environ if name.startswith("CAPTIONER_") and name not in KEPT]:
        del os.environ[name]
    os.environ["CAPTIONER_API_RATE"] = "1000"  # the crowd comes from one address
    os.environ["CAPTIONER_AWS_TIME_SCALE"] = "0.1"  # nobody wants to watch an instance start for a minute
    root.mkdir(parents=True, exist_ok=True)
    return root


def _services(settings: Settings, paths: Paths, names: tuple[str, ...]) -> list[Service]:
    return [one for one in wanted(settings, paths) if one.name in names]


def _from_the_beginning(root: Path, who: str) -> None:
    """What an earlier demo left: an experiment that runs is stopped, a promotion is rolled back."""
    app = open_app(root)
    running = app.experiments().current()
    if running and running.running:
        experimenting.stop(Cause(who, "a new demo begins"), root)
    promoted = app.registry().by_alias(app.name, CHALLENGER) is None
    if promoted and app.endpoint().state(app.name) is not None:
        rollback(Cause(who, "a new demo begins"), root=root)


def _play(plan: Plan, root: Path, api: str, who: str, say: Say) -> str:
    """Let the crowd come, look every LOOK_S seconds, do what follows. Returns the last act."""
    app = open_app(root)
    crowd = Crowd(list(golden_images().values()), plan.effect, app.params.experiment.deviation, plan.seed)
    say(f"5. {plan.users} users, {plan.rate:g} a second at most; in truth they give the challenger "
        f"{crowd.truth(plan.users):+.2f} points. A look every {LOOK_S:g} s:")  # fmt: skip
    play = Play(api, crowd, plan.users, plan.rate)
    play.start()
    try:
        return _look_on(play, root, who, say)
    finally:
        play.stop()
        if play.counts["failed"]:
            say(f"{play.counts['failed']} users were not answered, the last one with: {play.fault}")


def _look_on(play: Play, root: Path, who: str, say: Say) -> str:
    experiments = open_app(root).experiments()
    while True:
        last = play.over
        time.sleep(LOOK_S)  # the log is written each second: what was rated until now is in it
        found = experimenting.look(root, experiments)
        say(_line(found))
        try:
            done = experimenting.act(found, Cause(who), root)
        except CaptionerError as error:
            if last or not error.transient:
                raise
            say(f"   not yet: {error}")
            continue
        if done.what == "ramp" and done.share is not None:
            say(f"   ramp: {done.share:.0%} of the users meet the challenger from now on")
        if done.what in ENDS or last:
            say(f"   {done.what}: {done.why}")
            return done.what


def _line(found: Status) -> str:
    assert found.analysis
    rated, arms = found.analysis.rating, found.analysis.arms
    users = f"   {arms[CHAMPION].users:>4} + {arms[CHALLENGER].users:<4} users"
    if rated.low is None or rated.high is None or rated.difference is None:
        return f"{users}  too few ratings for an interval"
    return f"{users}  challenger {rated.difference:+.2f} points, between {rated.low:+.2f} and {rated.high:+.2f}"
