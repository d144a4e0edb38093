"""Cost as work grows: extraction and evaluation of 500, 2,000 and 8,000 images: seconds and the most memory, and a
plot.

Each size is a process of its own. There is no peer: the goals are that time is linear and memory constant, given here
as how the rate, and the memory, of the largest compare with those of the smallest.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import machine, material
from benchmarks.results import Result
from benchmarks.rounds import Ratio

SIZES = (500, 2000, 8000)
BATCH = 32
ROOT = Path(__file__).resolve().parents[1]
PLOT = ROOT / "docs" / "images" / "benchmark-scaling.png"
KINDS = {"extraction": "extraction", "evaluation": "captioning from features, as evaluation does"}


def run(sizes: tuple[int, ...] = SIZES, plot: Path | None = PLOT) -> list[Result]:
    material.artifact("attention")
    found = {kind: [measured(kind, size) for size in sizes] for kind in KINDS}
    if plot is not None:
        draw(found, plot)
    results = []
    for kind, name in KINDS.items():
        first, *_, last = found[kind]
        details = {"by_size": found[kind], "limit": machine.limits()}
        rate = (first["seconds"] / first["images"]) / (last["seconds"] / last["images"])
        memory = first["peak_mb"] / last["peak_mb"]
        for what, value, ours, unit in (
            ("images/s", rate, last["images"] / last["seconds"], "images/s"),
            ("memory", memory, last["peak_mb"], "MB"),
        ):
            results.append(
                Result(
                    name=f"{name}: {what} at {last['images']:,} images",
                    peer=f"itself at {first['images']:,}",
                    ratio=Ratio(value, value, value),
                    goal=0.8,
                    unit=unit,
                    ours=ours,
                    equal="as many rows, or captions, as images",
                    details=details,
                )
            )
    return results


def measured(kind: str, size: int) -> dict[str, float]:
    """Seconds (without TensorFlow's start) and peak resident memory of one size, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scaling", kind, str(size)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def extraction(size: int) -> float:
    """Pictures in packs → features in a store and in packed files, as the features stage does."""
    from benchmarks.growth import pack
    from captioner import images
    from captioner.featurestore.extract import Extractor
    from captioner.featurestore.index import FeatureStore
    from captioner.packs import PackReader

    with tempfile.TemporaryDirectory(prefix="captioner-bench-") as temporary:
        folder = Path(temporary)
        records = material.pack(folder / "raw", size)
        cnn = material.encoder()
        extractor = Extractor(cnn, BATCH)
        started, count = time.perf_counter(), 0
        store = FeatureStore(folder / "whole", cnn.meta)
        with PackReader(folder / "raw") as packs, store.appending() as shards:
            for part, rows in extractor.extract(records, lambda r: images.normalise(packs.read(r), r.id, whole=True)):
                shards.add([record.digest for record in part], rows)
                count += len(part)
                if count % 512 == 0:
                    shards.commit()
        pack(folder, "whole", cnn.meta, records)
        assert count == size
        return time.perf_counter() - started


def evaluation(size: int) -> float:
    """Packed features → captions by the artifact, batch by batch."""
    from captioner.featurestore.packed import PackedFeatures, write_packed
    from captioner.model.captioner import Captioner

    rows, meta = material.features(), material.encoder().meta
    with tempfile.TemporaryDirectory(prefix="captioner-bench-") as temporary:
        folder = Path(temporary)
        ids = [f"{number:05d}" for number in range(size)]
        write_packed(folder, meta, ids, ids, lambda wanted: rows[np.array(wanted) % len(rows)])
        features, captioner = PackedFeatures.open(folder), Captioner.load(material.artifact("attention"))
        captioner.caption_features(features.rows(range(BATCH)))
        started, count = time.perf_counter(), 0
        for start in range(0, size, BATCH):
            count += len(captioner.caption_features(features.rows(range(start, min(start + BATCH, size)))))
        assert count == size
        return time.perf_counter() - started


def draw(found: dict[str, list[dict[str, float]]], target: Path) -> None:
    """Time and memory by size, side by side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for kind, points in found.items():
        sizes = [point["images"] for point in points]
        left.plot(sizes, [point["seconds"] for point in points], marker="o", label=kind)
        right.plot(sizes, [point["peak_mb"] for point in points], marker="o", label=kind)
    left.set(xlabel="images", ylabel="seconds", title="Time", xlim=(0, None), ylim=(0, None))
    right.set(xlabel="images", ylabel="MB", title="Peak memory, without mapped files", xlim=(0, None), ylim=(0, None))
    left.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def own_memory_mb() -> float:
    """Resident memory without mapped files; where the system does not tell it, the peak with them."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


def watched(work: Callable[[int], float], size: int) -> dict[str, float]:
    """What `work` returned for `size`, and the most memory that was seen meanwhile, ten times a second."""
    ended, seen = threading.Event(), [own_memory_mb()]

    def watch() -> None:
        while not ended.wait(0.1):
            seen.append(own_memory_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        seconds = work(size)
    finally:
        ended.set()
        watcher.join()
    return {"images": size, "seconds": seconds, "peak_mb": max(seen)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=list(KINDS))
    parser.add_argument("size", type=int)
    options = parser.parse_args()
    print(json.dumps(watched({"extraction": extraction, "evaluation": evaluation}[options.kind], options.size)))
