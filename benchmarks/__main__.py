"""``python -m benchmarks [NAME …]``: what ``make bench`` runs. Writes results.json and README's table.

Each benchmark is a process of its own: none warms up or slows down another. One that fails says why, the others still
run, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks import results
from benchmarks.machine import commit, shape

ROOT = Path(__file__).resolve().parents[1]
NAMES = (
    "extraction",
    "merge_training",
    "attention_training",
    "beam",
    "serving",
    "warm_check",
    "growth",
    "help",
    "idle_flow",
    "scaling",
    "experiments",
    "api",
)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Time what is fast here against its peers."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which (default: all): {', '.join(NAMES)}")
    parser.add_argument("--table", action="store_true", help="run nothing; write the tables from results.json")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are: {', '.join(NAMES)}")
    if options.into:
        return one(options.names[0], options.into)
    failed = [] if options.table else run(options.names or NAMES)
    found = results.read()
    results.write_pages(found)
    print(results.table(found))
    if failed:
        print(f"benchmarks: {', '.join(failed)} failed; the lines above say why.", file=sys.stderr)
    return 1 if failed else 0


def run(names: list[str] | tuple[str, ...]) -> list[str]:
    """Run each in its own process and keep what it found. Returns those that failed."""
    failed = []
    for name in names:
        started = time.monotonic()
        print(f"{name} …", flush=True)
        with tempfile.TemporaryDirectory(prefix="captioner-bench-") as folder:
            answer = Path(folder) / "results.json"
            command = [sys.executable, "-m", "benchmarks", name, "--into", str(answer)]
            code = subprocess.call(command, cwd=ROOT, env=environment())
            if code:
                failed.append(name)
                continue
            new = json.loads(answer.read_text(encoding="utf-8"))
        results.write(results.merge(results.read(), new, NAMES))
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
    return failed


def environment() -> dict[str, str]:
    """Without our own settings: what is timed is the default."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CAPTIONER_")}
    kept |= {name: os.environ[name] for name in ("CAPTIONER_FLICKR8K",) if name in os.environ}
    return {**kept, "DO_NOT_TRACK": "true", "DVC_NO_ANALYTICS": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}


def one(name: str, answer: Path) -> int:
    """Run one benchmark here and write what it found."""
    about = {"commit": commit(), "machine": shape()}
    found = importlib.import_module(f"benchmarks.{name}").run()
    rows = [{"benchmark": name, **results.to_json(replace(result, **about))} for result in found]
    answer.write_text(json.dumps(rows), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
