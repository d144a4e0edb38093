"""Model archives unpacked: only plain files, only inside their folder, only so many and so much."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from captioner.emulator.artifacts import Artifacts, Limits, split, unpack
from captioner.errors import BadData
from tests.local_aws import LocalAws, model_archive


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


def put(tmp_path: Path, packed: bytes) -> Path:
    (tmp_path / "model.tar.gz").write_bytes(packed)
    return tmp_path / "model.tar.gz"


def written(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path) -> None:
    bomb = put(tmp_path, model_archive({"1/small": b"x", "1/zeros": bytes(64 << 20)}))
    assert bomb.stat().st_size < 1 << 20
    with pytest.raises(BadData, match="unpacks to more than 1000000 bytes"):
        unpack(bomb, tmp_path / "out", Limits(unpacked=1_000_000))
    assert written(tmp_path / "out") == 1


def test_many_files_that_are_small_each_are_too_many_together(tmp_path: Path) -> None:
    archive = put(tmp_path, model_archive({f"1/{n}": b"" for n in range(11)}))
    with pytest.raises(BadData, match="more than 10 files"):
        unpack(archive, tmp_path / "out", Limits(members=10))
    assert len(list((tmp_path / "out" / "1").iterdir())) == 10


def test_a_sparse_file_counts_by_what_it_claims(tmp_path: Path) -> None:
    """GNU's sparse files say how long they are: 4 TB in one block of archive."""
    entry = tarfile.TarInfo("1/sparse")
    header = bytearray(entry.tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[483:495] = b"\x80" + (4 << 40).to_bytes(11, "big")  # the real size, in the long form of a number
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    packed = put(tmp_path, gzip.compress(bytes(header) + bytes(1024)))
    with pytest.raises(BadData, match="unpacks to more than"):
        unpack(packed, tmp_path / "out")


def test_a_header_may_not_ask_for_memory(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("pax")
    entry.type, entry.size = tarfile.XHDTYPE, 1 << 40
    packed = put(tmp_path, gzip.compress(entry.tobuf(tarfile.GNU_FORMAT) + bytes(1024)))
    with pytest.raises(BadData, match="a header of 1099511627776 bytes"):
        unpack(packed, tmp_path / "out")


def test_a_size_below_nothing_is_refused(tmp_path: Path) -> None:
    """It would be taken off the sum that the limit is held against."""
    header = bytearray(tarfile.TarInfo("1/less").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" + (-(1 << 40)).to_bytes(11, "big", signed=True)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    packed = put(tmp_path, gzip.compress(bytes(header) + bytes(1024)))
    with pytest.raises(BadData):
        unpack(packed, tmp_path / "out")
    assert written(tmp_path / "out") == 0


def test_one_name_for_a_file_and_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="a file and a folder of one name"):
        unpack(put(tmp_path, model_archive({"1": b"file", "1/saved_model.pb": b""})), tmp_path / "out")


def test_an_archive_over_the_limit_is_not_fetched(tmp_path: Path, local_aws: LocalAws) -> None:
    from captioner.emulator.objects import Objects

    class Here(Objects):
        """The session's S3, through the front."""

        @property
        def port(self) -> int:
            return local_aws.port

    url = local_aws.put_model("limits/model.tar.gz", {"1/saved_model.pb": bytes(range(256)) * 40})
    objects = Here(tmp_path, tmp_path / "log", None)  # type: ignore[arg-type]
    with pytest.raises(BadData, match="the limit for a model is 100"):
        Artifacts(tmp_path / "models", objects, Limits(packed=100)).acquire(url)
    assert not list((tmp_path / "models").iterdir())
    whole = Artifacts(tmp_path / "models", objects)
    folder = whole.acquire(url)
    assert written(folder) == 256 * 40
    whole.release(folder)
    assert not folder.exists()


@pytest.mark.parametrize("url", ["https://bucket/key", "s3://bucket", "s3:///key", "key"])
def test_only_s3_objects_are_urls(url: str) -> None:
    assert split("s3://bucket/a/b") == ("bucket", "a/b")
    with pytest.raises(BadData, match="not the URL of an S3 object"):
        split(url)
