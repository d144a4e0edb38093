"""Champion and challenger side by side, published for pages that reach no registry: scores, and captions that differ.

What each said of the test images is read from the registry; pictures come from this workspace, where it has them.
Judges nothing: that is the gate's business, and the experiment's.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from captioner.clock import stamp
from captioner.digests import sha256_text
from captioner.errors import BadData, BadImage
from captioner.evidence import evidence_of
from captioner.gallery import thumbnail
from captioner.ledger import CHALLENGER, CHAMPION
from captioner.packs import PackReader
from captioner.paths import Paths
from captioner.ports import Documents, ModelVersion, Registry
from captioner.records import ImageRecord, read_manifest, read_predictions
from captioner.release.names import models_key
from captioner.stages.recording import scratch

SHOWN = 12  # pictures, some 10 KB each


def publish(
    found: Mapping[str, ModelVersion], paths: Paths, registry: Registry, documents: Documents, name: str
) -> dict[str, Any]:
    """Write the document of `name` anew unless it is of `found` (alias → version) already; returns it.

    Raises ServiceUnavailable when the bucket or the registry does not answer.
    """
    models = {alias: {**evidence_of(one), "digest": one.digest} for alias, one in found.items()}
    before = documents.read(models_key(name))
    if before and before.value["models"] == models:
        return dict(before.value)
    both = CHAMPION in found and CHALLENGER in found
    captions = _differences(paths, registry, found[CHAMPION], found[CHALLENGER]) if both else _captions()
    value = {"as_of": stamp(), "models": models, **captions}
    if before:
        documents.replace(models_key(name), value, before.tag)
    else:
        documents.create(models_key(name), value)
    return value


def _captions(compared: int = 0, differ: int = 0, gallery: Sequence[Any] = ()) -> dict[str, Any]:
    return {"compared": compared, "differ": differ, "gallery": list(gallery)}


def _differences(paths: Paths, registry: Registry, champion: ModelVersion, challenger: ModelVersion) -> dict[str, Any]:
    """How many best captions differ, and SHOWN of them, chosen by the hash of the image's id: by nothing they show."""
    try:
        with scratch(paths) as folder:
            ours, theirs = (_best(registry, one, folder / one.version) for one in (champion, challenger))
    except BadData:  # a version that was not registered by captioner has none
        return _captions()
    both = ours.keys() & theirs.keys()
    differ = sorted((image for image in both if ours[image] != theirs[image]), key=sha256_text)
    records = _records(paths)
    with PackReader(paths.raw) as packs:
        gallery = [
            {
                "id": image,
                "picture": _picture(packs, records.get(image)),
                CHAMPION: ours[image],
                CHALLENGER: theirs[image],
                "people": list(records[image].captions) if image in records else [],
            }
            for image in differ[:SHOWN]
        ]
    return _captions(len(both), len(differ), gallery)


def _best(registry: Registry, model: ModelVersion, folder: Path) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    rows = read_predictions(registry.fetch_predictions(model, folder))
    return {row.id: row.captions[0].caption for row in rows if row.captions}


def _records(paths: Paths) -> Mapping[str, ImageRecord]:
    try:
        return {row.id: row for row in read_manifest(paths.validated / "manifest.jsonl")}
    except BadData:  # whoever deploys need not have the data
        return {}


def _picture(packs: PackReader, record: ImageRecord | None) -> str | None:
    """The picture as base64 of a small JPEG, None where it is not here."""
    try:
        return base64.b64encode(thumbnail(packs.read(record))).decode("ascii") if record else None
    except (BadData, BadImage):
        return None
