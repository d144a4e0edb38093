"""The demo's two candidates: what was made is made again only when another model is shipped."""

from __future__ import annotations

from pathlib import Path

from captioner.demo.project import CHAMPION, _made, _trained
from captioner.digests import sha256_file
from captioner.paths import Paths
from captioner.records import write_bytes, write_json
from captioner.shipped import FILES, Shipped


def shipped_as(folder: Path, digest: str) -> Shipped:
    """A model with one set of weights, whose artifact has `digest`: how it decodes is part of that."""
    return Shipped(
        folder, {"artifact": {"digest": digest, "weights_digest": "w"}, "reports": {"train": {"epochs": []}}}
    )


def test_a_candidate_is_made_again_when_the_same_weights_are_shipped_to_decode_otherwise(paths: Paths) -> None:
    shipped = shipped_as(paths.root / "shipped", "one")
    for name in FILES:
        write_bytes(shipped.folder / name, b"of a model")
    assert not _made(paths, shipped, CHAMPION)
    _trained(paths, shipped, CHAMPION)
    artifact = paths.exported(CHAMPION) / "model.tar.gz"
    write_bytes(artifact, b"exported")
    assert not _made(paths, shipped, CHAMPION), "it was not evaluated"
    write_json(paths.report("evaluate", CHAMPION), {"digest": sha256_file(artifact)})
    assert _made(paths, shipped, CHAMPION)
    assert not _made(paths, shipped_as(shipped.folder, "another"), CHAMPION)
