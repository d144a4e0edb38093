"""Who answers: promote, roll back, bring the endpoint in line with the registry, and the ledger of all that."""

from __future__ import annotations

import argparse
import json
import sys

from captioner.commands.adding import Add, as_json
from captioner.commands.reasons import cause_of, with_reason
from captioner.commands.showing import show


def add(verb: Add) -> None:
    """Name the verbs."""
    promote = as_json(verb("promote", _promote, "make the challenger champion: aliases, endpoint, proof, ledger"))
    rollback = as_json(verb("rollback", _rollback, "restore aliases and endpoint as they were, and prove it"))
    rollback.add_argument(
        "--to",
        type=int,
        metavar="ENTRY",
        help="as this entry of the ledger left it (default: as it was before the champion last changed)",
    )
    reconcile = as_json(verb("reconcile", _reconcile, "bring the endpoint in line with the registry's aliases"))
    reconcile.add_argument("--dry-run", action="store_true", help="show what differs and change nothing")
    for one in (promote, rollback, reconcile):
        with_reason(one)
    ledger = as_json(verb("ledger", _ledger, "who changed what and why: the promotion ledger, newest last"))
    ledger.add_argument("-n", type=int, default=None, metavar="N", help="the last N entries only")
    trace = as_json(verb("trace", _trace, "from a caption back to run, data and commit, and how to make it again"))
    trace.add_argument(
        "what",
        metavar="ENDPOINT|VARIANT|INFERENCE-ID|CAPTION-LOG-LINE",
        help="the endpoint's name, champion, challenger, an id that was captured, or a JSON line of `caption --json` "
        "(- reads it from standard input)",
    )


def _promote(options: argparse.Namespace) -> None:
    from captioner.bootstrap import promote

    show(promote(cause_of(options)), options.json)


def _rollback(options: argparse.Namespace) -> None:
    from captioner.bootstrap import rollback

    show(rollback(cause_of(options), options.to), options.json)


def _reconcile(options: argparse.Namespace) -> None:
    from captioner.bootstrap import reconcile

    show(reconcile(cause_of(options), options.dry_run), options.json)


def _ledger(options: argparse.Namespace) -> int:
    from captioner.bootstrap import open_app
    from captioner.errors import BadParams, ServiceUnavailable
    from captioner.ledger import render

    if options.n is not None and options.n < 1:
        raise BadParams(f"-n {options.n}: how many entries to show is 1 or more.")
    book = open_app().book()
    entries, fault = [], None
    try:
        book.deliver()
        entries = book.entries()
    except ServiceUnavailable as error:
        fault = error
    waiting = book.waiting()
    if fault is not None and not waiting:
        raise fault
    shown = [*entries, *waiting][-options.n if options.n else 0 :]
    print(json.dumps([one.to_json() for one in shown], indent=2, ensure_ascii=False) if options.json else render(shown))
    if fault is not None:
        print(f"captioner: {fault} These entries wait on this machine to be delivered.", file=sys.stderr)
    return fault.exit_code if fault is not None else 0


def _trace(options: argparse.Namespace) -> None:
    from captioner.bootstrap import trace
    from captioner.errors import BadInput

    asked = options.what
    if asked == "-":
        asked = sys.stdin.readline()
    if not asked.strip():
        raise BadInput("There is nothing to trace: name the endpoint, a variant, an inference id, or a caption's line.")
    show(trace(asked.strip()), options.json)
