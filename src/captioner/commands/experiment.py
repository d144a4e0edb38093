"""A/B experiments: plan, simulate, start, status, stop."""

from __future__ import annotations

import argparse
import json

from captioner.commands.adding import Add, as_json
from captioner.commands.reasons import cause_of, with_reason
from captioner.commands.showing import show
from captioner.errors import BadParams


def add(verb: Add) -> None:
    """Name the verbs."""
    group = verb("experiment", None, "compare champion and challenger on users")
    actions = group.add_subparsers(metavar="ACTION", required=True)
    plan = as_json(verb("plan", _plan, "how many users an experiment needs, and how long that takes", actions))
    plan.add_argument("--users-a-day", type=float, default=None, metavar="N", help="users who rate in a day")
    simulate = as_json(
        verb("simulate", _simulate, "how often made-up experiments end right, with these params", actions)
    )
    simulate.add_argument("--effect", type=float, default=0.0, help="the true difference, rating points (default 0)")
    simulate.add_argument("--experiments", type=int, default=500, metavar="N")
    simulate.add_argument("--users", type=int, default=None, help="of each (default: as many as planned)")
    simulate.add_argument("--seed", type=int, default=0)
    for name, handler, text in (
        ("start", _start, "share out users between champion and challenger, by the first step of the ramp"),
        ("stop", _stop, "end the running experiment without a verdict"),
    ):
        with_reason(as_json(verb(name, handler, text, actions)))
    as_json(verb("status", _status, "what is known by now: verdict, intervals, guardrails", actions))


def _plan(options: argparse.Namespace) -> None:
    from captioner.bootstrap import open_app
    from captioner.experiment.planning import plan

    if options.users_a_day is not None and not options.users_a_day > 0:
        raise BadParams("--users-a-day must be a number above 0.")
    found = plan(open_app().params.experiment, options.users_a_day)
    show(found, options.json)


def _simulate(options: argparse.Namespace) -> None:
    from captioner.bootstrap import open_app
    from captioner.experiment.simulating import simulate

    if options.experiments < 1 or (options.users is not None and options.users < 1) or abs(options.effect) > 4:
        raise BadParams("--experiments and --users must be at least 1, --effect at most 4 rating points.")
    params = open_app().params.experiment
    show(simulate(params, options.effect, options.experiments, options.users, options.seed), options.json)


def _start(options: argparse.Namespace) -> None:
    from captioner.experimenting import start

    show(start(cause_of(options)), options.json)


def _stop(options: argparse.Namespace) -> None:
    from captioner.experimenting import stop

    show(stop(cause_of(options)), options.json)


def _status(options: argparse.Namespace) -> None:
    from captioner.experimenting import status

    found = status()
    print(json.dumps(found.as_json(), indent=2) if options.json else found.render())
