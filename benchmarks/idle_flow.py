"""Goal 9: the training flow with nothing to do, in a process that has run it before, against plain ``dvc repro``.

The real graph, params and code, in a project of its own; what the stages would write is put there by hand and
committed to DVC, since nothing of it is read when nothing is stale.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import yaml

from benchmarks import machine
from benchmarks.processes import free_port, process
from benchmarks.results import Result
from benchmarks.rounds import Ratio, once, race

ROOT = Path(__file__).resolve().parents[1]


def run(rounds: int = 5) -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="captioner-bench-") as temporary:
        root = Path(temporary) / "project"
        stages = project(root)
        with prefect(Path(temporary) / "prefect") as api:
            # Prefect reads both when it is imported, which is why it is imported here.
            os.environ |= {"PREFECT_API_URL": api, "PREFECT_HOME": str(Path(temporary) / "prefect")}
            os.environ |= {"PREFECT_LOGGING_LEVEL": "ERROR"}
            before = Path.cwd()
            os.chdir(root)
            try:
                from flows.training import training

                def flow() -> float:
                    done = training(release=False)
                    assert not done.ran, f"stages ran: {done.ran}"
                    assert len(done.cached) == stages, f"{done.cached} of {stages} stages"
                    return 1.0

                def repro() -> float:
                    done = dvc("repro", root)
                    assert done.count("didn't change, skipping") == stages, done
                    return 1.0

                cold = {"ours": once(flow), "peer": once(repro)}
                found = race({"peer": repro, "ours": flow}, rounds)
            finally:
                os.chdir(before)
    mine, theirs = (float(np.median(found[name])) for name in ("ours", "peer"))
    return [
        Result(
            name=f"a flow with nothing to do ({stages} stages)",
            peer="plain `dvc repro`",
            ratio=Ratio.of(found["ours"], found["peer"]),
            goal=0.5,
            unit="s",
            ours=mine,
            peers=theirs,
            equal="both find every stage up to date",
            details={"cold_start_s": cold, "limit": machine.limits()},
        )
    ]


def project(root: Path) -> int:
    """A project in which every stage is up to date. Returns how many there are."""
    root.mkdir(parents=True)
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy2(ROOT / name, root / name)
    shutil.copytree(ROOT / "data" / "feedback", root / "data" / "feedback")
    shutil.copytree(ROOT / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    subprocess.run(["git", "init", "--quiet", str(root)], check=True)
    dvc("init", root, "--quiet")
    graph = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    candidates = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))["candidates"]
    count = 0
    for stage in graph.values():
        for candidate in candidates if "matrix" in stage else [""]:
            count += 1
            for kind in ("outs", "metrics", "plots"):
                for entry in stage.get(kind, []):
                    path = root / (entry if isinstance(entry, str) else next(iter(entry)))
                    path = Path(str(path).replace("${item.candidate}", candidate))
                    path.parent.mkdir(parents=True, exist_ok=True)
                    if kind == "outs":
                        path.mkdir()
                        path = path / "content"
                    path.write_text("{}\n" if path.suffix == ".json" else "epoch,cider\n", encoding="utf-8")
    dvc("commit", root, "--force", "--quiet")
    return count


def dvc(verb: str, root: Path, *options: str) -> str:
    command = [sys.executable, "-m", "dvc", verb, *options]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"dvc {verb}: {done.stderr}"
    return done.stdout


@contextmanager
def prefect(home: Path) -> Iterator[str]:
    """A Prefect server of its own; gives the address of its API."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "prefect",
        "server",
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--no-ui",
    ]
    api = f"http://127.0.0.1:{port}/api"
    with process(command, f"{api}/health", {"PREFECT_HOME": str(home), "PREFECT_API_URL": api}):
        yield api
