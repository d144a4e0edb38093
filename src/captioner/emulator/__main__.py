"""``python -m captioner.emulator --port P --home DIR``: the local AWS in the foreground."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal. Returns the exit code."""
    from captioner.emulator.instance import ANSWER_S, STOP_GRACE_S
    from captioner.emulator.server import STARTUP_S, run

    parser = argparse.ArgumentParser(prog="python -m captioner.emulator", description="The local AWS.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--home", type=Path, required=True, help="folder that keeps its state")
    limit = "seconds that a container has to become healthy"
    parser.add_argument("--startup-timeout", type=float, default=STARTUP_S, help=limit)
    parser.add_argument("--allow-local-exec", action="store_true", help="run images named local-exec:/path (for tests)")
    answer = "seconds that a container may take for an answer"
    parser.add_argument("--answer-timeout", type=float, default=ANSWER_S, help=answer)
    stop = "seconds between SIGTERM and SIGKILL"
    parser.add_argument("--stop-timeout", type=float, default=STOP_GRACE_S, help=stop)
    options = parser.parse_args(argv)
    limits = (options.startup_timeout, options.allow_local_exec, options.answer_timeout, options.stop_timeout)
    return run(options.home, options.port, *limits)


if __name__ == "__main__":
    raise SystemExit(main())
