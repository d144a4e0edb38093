"""What export and the rebuilding of a shipped model share: the same bytes everywhere, errors that find their way."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from captioner.digests import sha256_file
from captioner.errors import BadData
from captioner.model.artifact import build_in_a_fresh_process
from captioner.paths import Paths
from captioner.records import read_json, write_json
from tests.tiny import EXPORT


@pytest.fixture
def trained(tiny_artifact: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "trained"
    shutil.copytree(tiny_artifact.parents[1] / "trained", folder)
    return folder


def test_neither_threads_nor_place_nor_hashes_change_a_byte(
    trained: Path, evaluated_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held against what one thread made of the same weights elsewhere."""
    packed = tmp_path / "model.tar.gz"
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    build_in_a_fresh_process(trained, EXPORT, "attention", packed, None, tmp_path / "encoders", threads=3)
    first = Paths(evaluated_project, evaluated_project / ".captioner").exported("attention") / "model.tar.gz"
    assert sha256_file(packed) == sha256_file(first)


def test_an_error_of_the_other_process_is_ours(trained: Path, tmp_path: Path) -> None:
    description = read_json(trained / "decoder.json")
    features = {**description["features"], "weights_digest": "0" * 64}
    write_json(trained / "decoder.json", {**description, "features": features})
    with pytest.raises(BadData, match="is not the one that the decoder was trained on"):
        build_in_a_fresh_process(trained, EXPORT, "attention", tmp_path / "x.tar.gz", None, tmp_path / "encoders", 1)
    assert not (tmp_path / "x.tar.gz").exists()
