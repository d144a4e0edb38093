"""``python -m captioner.emulator --port P --home DIR``: the local AWS in the foreground."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from captioner.emulator.options import add_options, read_options
from captioner.errors import CaptionerError


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal. Returns the exit code."""
    from captioner.emulator.server import serve

    parser = argparse.ArgumentParser(prog="python -m captioner.emulator", description="The local AWS.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--home", type=Path, required=True, help="folder that keeps its state")
    add_options(parser)
    options = parser.parse_args(argv)
    try:
        serve(read_options(options, options.home))
    except CaptionerError as error:
        print(f"captioner.emulator: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
