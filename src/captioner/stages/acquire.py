"""acquire: bring a dataset into one form, ``data/raw`` = ``manifest.jsonl`` and packs of pictures.

What users wrote in captions' places (``data/feedback``, see ``stages/feedback.py``) joins its training split.
Pictures are stored as they came, byte for byte; rows that name nothing go to ``orphans.jsonl`` with a reason. The
folder appears whole or not at all. Knows nothing of what a good caption or a good picture is: that is `validate`.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from heapq import merge
from operator import attrgetter
from pathlib import Path

from captioner.datasets.dataset import Dataset
from captioner.errors import BadData, BadEnvironment, CaptionerError
from captioner.packs import PackWriter, digest
from captioner.params import AcquireParams, FolderParams
from captioner.paths import Paths
from captioner.progress import track
from captioner.records import SPLITS, ImageRecord, write_json, write_jsonl, write_manifest
from captioner.settings import Settings

MANIFEST = "manifest.jsonl"
ORPHANS = "orphans.jsonl"
CAPTIONS = "captions.csv"  # of data/feedback


@dataclass(frozen=True)
class AcquireReport:
    """What was brought in. `skipped` counts the orphans by reason; `facts` are the dataset's own numbers."""

    dataset: str
    images: int
    captions: int
    splits: Mapping[str, int]
    skipped: Mapping[str, int]
    facts: Mapping[str, int]
    notes: tuple[str, ...]


def run(params: AcquireParams, paths: Paths, settings: Settings) -> AcquireReport:
    """Bring in the dataset that `params` names.

    Raises BadData (the dataset is not what it should be, or pictures went missing on the way), BadEnvironment (disk).
    """
    dataset = _with_feedback(_open(params, paths, settings), paths)
    with _fresh_folder(paths.raw) as folder:
        rows = store(dataset, folder)
        write_manifest(folder / MANIFEST, rows)
        write_jsonl(folder / ORPHANS, (asdict(orphan) for orphan in dataset.orphans))
    report = AcquireReport(
        dataset=params.dataset,
        images=len(rows),
        captions=sum(len(row.captions) for row in rows),
        splits={split: sum(row.split == split for row in rows) for split in SPLITS},
        skipped=dict(sorted(Counter(orphan.reason for orphan in dataset.orphans).items())),
        facts=dataset.facts,
        notes=dataset.notes,
    )
    write_json(paths.report("acquire"), asdict(report))
    return report


def _open(params: AcquireParams, paths: Paths, settings: Settings) -> Dataset:
    if params.sample is not None and params.dataset == "sample":
        from captioner.datasets.sample import open_sample

        return open_sample(params.sample)
    if params.flickr8k is not None and params.dataset == "flickr8k":
        from captioner.datasets.flickr8k import open_flickr8k

        return open_flickr8k(params.flickr8k, settings.flickr8k, paths)
    if params.folder is not None and params.dataset == "folder":
        from captioner.datasets.folder import open_folder

        return open_folder(params.folder, paths.root)
    raise CaptionerError(f"acquire.{params.dataset} is missing in params.yaml.")


def _with_feedback(dataset: Dataset, paths: Paths) -> Dataset:
    """The dataset, and what was collected in ``data/feedback`` for training."""
    if not (paths.feedback / CAPTIONS).exists():
        return dataset
    from captioner.datasets.folder import open_folder

    own = FolderParams(path=str(paths.feedback), captions=CAPTIONS, dev_share=0.0, test_share=0.0)
    more = open_folder(own, paths.root)
    prefixed = (replace(item, id=f"feedback/{item.id}") for item in more.items)
    return replace(
        dataset,
        total=dataset.total + more.total,
        items=merge(dataset.items, prefixed, key=attrgetter("id")),
        orphans=(*dataset.orphans, *(replace(one, id=f"feedback/{one.id}") for one in more.orphans)),
        notes=(*dataset.notes, f"{more.total} pictures that users captioned join the training split (data/feedback)."),
    )


def store(dataset: Dataset, folder: Path) -> list[ImageRecord]:
    """Pack every picture. Raises BadData unless exactly as many come out as the dataset said it holds."""
    rows: list[ImageRecord] = []
    with PackWriter(folder) as packs, track("acquire", dataset.total, "images") as progress:
        for item in dataset.items:
            if rows and item.id <= rows[-1].id:
                raise BadData(f"{item.id!r} is there twice, or out of order: every picture needs an id of its own.")
            pack = packs.add(item.id, item.data)
            rows.append(
                ImageRecord(item.id, pack, item.id, digest(item.data), item.split, item.captions, dict(item.tags))
            )
            progress.advance()
    if len(rows) != dataset.total:
        raise BadData(f"{dataset.total} pictures were expected and {len(rows)} came: the dataset is incomplete.")
    return rows


class _fresh_folder:
    """A folder that takes `target`'s place when the block ends well, and goes away when it does not."""

    def __init__(self, target: Path) -> None:
        self.target, self.folder = target, target.with_name(f".{target.name}.part")

    def __enter__(self) -> Path:
        try:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
        except OSError as error:
            raise BadEnvironment(f"{self.folder} cannot be made: {error.strerror or error}.") from None
        return self.folder

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                if self.target.exists():
                    shutil.rmtree(self.target)
                self.folder.rename(self.target)
        except OSError as error:
            raise BadEnvironment(f"{self.target} cannot be replaced: {error.strerror or error}.") from None
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
