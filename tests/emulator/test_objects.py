"""S3 behind the front: what DVC and boto3 do with it, large objects, odd names, racing writers."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.local_aws import LocalAws

MB = 1 << 20


@pytest.fixture(scope="module")
def bucket(local_aws: LocalAws) -> str:
    local_aws.client("s3").create_bucket(Bucket="objects")
    return "objects"


def resident_mb(pid: int) -> float:
    """The most memory that a process has held."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def test_large_objects_pass_without_filling_memory(local_aws: LocalAws, bucket: str, tmp_path: Path) -> None:
    source, target = tmp_path / "large", tmp_path / "back"
    block = os.urandom(MB)
    with source.open("wb") as file:
        for number in range(192):
            file.write(number.to_bytes(4, "big") + block[4:])
    client = local_aws.client("s3")
    before = resident_mb(local_aws.process.pid)
    client.upload_file(str(source), bucket, "multipart")
    with source.open("rb") as body:
        client.put_object(Bucket=bucket, Key="single", Body=body)
    for key in ("multipart", "single"):
        client.download_file(bucket, key, str(target))
        assert target.read_bytes() == source.read_bytes()
    assert resident_mb(local_aws.process.pid) - before < 64


def test_dvcs_file_system_reads_and_writes(local_aws: LocalAws, bucket: str, tmp_path: Path) -> None:
    import s3fs

    files = s3fs.S3FileSystem(
        endpoint_url=local_aws.url, key="any", secret="thing", client_kwargs={"region_name": "us-east-1"}
    )
    source = tmp_path / "data"
    source.write_bytes(os.urandom(30 * MB))
    files.put_file(str(source), f"{bucket}/dvc/files/md5/ab/cdef", chunksize=8 * MB)
    files.put_file(str(source), f"{bucket}/dvc/files/md5/ab/0123")
    assert sorted(files.find(f"{bucket}/dvc")) == [f"{bucket}/dvc/files/md5/ab/0123", f"{bucket}/dvc/files/md5/ab/cdef"]
    assert files.info(f"{bucket}/dvc/files/md5/ab/cdef")["size"] == 30 * MB
    files.get_file(f"{bucket}/dvc/files/md5/ab/cdef", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    assert not files.exists(f"{bucket}/dvc/files/md5/ab/none")
    files.rm(f"{bucket}/dvc", recursive=True)
    files.invalidate_cache()
    assert not files.exists(f"{bucket}/dvc/files/md5/ab/cdef")


@pytest.mark.parametrize("key", ["a b/c.txt", "ünïcode/日本.txt", "plus+and%2Fpercent", "q?x=1&y=2", "~tilde"])
def test_odd_keys_stay_what_they_are(local_aws: LocalAws, bucket: str, key: str) -> None:
    client = local_aws.client("s3")
    client.put_object(Bucket=bucket, Key=f"odd/{key}", Body=key.encode(), Metadata={"said": "yes"})
    found = client.get_object(Bucket=bucket, Key=f"odd/{key}")
    assert (found["Body"].read(), found["Metadata"]) == (key.encode(), {"said": "yes"})
    assert f"odd/{key}" in [one["Key"] for one in client.list_objects_v2(Bucket=bucket, Prefix="odd/")["Contents"]]
    client.delete_object(Bucket=bucket, Key=f"odd/{key}")


def test_of_forty_racing_writers_one_wins(local_aws: LocalAws, bucket: str) -> None:
    """The ledger of promotions will stand on this: If-None-Match: * admits one writer a key."""
    client = local_aws.client("s3")

    def write(number: int) -> bool:
        try:
            client.put_object(Bucket=bucket, Key=key, Body=str(number).encode(), IfNoneMatch="*")
            return True
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("PreconditionFailed", "ConditionalRequestConflict"):
                raise
            return False

    for attempt in range(5):
        key = f"race/{attempt}"
        with ThreadPoolExecutor(40) as pool:
            won = list(pool.map(write, range(40)))
        assert won.count(True) == 1
        assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == str(won.index(True)).encode()


def test_presigned_urls_ranges_and_missing_objects(local_aws: LocalAws, bucket: str) -> None:
    import urllib.request

    client = local_aws.client("s3")
    client.put_object(Bucket=bucket, Key="small", Body=b"0123456789")
    assert client.get_object(Bucket=bucket, Key="small", Range="bytes=2-4")["Body"].read() == b"234"
    url = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "small"})
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"0123456789"
    with pytest.raises(ClientError) as missing:
        client.get_object(Bucket=bucket, Key="none")
    assert missing.value.response["Error"]["Code"] == "NoSuchKey"
    assert bucket in [one["Name"] for one in client.list_buckets()["Buckets"]]


def test_the_emulator_itself_writes_where_there_is_a_bucket_only(local_aws: LocalAws, bucket: str) -> None:
    """SeaweedFS would make the bucket; on AWS a capture into one that is not there goes nowhere."""
    own = local_aws.objects()
    own.upload(bucket, "captured/a b/ä.jsonl", b"line\n")
    found = local_aws.client("s3").get_object(Bucket=bucket, Key="captured/a b/ä.jsonl")["Body"].read()
    assert found == b"line\n"
    with pytest.raises(FileNotFoundError, match="there is no bucket nowhere-at-all"):
        own.upload("nowhere-at-all", "captured/a.jsonl", b"line\n")
    assert "nowhere-at-all" not in [one["Name"] for one in local_aws.client("s3").list_buckets()["Buckets"]]
