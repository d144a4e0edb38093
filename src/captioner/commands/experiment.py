"""A/B experiments on users."""

from __future__ import annotations

from captioner.commands import designing
from captioner.commands.adding import Add


def add(verb: Add) -> None:
    """Name the verb and its actions."""
    group = verb("experiment", None, "compare champion and challenger on users")
    designing.add(verb, group.add_subparsers(metavar="ACTION", required=True))
