"""What every dataset is to `acquire`: pictures in the order of their ids, and the rows that had to stay out.

Knows nothing of where a dataset comes from, nor of how it is stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from captioner.records import Quarantined, Split


@dataclass(frozen=True)
class Item:
    """One picture. `id` is unique in its dataset, and its name in the packs too."""

    id: str
    data: bytes
    split: Split
    captions: tuple[str, ...]
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    """A dataset that is ready to be stored.

    `items` yields exactly `total` pictures, sorted by id; it may be walked once. `orphans` are rows that name nothing
    (a caption without its picture, a picture without a caption). `notes` are sentences for the reader of the report,
    `facts` are numbers for it.
    """

    total: int
    items: Iterator[Item]
    orphans: tuple[Quarantined, ...] = ()
    notes: tuple[str, ...] = ()
    facts: Mapping[str, int] = field(default_factory=dict)
