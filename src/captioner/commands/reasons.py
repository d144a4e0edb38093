"""``--reason``: why somebody changes something, for the ledger, beside who they are."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from captioner.ledger import Cause


def with_reason(one: argparse.ArgumentParser, default: str = "") -> None:
    """The verb `one` with --reason."""
    one.add_argument("--reason", default=default, metavar="TEXT", help="why, for the ledger")


def cause_of(options: argparse.Namespace) -> Cause:
    """Whoever runs this, and why."""
    from captioner.acting import acting
    from captioner.ledger import Cause

    return Cause(acting(), options.reason)
