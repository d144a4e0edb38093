"""The machine that a result is from, and its limits as measured here: how fast a matrix product and a copy can be."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]


def shape() -> dict[str, Any]:
    """What kind of machine this is, without its name."""
    import psutil

    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "system": platform.system(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 1),
    }


def commit() -> str:
    """The commit that is checked out, with a + when the code differs from it."""
    head = _git("rev-parse", "--short=10", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", "src", "flows", "benchmarks/*.py")
    return f"{head}+" if changed else head


def limits() -> dict[str, float]:
    """Measured: fp32 matrix products by TensorFlow on all cores (GFLOP/s), copying memory (GB/s, read and write)."""
    import tensorflow as tf

    size = 2048
    a, b = tf.random.normal([size, size]), tf.random.normal([size, size])
    gemm = best_of(lambda: tf.matmul(a, b).numpy(), 8)
    source = np.ones(32 * 2**20, np.float32)
    target = np.empty_like(source)
    copy = best_of(lambda: np.copyto(target, source), 8)
    return {"gemm_gflops": 2 * size**3 / gemm / 1e9, "copy_gb_per_s": 2 * source.nbytes / copy / 1e9}


def best_of(work: Callable[[], object], times: int) -> float:
    """The shortest of `times` calls, in seconds: a limit is what can be had, not what is usual."""
    found = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
