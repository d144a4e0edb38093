"""Downloads against a server that is slow, hangs up, lies and changes its mind."""

from __future__ import annotations

import hashlib
import random
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from captioner.checksums import Checksums
from captioner.download import Retries, download
from captioner.errors import BadData, BadEnvironment, BadParams, ServiceUnavailable
from tests.disks import small_disk
from tests.webserver import Behaviour, serve

BODY = random.Random(7).randbytes(300_000)
SHA = Checksums(sha256=(hashlib.sha256(BODY).hexdigest(),))
FAST = Retries(attempts=3, wait_s=0.001, timeout_s=5.0)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_comes_whole_and_leaves_nothing_else(tmp_path: Path) -> None:
    with serve(Behaviour(BODY)) as url:
        target = download(url, tmp_path / "new" / "file.zip", SHA, FAST)
    assert target.read_bytes() == BODY
    assert left(target.parent) == ["file.zip"]


def test_a_file_that_is_there_is_not_asked_for_again(tmp_path: Path) -> None:
    (tmp_path / "file.zip").write_bytes(BODY)
    how = Behaviour(BODY)
    with serve(how) as url:
        download(url, tmp_path / "file.zip", SHA, FAST)
    assert how.requests == []


def test_a_wrong_file_that_is_there_is_set_aside_and_replaced(tmp_path: Path) -> None:
    (tmp_path / "file.zip").write_bytes(b"from another day")
    with serve(Behaviour(BODY)) as url:
        download(url, tmp_path / "file.zip", SHA, FAST)
    assert (tmp_path / "file.zip").read_bytes() == BODY
    assert (tmp_path / "file.zip.bad").read_bytes() == b"from another day"


def test_a_connection_that_breaks_is_resumed_where_it_broke(tmp_path: Path) -> None:
    how = Behaviour(BODY, break_after=[100_000, 50_000])
    with serve(how) as url:
        assert download(url, tmp_path / "file.zip", SHA, FAST).read_bytes() == BODY
    assert [request.get("Range") for request in how.requests] == [None, "bytes=100000-", "bytes=150000-"]
    assert how.requests[1]["If-Range"] == '"v1"'


def test_breaking_off_counts_only_while_nothing_comes(tmp_path: Path) -> None:
    how = Behaviour(BODY, break_after=[40_000] * 7)
    with serve(how) as url:
        assert download(url, tmp_path / "file.zip", SHA, FAST).read_bytes() == BODY
    assert len(how.requests) == 8  # more than the three attempts: each one got further


def test_a_later_run_goes_on_where_an_earlier_one_stopped(tmp_path: Path) -> None:
    how = Behaviour(BODY, break_after=[100_000, 0, 0, 0])
    with serve(how) as url:
        with pytest.raises(
            ServiceUnavailable, match=r"0\.1 MB are kept in .*file\.zip\.part: run the same command again"
        ):
            download(url, tmp_path / "file.zip", SHA, FAST)
        assert (tmp_path / "file.zip.part").read_bytes() == BODY[:100_000]
        how.requests.clear()
        how.break_after.clear()
        assert download(url, tmp_path / "file.zip", SHA, FAST).read_bytes() == BODY
    assert how.requests[0]["Range"] == "bytes=100000-"


def test_a_killed_download_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """The process dies without a chance to tidy up."""
    how = Behaviour(BODY, break_after=[100_000], stall=[False, True])
    code = (
        "import sys; from pathlib import Path; from captioner.download import download, Retries\n"
        "download(sys.argv[1], Path(sys.argv[2]), retries=Retries(wait_s=0.001))"
    )
    with serve(how) as url:
        process = subprocess.Popen([sys.executable, "-c", code, url, str(tmp_path / "file.zip")])
        assert how.stalled.wait(60)  # the second request hangs: the first 100,000 bytes are on the disk
        process.kill()
        process.wait()
        assert download(url, tmp_path / "file.zip", retries=FAST).read_bytes() == BODY
    assert how.requests[-1]["Range"] == "bytes=100000-"


@pytest.mark.parametrize("checksums", [SHA, Checksums()])
def test_a_server_that_ignores_ranges_starts_over(tmp_path: Path, checksums: Checksums) -> None:
    how = Behaviour(BODY, ranges=False, break_after=[100_000])
    with serve(how) as url:
        assert download(url, tmp_path / "file.zip", checksums, FAST).read_bytes() == BODY
    assert len(how.requests) == 2


def test_a_server_that_ignores_ranges_and_always_breaks_does_not_loop(tmp_path: Path) -> None:
    how = Behaviour(BODY, ranges=False, break_after=[100_000] * 50)
    with serve(how) as url, pytest.raises(ServiceUnavailable, match=r"broke off at 0\.1 MB of 0\.3 MB"):
        download(url, tmp_path / "file.zip", SHA, FAST)
    assert len(how.requests) == 3


def test_a_file_that_changed_at_the_server_starts_over(tmp_path: Path) -> None:
    old = Behaviour(bytes(300_000), break_after=[100_000, 0, 0, 0])
    new = Behaviour(BODY, etag='"v2"')
    with serve(old) as url:
        with pytest.raises(ServiceUnavailable):
            download(url, tmp_path / "file.zip", retries=FAST)
        old.body, old.etag = new.body, new.etag
        old.break_after.clear()
        assert download(url, tmp_path / "file.zip", retries=FAST).read_bytes() == BODY
    assert old.requests[-1]["If-Range"] == '"v1"'


def test_without_an_etag_only_a_checksum_allows_to_resume(tmp_path: Path) -> None:
    for checksums, asked in ((SHA, "bytes=100000-"), (Checksums(), None)):
        how = Behaviour(BODY, etag=None, break_after=[100_000])
        folder = tmp_path / str(bool(checksums))
        with serve(how) as url:
            assert download(url, folder / "file.zip", checksums, FAST).read_bytes() == BODY
        assert how.requests[1].get("Range") == asked


def test_a_weak_etag_identifies_nothing(tmp_path: Path) -> None:
    how = Behaviour(BODY, etag='W/"v1"', break_after=[100_000])
    with serve(how) as url:
        assert download(url, tmp_path / "file.zip", retries=FAST).read_bytes() == BODY
    assert "Range" not in how.requests[1]


def test_what_was_kept_of_another_address_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "file.zip.part").write_bytes(b"x" * 100)
    how = Behaviour(BODY)
    with serve(how) as url:
        assert download(url, tmp_path / "file.zip", retries=FAST).read_bytes() == BODY
    assert "Range" not in how.requests[0]


def test_a_server_that_sends_another_range_is_not_believed(tmp_path: Path) -> None:
    how = Behaviour(BODY, break_after=[100_000], shift_range=5)
    with serve(how) as url:
        assert download(url, tmp_path / "file.zip", SHA, FAST).read_bytes() == BODY
    assert [request.get("Range") for request in how.requests] == [None, "bytes=100000-", None]


def test_a_part_longer_than_the_file_starts_over(tmp_path: Path) -> None:
    how = Behaviour(BODY, break_after=[200_000, 0, 0, 0])
    with serve(how) as url:
        with pytest.raises(ServiceUnavailable):
            download(url, tmp_path / "file.zip", retries=FAST)
        how.body = BODY[:150_000]
        how.break_after.clear()
        assert download(url, tmp_path / "file.zip", retries=FAST).read_bytes() == BODY[:150_000]


def test_a_body_without_length_is_taken_to_its_end(tmp_path: Path) -> None:
    with serve(Behaviour(BODY, length=False)) as url:
        assert download(url, tmp_path / "file.zip", SHA, FAST).read_bytes() == BODY


def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    with serve(Behaviour(b"")) as url:
        assert download(url, tmp_path / "file.zip", retries=FAST).read_bytes() == b""


def test_wrong_bytes_are_set_aside_and_both_sums_are_named(tmp_path: Path) -> None:
    wrong = b"<html>please log in</html>"
    with serve(Behaviour(wrong)) as url, pytest.raises(BadData) as error:
        download(url, tmp_path / "file.zip", SHA, FAST)
    assert hashlib.sha256(wrong).hexdigest() in str(error.value)
    assert SHA.sha256[0] in str(error.value)
    assert left(tmp_path) == ["file.zip.bad"]
    assert (tmp_path / "file.zip.bad").read_bytes() == wrong


def test_an_md5_is_enough_where_no_more_is_published(tmp_path: Path) -> None:
    md5 = Checksums(sha256=("0" * 64,), md5=(hashlib.md5(BODY).hexdigest(),))
    with serve(Behaviour(BODY)) as url:
        assert download(url, tmp_path / "file.zip", md5, FAST).read_bytes() == BODY


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429, 408])
def test_what_can_pass_is_tried_again(tmp_path: Path, status: int) -> None:
    how = Behaviour(BODY, statuses=[status, status])
    with serve(how) as url:
        assert download(url, tmp_path / "file.zip", SHA, FAST).read_bytes() == BODY
    assert len(how.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_what_cannot_pass_is_not(tmp_path: Path, status: int) -> None:
    how = Behaviour(BODY, statuses=[status])
    with serve(how) as url, pytest.raises(BadData, match=f"HTTP {status}.*check the address"):
        download(url, tmp_path / "file.zip", SHA, FAST)
    assert len(how.requests) == 1


def test_a_silent_server_is_given_up_after_the_timeout(tmp_path: Path) -> None:
    how = Behaviour(BODY, stall=[True, True])
    with serve(how) as url, pytest.raises(ServiceUnavailable, match="timed out"):
        download(url, tmp_path / "file.zip", SHA, Retries(attempts=2, wait_s=0.001, timeout_s=0.1))
    assert len(how.requests) == 2


def test_nobody_there(tmp_path: Path) -> None:
    with serve(Behaviour(BODY)) as url:
        pass
    with pytest.raises(ServiceUnavailable, match="refused"):
        download(url, tmp_path / "file.zip", SHA, FAST)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "file:///etc/passwd", "s3://bucket/x"])
def test_only_http(tmp_path: Path, url: str) -> None:
    with pytest.raises(BadParams, match="only http and https"):
        download(url, tmp_path / "file.zip")


def test_a_file_that_does_not_fit_is_not_begun(tmp_path: Path) -> None:
    said = pytest.raises(BadEnvironment, match=r"0\.3 MB are needed, 0\.\d MB are free")
    with small_disk(tmp_path / "disk", 200 * 1024) as disk, serve(Behaviour(BODY)) as url, said:
        download(url, disk / "file.zip", SHA, FAST)


def test_a_full_disk_keeps_what_was_received(tmp_path: Path) -> None:
    how = Behaviour(BODY, length=False)  # so that it cannot be known beforehand
    with small_disk(tmp_path / "disk", 200 * 1024) as disk, serve(how) as url:
        with pytest.raises(BadEnvironment, match=r"No space left on device; the 0\.\d MB received so far are kept"):
            download(url, disk / "file.zip", SHA, FAST)
        kept = (disk / "file.zip.part").read_bytes()
        assert len(kept) > 100_000
        assert BODY.startswith(kept)
        assert len(how.requests) == 1
        subprocess.run(["mount", "-o", "remount,size=1m", str(disk)], check=True)
        assert download(url, disk / "file.zip", SHA, FAST).read_bytes() == BODY
    assert how.requests[1]["Range"] == f"bytes={len(kept)}-"


def test_a_file_size_limit_keeps_what_was_received(tmp_path: Path) -> None:
    """The same without root: the kernel refuses to let the file grow."""
    code = (
        "import sys; from pathlib import Path; from captioner.download import download\n"
        "from captioner.errors import BadEnvironment\n"
        "try: download(sys.argv[1], Path(sys.argv[2]))\n"
        "except BadEnvironment as error: print(error)"
    )

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))

    with serve(Behaviour(BODY)) as url:
        command = [sys.executable, "-c", code, url, str(tmp_path / "file.zip")]
        done = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, check=True)
    assert "File too large; the 0.1 MB received so far are kept" in done.stdout
    assert (tmp_path / "file.zip.part").read_bytes() == BODY[:150_000]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(BadEnvironment, match="cannot be made"):
        download("http://127.0.0.1:9/x", tmp_path / "file" / "x.zip")


def test_progress_is_told_in_megabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CAPTIONER_PROGRESS", "json")
    with serve(Behaviour(bytes(2_500_000))) as url:
        download(url, tmp_path / "file.zip", retries=FAST)
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert '"task": "download file.zip", "done": 3, "total": 3, "unit": "MB"' in last
