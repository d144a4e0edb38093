"""Who answers: bring the endpoint in line with the registry."""

from __future__ import annotations

import argparse

from captioner.commands.adding import Add, as_json
from captioner.commands.showing import show


def add(verb: Add) -> None:
    """Name the verbs."""
    as_json(verb("reconcile", _reconcile, "bring the endpoint in line with the registry's aliases"))


def _reconcile(options: argparse.Namespace) -> None:
    from captioner.bootstrap import run_stage

    show(run_stage("deploy"), options.json)
