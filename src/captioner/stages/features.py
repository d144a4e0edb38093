"""features: the CNN's features of every valid image, from the feature store where it has them.

Reads ``data/validated/manifest.jsonl`` and the packs in ``data/raw``, writes ``data/features``. What is missing in the
store is encoded and added to it first, so an interrupted run goes on where it stopped. When nothing is missing,
TensorFlow is not imported. Knows nothing of captions.
"""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import get_args

import numpy as np

from captioner import images
from captioner.errors import BadData
from captioner.featurestore.index import FeatureStore
from captioner.featurestore.packed import PackedFeatures, write_packed
from captioner.featurestore.shards import DamagedShard, Features
from captioner.model.identity import describe
from captioner.model.preprocess import PLAIN, version_of
from captioner.model.runtime import start_tensorflow
from captioner.packs import PackReader
from captioner.params import FeaturesParams, View
from captioner.paths import Paths
from captioner.progress import track
from captioner.records import FeaturesMeta, ImageRecord, read_manifest, write_json
from captioner.settings import Settings

VIEWS: tuple[str, ...] = get_args(View)
SHARD_IMAGES = 512
"""Images in a shard of the store: what a kill can cost at most."""

BLOCK_IMAGES = 64  # whose rows are looked at together


@dataclass(frozen=True)
class FeaturesReport:
    """What was made. The same for equal images, whatever the store held before."""

    images: int
    encoder: str
    layout: str
    image_size: int
    cells: int
    channels: int
    weights_digest: str
    preprocessing: str
    engine: str
    mean: float
    deviation: float
    views: list[str] = field(default_factory=list)  # of the training images, beside the plain one


def run(params: FeaturesParams, paths: Paths, settings: Settings) -> FeaturesReport:
    """Raises BadParams for an unknown encoder, BadData or BadImage for images that are not what the manifest says,
    BadEnvironment when the weights cannot be had or a disk refuses.
    """
    cache = paths.home / "encoders"
    meta = describe(params.encoder, params.layout, settings.weights, cache, settings.threads)
    meta = replace(meta, engine=params.engine)
    manifest = read_manifest(paths.validated / "manifest.jsonl")
    if not manifest:
        raise BadData("data/validated/manifest.jsonl holds no image: run acquire and validate first.")
    for view in sorted(set(VIEWS) - set(params.views)):
        shutil.rmtree(paths.view(view), ignore_errors=True)  # of an earlier run
    training = [record for record in manifest if record.split == "train"]
    for view in params.views:
        _make(params, paths, settings, view_of(meta, view), training, paths.view(view), view)
    report = _report(meta, _make(params, paths, settings, meta, manifest, paths.features), params.views)
    write_json(paths.report("features"), asdict(report))
    return report


def view_of(meta: FeaturesMeta, view: str) -> FeaturesMeta:
    """What features of another view than the plain one are."""
    return replace(meta, preprocessing=version_of(view))


def _make(
    params: FeaturesParams,
    paths: Paths,
    settings: Settings,
    meta: FeaturesMeta,
    records: Sequence[ImageRecord],
    folder: Path,
    view: str = PLAIN,
) -> _Statistics:
    """Bring the store up to date with `records`, then write their features to `folder`."""
    stage = _Stage(params, paths, settings, FeatureStore(settings.feature_store, meta), view)
    try:
        stage.encode_missing(records)
        return stage.pack(records, folder)
    except DamagedShard:
        stage.store.check([record.digest for record in records])
        stage.encode_missing(records)
        return stage.pack(records, folder)


class _Stage:
    """One run, with what its steps share."""

    def __init__(
        self, params: FeaturesParams, paths: Paths, settings: Settings, store: FeatureStore, view: str
    ) -> None:
        self.params, self.paths, self.settings, self.store, self.view = params, paths, settings, store, view

    def encode_missing(self, manifest: Sequence[ImageRecord]) -> None:
        """Bring the store up to date with `manifest`, a shard at a time."""
        for sentence in self.store.damaged:
            _say(sentence.replace("run captioner features again", "its images are encoded again"))
        self.store.damaged.clear()
        missing = list({record.digest: record for record in manifest if record.digest not in self.store}.values())
        hits = len(manifest) - len(missing)
        if not missing:
            _say(f"{len(manifest)} images, all of them in the feature store; nothing to encode.")
            return
        rate = len(missing) / self._encode(missing, hits)
        _say(f"{len(manifest)} images: {hits} in the feature store, {len(missing)} encoded ({rate:.1f} images/s).")

    def _encode(self, missing: Sequence[ImageRecord], hits: int) -> float:
        """Returns the seconds that it took, without those that TensorFlow and the weights take to load."""
        # Here and not above: a run that has nothing to encode does not wait for TensorFlow.
        start_tensorflow(self.settings.threads)
        from captioner.featurestore.extract import Extractor
        from captioner.model.encoder import load_encoder

        encoder = load_encoder(
            self.params.encoder, self.params.layout, self.settings.weights, self.paths.home / "encoders"
        )
        if view_of(replace(encoder.meta, engine=self.params.engine), self.view) != self.store.meta:
            raise BadData(
                f"The weights of {encoder.name} changed while they were in use: run captioner features again."
            )
        extractor = Extractor(encoder, self.params.batch, self.view, self.params.engine)
        started = time.monotonic()
        with (
            PackReader(self.paths.raw) as packs,
            track(self._name("features"), len(missing), "images") as progress,
            self.store.appending() as shards,
        ):
            progress.advance(0, note=f"{hits} in the store")
            in_shard = 0
            # The digest says that these are the bytes that validate decoded.
            for records, rows in extractor.extract(
                missing, lambda r: images.normalise(packs.read(r), r.id, whole=True)
            ):
                shards.add([record.digest for record in records], rows)
                progress.advance(len(records))
                in_shard += len(records)
                if in_shard >= SHARD_IMAGES:
                    shards.commit()
                    in_shard = 0
        return time.monotonic() - started

    def pack(self, manifest: Sequence[ImageRecord], folder: Path) -> _Statistics:
        """Write `folder` from the store, but for the files that are there already."""
        ids, digests = [record.id for record in manifest], [record.digest for record in manifest]
        with track(self._name("packing"), len(manifest), "images") as progress:

            def read(rows: Sequence[int]) -> Features:
                progress.advance(len(rows))
                return self.store.rows([digests[row] for row in rows])

            written = write_packed(folder, self.store.meta, ids, digests, read)
            progress.advance(len(manifest) - written, note=f"{written} written")
        packed, statistics = PackedFeatures.open(folder), _Statistics()
        for start in range(0, len(packed), BLOCK_IMAGES):
            statistics.add(packed.rows(range(start, min(start + BLOCK_IMAGES, len(packed)))))
        return statistics

    def _name(self, work: str) -> str:
        return work if self.view == PLAIN else f"{work} ({self.view})"


class _Statistics:
    """Mean and deviation over everything that was added."""

    def __init__(self) -> None:
        self.images, self._numbers, self._sum, self._squares = 0, 0, 0.0, 0.0

    def add(self, block: Features) -> None:
        numbers = block.astype(np.float32)
        self.images += len(block)
        self._numbers += numbers.size
        self._sum += float(numbers.sum(dtype=np.float64))
        self._squares += float(np.square(numbers).sum(dtype=np.float64))

    @property
    def mean(self) -> float:
        return self._sum / self._numbers

    @property
    def deviation(self) -> float:
        return math.sqrt(max(0.0, self._squares / self._numbers - self.mean**2))


def _report(meta: FeaturesMeta, statistics: _Statistics, views: Sequence[str]) -> FeaturesReport:
    # Six figures: sums are the same on one machine, and to that many on any.
    return FeaturesReport(
        images=statistics.images,
        mean=float(f"{statistics.mean:.6g}"),
        deviation=float(f"{statistics.deviation:.6g}"),
        views=list(views),
        **asdict(meta),
    )


def _say(sentence: str) -> None:
    print(f"features: {sentence}", file=sys.stderr)
