"""Goal 8: ``captioner --help``, against ``python -c 'import tensorflow'``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks import machine
from benchmarks.results import Result
from benchmarks.rounds import Ratio, once, race
from captioner.cli import STAGE_VERBS

CAPTIONER = Path(sys.executable).with_name("captioner")


def run(rounds: int = 5) -> list[Result]:
    def helped() -> float:
        done = subprocess.run([CAPTIONER, "--help"], capture_output=True, text=True, check=True)
        missing = [verb for verb in STAGE_VERBS if verb not in done.stdout]
        assert not missing, f"the help names no {missing[0]}"
        return 1.0

    def imported() -> float:
        subprocess.run([sys.executable, "-c", "import tensorflow"], capture_output=True, check=True)
        return 1.0

    def nothing() -> float:
        subprocess.run([sys.executable, "-c", "pass"], capture_output=True, check=True)
        return 1.0

    cold = {"ours": once(helped), "peer": once(imported)}
    found = race({"peer": imported, "ours": helped, "python": nothing}, rounds, warm_up=False)
    mine, theirs, python = (float(np.median(found[name])) for name in ("ours", "peer", "python"))
    return [
        Result(
            name="`captioner --help`",
            peer="`python -c 'import tensorflow'`",
            ratio=Ratio.of(found["ours"], found["peer"]),
            goal=10.0,
            unit="s",
            ours=mine,
            peers=theirs,
            equal="the help names every stage",
            details={"cold_start_s": cold, "limit": {**machine.limits(), "python_that_does_nothing_s": python}},
        )
    ]
