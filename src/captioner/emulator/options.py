"""The emulator's options, for ``captioner emulator`` and ``python -m captioner.emulator``. Imports nothing heavy."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path

from captioner.emulator.delays import ANSWER_S, SHOWN_S, STARTUP_S, STOP_GRACE_S, Delays
from captioner.emulator.metrics import MINUTE_S
from captioner.emulator.programs import parse_programs
from captioner.errors import BadParams


@dataclass(frozen=True)
class Options:
    """Everything that can be chosen about one emulator. Times are in seconds."""

    home: Path
    port: int
    startup_s: float = STARTUP_S
    local_exec: bool = False
    programs: dict[str, str] = field(default_factory=dict)
    answer_s: float = ANSWER_S
    stop_s: float = STOP_GRACE_S
    delays: Delays = field(default_factory=Delays)
    metrics_s: float = MINUTE_S


def add_options(parser: argparse.ArgumentParser) -> None:
    """Name the options that both ways of starting it have."""
    limit = "seconds that a container has to become healthy"
    parser.add_argument("--startup-timeout", type=float, default=STARTUP_S, metavar="S", help=limit)
    answer = "seconds that a container may take for an answer"
    parser.add_argument("--answer-timeout", type=float, default=ANSWER_S, metavar="S", help=answer)
    stop = "seconds that a container has between SIGTERM and SIGKILL"
    parser.add_argument("--stop-timeout", type=float, default=STOP_GRACE_S, metavar="S", help=stop)
    image = "run PROGRAM for the container image NAME: any program that keeps the container contract (again for more)"
    parser.add_argument("--image", action="append", default=[], metavar="NAME=PROGRAM", help=image)
    parser.add_argument(
        "--allow-local-exec", action="store_true", help="run any program as the image local-exec:/path (for tests)"
    )
    scale = "shorten AWS's minutes (deployment waits, metrics, alarm periods): 0.01 makes ten minutes six seconds"
    parser.add_argument("--time-scale", type=float, default=1.0, metavar="X", help=scale)
    metrics = "seconds between two publications of metrics, before they are scaled (default: AWS's minute)"
    parser.add_argument("--metrics-period", type=float, default=MINUTE_S, metavar="S", help=metrics)
    for verb, status in (("create", "Creating"), ("update", "Updating"), ("delete", "Deleting")):
        shown = f"seconds that an endpoint is seen as {status} at least (default: {SHOWN_S})"
        parser.add_argument(f"--{verb}-delay", type=float, default=SHOWN_S, metavar="S", help=shown)


def read_options(options: argparse.Namespace, home: Path) -> Options:
    """What was chosen. Raises BadParams."""
    if options.time_scale <= 0 or options.metrics_period <= 0:
        raise BadParams("--time-scale and --metrics-period must be larger than 0.")
    if not 0 <= options.port < 65536:
        raise BadParams(f"{options.port} is not a port.")
    return Options(
        home=home.absolute(),
        port=options.port,
        startup_s=options.startup_timeout,
        local_exec=options.allow_local_exec,
        programs=parse_programs(options.image),
        answer_s=options.answer_timeout,
        stop_s=options.stop_timeout,
        delays=Delays(options.create_delay, options.update_delay, options.delete_delay, options.time_scale),
        metrics_s=options.metrics_period,
    )
