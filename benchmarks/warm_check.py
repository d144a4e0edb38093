"""Goal 6: is anything new? The feature store's answer for 8,091 images, against hashing their files."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from benchmarks import machine, material
from benchmarks.results import Result
from benchmarks.rounds import Ratio, once, race
from captioner.featurestore.index import FeatureStore
from captioner.packs import digest
from captioner.records import FeaturesMeta, ImageRecord

IMAGES = 8091
NEW = 3  # images that the store does not have, so that both sides have something to find
SHARD = 512  # images, as the features stage cuts them


def run(images: int = IMAGES) -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="captioner-bench-") as temporary:
        folder = Path(temporary)
        records, files = [], folder / "files"
        files.mkdir()
        for picture in material.pictures(images):
            records.append(picture.record())
            (files / picture.name).write_bytes(picture.data)
        meta = pooled()
        fill(FeatureStore(folder / "store", meta), records[:-NEW])

        def by_hashing() -> list[str]:
            known = {record.digest for record in records[:-NEW]}
            found = {record.id: digest((files / record.name).read_bytes()) for record in records}
            return [name for name, key in found.items() if key not in known]

        def by_store() -> list[str]:
            store = FeatureStore(folder / "store", meta)
            return [record.id for record in records if record.digest not in store]

        missing: list[list[str]] = []
        cold = {"ours": once(lambda: missing.append(by_store())), "peer": once(lambda: missing.append(by_hashing()))}
        assert missing[0] == missing[1] == [record.id for record in records[-NEW:]]
        found = race({"peer": lambda: float(bool(by_hashing())), "ours": lambda: float(bool(by_store()))}, warm_up=True)
        size = sum((files / record.name).stat().st_size for record in records)
    mine, theirs = (float(np.median(found[name])) for name in ("ours", "peer"))
    return [
        Result(
            name=f"warm feature check, {images:,} images",
            peer="hashing them",
            ratio=Ratio.of(found["ours"], found["peer"]),
            goal=50.0,
            unit="s",
            ours=mine,
            peers=theirs,
            equal=f"the same {NEW} new images found",
            details={
                "cold_start_s": cold,
                "limit": {**machine.limits(), "hashed_gb_per_s": size / theirs / 1e9},
                "rows": "pooled, to save the disk: a check reads the index and the size of each shard, never a row",
            },
        )
    ]


def pooled() -> FeaturesMeta:
    """Pooled features of the default encoder."""
    from captioner.model.identity import describe

    return describe(material.ENCODER, "pooled", None, material.ENCODERS)


def fill(store: FeatureStore, records: list[ImageRecord]) -> None:
    """Rows for `records`, cut into shards as the features stage does."""
    shape = (store.meta.cells, store.meta.channels)
    with store.appending() as shards:
        for start in range(0, len(records), SHARD):
            part = records[start : start + SHARD]
            shards.add([record.digest for record in part], np.ones((len(part), *shape), np.float16))
            shards.commit()
