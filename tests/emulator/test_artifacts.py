"""Model archives unpacked: only plain files, only inside their folder."""

import io
import tarfile
from pathlib import Path

import pytest

from captioner.emulator.artifacts import split, unpack
from captioner.errors import BadData
from tests.local_aws import model_archive


def test_files_come_out_where_they_belong(tmp_path: Path) -> None:
    archive = tmp_path / "model.tar.gz"
    archive.write_bytes(model_archive({"1/saved_model.pb": b"model", "./1/variables/v": b"weights"}))
    unpack(archive, tmp_path / "out")
    assert (tmp_path / "out/1/saved_model.pb").read_bytes() == b"model"
    assert (tmp_path / "out/1/variables/v").read_bytes() == b"weights"


@pytest.mark.parametrize("name", ["../outside", "1/../../outside", "/tmp/outside"])
def test_a_name_that_leads_outside_is_refused(tmp_path: Path, name: str) -> None:
    archive = tmp_path / "model.tar.gz"
    archive.write_bytes(model_archive({name: b"bad"}))
    (tmp_path / "a").mkdir()
    with pytest.raises(BadData, match="not a plain file inside it"):
        unpack(archive, tmp_path / "a" / "out")
    assert not list(tmp_path.rglob("outside"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_a_link_or_device_is_refused(tmp_path: Path, kind: bytes) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        entry = tarfile.TarInfo("1/link")
        entry.type, entry.linkname = kind, "/etc/passwd"
        archive.addfile(entry)
    (tmp_path / "model.tar.gz").write_bytes(packed.getvalue())
    with pytest.raises(BadData, match="1/link"):
        unpack(tmp_path / "model.tar.gz", tmp_path / "out")


@pytest.mark.parametrize("cut", [0, 5, 60])
def test_a_damaged_archive_is_said(tmp_path: Path, cut: int) -> None:
    (tmp_path / "model.tar.gz").write_bytes(model_archive({"1/saved_model.pb": bytes(range(256)) * 40})[:cut])
    with pytest.raises(BadData, match="damaged"):
        unpack(tmp_path / "model.tar.gz", tmp_path / "out")


@pytest.mark.parametrize("url", ["https://bucket/key", "s3://bucket", "s3:///key", "key"])
def test_only_s3_objects_are_urls(url: str) -> None:
    assert split("s3://bucket/a/b") == ("bucket", "a/b")
    with pytest.raises(BadData, match="not the URL of an S3 object"):
        split(url)
