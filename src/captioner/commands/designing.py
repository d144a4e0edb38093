"""Before an experiment starts: how many users it needs, and how often such experiments end right."""

from __future__ import annotations

import argparse
from typing import Any

from captioner.commands.adding import Add, as_json
from captioner.commands.showing import show
from captioner.errors import BadParams


def add(verb: Add, group: Any) -> None:
    """Name the actions of the verb ``experiment``, whose subparsers are `group`."""
    plan = as_json(verb("plan", _plan, "how many users an experiment needs, and how long that takes", group))
    plan.add_argument("--users-per-day", type=float, metavar="N", help="new users a day who rate, for the duration")
    plan.add_argument("--share", type=float, help="of the users who meet the challenger, 0 to 1 (default: the ramp's)")
    simulate = as_json(verb("simulate", _simulate, "how often made-up experiments end right", group))
    simulate.add_argument("--effect", type=float, default=0.0, help="the true difference, rating points (default 0)")
    simulate.add_argument("--experiments", type=int, default=500, metavar="N", help="how many (default 500)")
    simulate.add_argument("--users", type=int, metavar="N", help="who rate in each (default: as planned)")
    simulate.add_argument("--seed", type=int, default=0)


def _plan(options: argparse.Namespace) -> None:
    from captioner.bootstrap import open_app
    from captioner.experiment.plan import plan

    show(plan(open_app().params.experiment, options.share, options.users_per_day), options.json)


def _simulate(options: argparse.Namespace) -> None:
    from captioner.bootstrap import open_app
    from captioner.experiment.simulation import simulate

    params = open_app().params.experiment
    fewest = 2 * params.min_users
    if options.experiments < 1:
        raise BadParams("--experiments must be at least 1.")
    if options.users is not None and options.users < fewest:
        raise BadParams(f"--users must be at least {fewest}: there is no interval before (experiment.min_users).")
    if not -1.5 <= options.effect <= 1.5:
        raise BadParams("--effect must lie between -1.5 and 1.5 rating points, of the four that there are.")
    show(simulate(params, options.effect, options.experiments, options.users, options.seed), options.json)
