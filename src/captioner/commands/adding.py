"""How a verb is named: what `cli.py` hands to each group of commands."""

from __future__ import annotations

import argparse
from typing import Any, Protocol


class Add(Protocol):
    """Adds a verb, or an action of the verb whose parser's subparsers are `group`; returns its parser."""

    def __call__(self, name: str, handler: Any, text: str, group: Any = None) -> argparse.ArgumentParser: ...


def as_json(one: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The verb `one` with --json."""
    one.add_argument("--json", action="store_true", help="one JSON object for machines")
    return one
