"""The whole loop as a story."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from captioner.commands.adding import Add
from captioner.errors import BadEnvironment


def add(verb: Add) -> None:
    """Name the verb."""
    demo = verb("demo", _demo, "watch the whole loop: two models, simulated users, an experiment, a promotion")
    demo.add_argument("--users", type=int, default=800, metavar="N", help="who come at most (default 800)")
    demo.add_argument("--rate", type=float, default=5.0, metavar="N", help="users a second at most (default 5)")
    demo.add_argument(
        "--effect", type=float, default=0.8, help="rating points that they like the challenger more (default 0.8)"
    )
    demo.add_argument("--seed", type=int, default=0, help="of the users")
    demo.add_argument("--down", action="store_true", help="stop what the last demo left open")


def _demo(options: argparse.Namespace) -> None:
    try:
        from captioner.demo import story
    except ModuleNotFoundError as error:
        raise BadEnvironment(f"The demo needs {error.name}: install captioner with its extra 'local'.") from None
    if options.down:
        print(story.down(Path.cwd()).render())
        return
    began = time.monotonic()

    def say(line: str) -> None:
        minutes, seconds = divmod(round(time.monotonic() - began), 60)
        print("\n".join(f"{minutes}:{seconds:02} {one}" for one in line.splitlines()), flush=True)

    story.run(story.Plan(options.users, options.rate, options.effect, options.seed), Path.cwd(), say)
