"""Goal 7: a few more images, model loaded, against a full rebuild: into the feature store, and on to data/features."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import machine, material
from benchmarks.results import Result
from benchmarks.rounds import Ratio, once, take_turns
from captioner import images
from captioner.featurestore.extract import Extractor
from captioner.featurestore.index import FeatureStore
from captioner.featurestore.packed import write_packed
from captioner.packs import PackReader
from captioner.records import FeaturesMeta, ImageRecord

IMAGES, MORE = 8000, 100
ROUNDS = 5
SHARD = 512


def run(count: int = IMAGES, more: int = MORE, rounds: int = ROUNDS) -> list[Result]:
    cnn = material.encoder()
    extractor = Extractor(cnn, 32)
    with tempfile.TemporaryDirectory(prefix="captioner-bench-") as temporary:
        folder = Path(temporary)
        records = material.pack(folder / "raw", count + more)
        with PackReader(folder / "raw") as packs:

            def encode(store: FeatureStore) -> None:
                missing = [record for record in records[: wanted[0]] if record.digest not in store]
                with store.appending() as shards:
                    in_shard = 0
                    for part, rows in extractor.extract(
                        missing, lambda r: images.normalise(packs.read(r), r.id, whole=True)
                    ):
                        shards.add([record.digest for record in part], rows)
                        in_shard += len(part)
                        if in_shard >= SHARD:
                            shards.commit()
                            in_shard = 0

            def update(name: str) -> tuple[float, float]:
                """Seconds to bring the store up to date, and seconds until data/features is written as well."""
                encoding = once(lambda: encode(FeatureStore(folder / name, cnn.meta)))
                packing = once(lambda: pack(folder, name, cnn.meta, records[: wanted[0]]))
                return encoding, encoding + packing

            wanted = [count]
            update("before")
            wanted = [count + more]

            def rebuild() -> tuple[float, float]:
                for old in ("whole", "whole-packed"):
                    shutil.rmtree(folder / old, ignore_errors=True)
                return update("whole")

            def grow() -> tuple[float, float]:
                for part in ("", "-packed"):
                    shutil.rmtree(folder / f"grown{part}", ignore_errors=True)
                    shutil.copytree(folder / f"before{part}", folder / f"grown{part}", copy_function=os.link)
                return update("grown")

            rebuild(), grow()
            assert content(folder / "whole-packed") == content(folder / "grown-packed"), "data/features differ"
            found = take_turns({"rebuild": rebuild, "grow": grow}, rounds)
    results = []
    for place, name, goal in ((0, "into the feature store", 1 / 0.03), (1, "with data/features written", 1 / 0.03)):
        mine, theirs = ([one[place] for one in found[who]] for who in ("grow", "rebuild"))
        results.append(
            Result(
                name=f"+{more} images on {count:,}, {name}",
                peer="full rebuild",
                ratio=Ratio.of(mine, theirs),
                goal=goal,
                unit="s",
                ours=float(np.median(mine)),
                peers=float(np.median(theirs)),
                equal="data/features, byte for byte",
                details={"share": float(np.median(mine) / np.median(theirs)), "limit": machine.limits()},
            )
        )
    return results


def pack(folder: Path, name: str, meta: FeaturesMeta, records: Sequence[ImageRecord]) -> None:
    """As the features stage writes data/features."""
    store, digests = FeatureStore(folder / name, meta), [record.digest for record in records]
    ids = [record.id for record in records]
    write_packed(folder / f"{name}-packed", meta, ids, digests, lambda rows: store.rows([digests[row] for row in rows]))


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}
