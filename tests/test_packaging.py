"""`captioner package`: the archive that SageMaker takes, the same bytes whoever packed it before."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest

from captioner.cli import main
from captioner.digests import sha256_file
from tests.local_aws import model_archive


@pytest.fixture(autouse=True)
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)


def test_a_packed_model_keeps_its_digest(tiny_artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["package", "--model", str(tiny_artifact), "--out", "out/model.tar.gz"]) == 0
    digest = sha256_file(tiny_artifact)
    assert capsys.readouterr().out == f"{digest}  out/model.tar.gz\n"
    assert sha256_file(Path("out/model.tar.gz")) == digest


def test_who_packed_it_before_makes_no_difference(tiny_artifact: Path) -> None:
    """Other order, other compression, other times: the content is what counts."""
    with tarfile.open(tiny_artifact) as packed:
        files = [(one, packed.extractfile(one)) for one in reversed(packed.getmembers())]
        with tarfile.open("foreign.tar.gz", "w:gz", compresslevel=9) as foreign:
            for entry, content in files:
                assert content is not None
                entry.mtime, entry.mode, entry.uname = 1_700_000_000, 0o755, "somebody"
                foreign.addfile(entry, io.BytesIO(content.read()))
    assert sha256_file(Path("foreign.tar.gz")) != sha256_file(tiny_artifact)
    assert main(["package", "--model", "foreign.tar.gz"]) == 0
    assert sha256_file(Path("model.tar.gz")) == sha256_file(tiny_artifact)


def test_the_shipped_model_is_packed_as_its_card_says(
    shipped_project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(shipped_project / "models" / "shipped", "models/shipped")
    assert main(["package", "--model", "shipped", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    card = json.loads(Path("models/shipped/card.json").read_text())
    assert told["sha256"] == card["artifact"]["digest"] == sha256_file(Path("model.tar.gz"))
    assert told["bytes"] == Path("model.tar.gz").stat().st_size
    with tarfile.open("model.tar.gz") as packed:
        assert {"1/saved_model.pb", "1/variables/variables.index"} <= set(packed.getnames())


def test_an_archive_without_a_model_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("other.tar.gz").write_bytes(model_archive({"saved_model.pb": b"not below a version"}))
    assert main(["package", "--model", "other.tar.gz"]) == 2
    assert "holds no NUMBER/saved_model.pb" in capsys.readouterr().err
    assert not Path("model.tar.gz").exists()


def test_a_folder_is_no_place_for_it(tiny_artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("out").mkdir()
    assert main(["package", "--model", str(tiny_artifact), "--out", "out"]) == 2
    assert "name the file, e.g. --out out/model.tar.gz" in capsys.readouterr().err
