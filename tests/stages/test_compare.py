"""Champion and challenger side by side: what is published of them, and when."""

from __future__ import annotations

import base64
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from captioner.ledger import ALIASES
from captioner.packs import digest
from captioner.paths import Paths
from captioner.ports import ModelVersion
from captioner.records import Caption, ImageRecord, Prediction, write_manifest, write_predictions
from captioner.release.names import models_key
from captioner.stages import compare
from tests.fakes import FakeDocuments, FakeRegistry

NAME = "captioner-sample"


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def validated(paths: Paths) -> Paths:
    """Fifteen test images, as acquire and validate leave them."""
    paths.raw.mkdir(parents=True)
    rows = []
    with zipfile.ZipFile(paths.raw / "images-0.zip", "w") as pack:
        for number in range(15):
            out = io.BytesIO()
            Image.new("RGB", (40, 30), (number * 10, 0, 0)).save(out, "JPEG")
            pack.writestr(f"{number}.jpg", out.getvalue())
            row = ImageRecord(f"{number}.jpg", "images-0.zip", f"{number}.jpg", digest(out.getvalue()), "test", ("a",))
            rows.append(row)
    write_manifest(paths.validated / "manifest.jsonl", rows)
    return paths


def published(paths: Paths, registry: FakeRegistry, documents: FakeDocuments) -> dict[str, Any]:
    """What is published of the versions that hold the aliases now."""
    held = {alias: registry.by_alias(NAME, alias) for alias in ALIASES}
    return compare.publish({alias: one for alias, one in held.items() if one}, paths, registry, documents, NAME)


def register(registry: FakeRegistry, folder: Path, alias: str, captions: dict[str, str]) -> ModelVersion:
    """A version that said `captions` of the test images."""
    artifact, predictions = folder / f"{alias}.tar.gz", folder / f"{alias}.jsonl"
    artifact.write_text(alias)
    write_predictions(predictions, [Prediction(id, (Caption(said, -1.0),)) for id, said in captions.items()])
    run = registry.tracker.start(alias, {})
    run.files["evaluation/predictions.jsonl"] = predictions.read_bytes()
    tags = {
        "captioner.predictions": f"runs:/{run.id}/evaluation/predictions.jsonl",
        "captioner.gate": "passed",
        "captioner.test.cider": "59.8600",
    }
    model = registry.create(NAME, artifact, run.id, tags)
    registry.set_alias(NAME, alias, model.version)
    return model


def test_a_champion_alone_has_nothing_beside_it(registry: FakeRegistry, paths: Paths, tmp_path: Path) -> None:
    documents = FakeDocuments()
    register(registry, tmp_path, "champion", {"1.jpg": "a dog"})
    found = published(paths, registry, documents)
    assert found["models"]["champion"]["test"] == {"cider": "59.8600"}
    assert (found["compared"], found["gallery"]) == (0, [])
    kept = documents.read(models_key(NAME))
    assert kept
    assert kept.value == found


def test_captions_that_differ_are_shown_with_pictures_that_are_here(
    registry: FakeRegistry, validated: Paths, tmp_path: Path
) -> None:
    ids = [f"{number}.jpg" for number in range(15)]
    register(registry, tmp_path, "champion", {**dict.fromkeys(ids, "a dog"), "gone.jpg": "a"})
    register(registry, tmp_path, "challenger", {**dict.fromkeys(ids, "a cat"), ids[0]: "a dog", "gone.jpg": "b"})
    documents = FakeDocuments()
    found = published(validated, registry, documents)
    assert (found["compared"], found["differ"]) == (16, 15)
    assert len(found["gallery"]) == compare.SHOWN
    assert ids[0] not in {one["id"] for one in found["gallery"]}
    for one in found["gallery"]:
        if one["id"] == "gone.jpg":
            assert (one["picture"], one["people"], one["champion"], one["challenger"]) == (None, [], "a", "b")
        else:
            assert base64.b64decode(one["picture"]).startswith(b"\xff\xd8")
            assert (one["champion"], one["challenger"]) == ("a dog", "a cat")
            assert one["people"]


def test_nothing_is_read_again_until_an_alias_moves(registry: FakeRegistry, paths: Paths, tmp_path: Path) -> None:
    documents = FakeDocuments()
    register(registry, tmp_path, "champion", {"1.jpg": "a dog"})
    two = register(registry, tmp_path, "challenger", {"1.jpg": "a cat"})
    first = published(paths, registry, documents)
    assert first["differ"] == 1
    registry.tracker.runs.clear()  # whoever read the predictions again would find none
    assert published(paths, registry, documents) == first
    registry.drop_alias(NAME, "challenger")
    registry.set_alias(NAME, "champion", two.version)
    after = published(paths, registry, documents)
    assert (list(after["models"]), after["models"]["champion"]["version"]) == (["champion"], "2")


def test_versions_without_predictions_are_no_reason_to_fail(
    registry: FakeRegistry, paths: Paths, tmp_path: Path
) -> None:
    for alias in ("champion", "challenger"):
        artifact = tmp_path / alias
        artifact.write_text(alias)
        registry.set_alias(NAME, alias, registry.create(NAME, artifact, "run", {}).version)
    found = published(paths, registry, FakeDocuments())
    assert (set(found["models"]), found["compared"]) == ({"champion", "challenger"}, 0)
