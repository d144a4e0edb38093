"""Data capture: what is written, where, and that nothing is lost and nobody waits for it."""

import base64
import json
import re
import threading
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from captioner.emulator.capture import Capture, Exchange
from captioner.errors import BadEnvironment
from tests.local_aws import LocalAws, until

BOTH = [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}]
CONFIG = {"InitialSamplingPercentage": 100, "DestinationS3Uri": "s3://bucket/a/b/", "CaptureOptions": BOTH}
TIME = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


class Files:
    """A sink that remembers, and fails as often as it is told to."""

    def __init__(self, faults: int = 0, fault: Exception | None = None) -> None:
        self.found: dict[str, bytes] = {}
        self.faults, self.fault = faults, fault or BadEnvironment("S3 is down")
        self.gate = threading.Event()
        self.gate.set()

    def upload(self, bucket: str, key: str, data: bytes) -> None:
        self.gate.wait(30)
        if self.faults:
            self.faults -= 1
            raise self.fault
        self.found[f"{bucket}/{key}"] = data

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for data in self.found.values() for line in data.splitlines()]


def exchange(number: int = 0, **more: Any) -> Exchange:
    known = {"endpoint": "e", "variant": "champion", "request_type": "image/jpeg", "request": b"\xff%d" % number}
    return Exchange(**{**known, "answer_type": "application/json", "answer": b'{"a": 1}', "time": TIME, **more})


def captured(config: dict[str, Any], *exchanges: Exchange) -> Files:
    files = Files()
    capture = Capture(files, flush_s=60)
    for one in exchanges:
        capture.record(config, one)
    capture.close()
    return files


def test_the_layout_and_the_record_are_the_documented_ones() -> None:
    files = captured(CONFIG, exchange(inference_id="request-7"))
    ((place, data),) = files.found.items()
    name = r"\d\d-\d\d-\d{3}-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\.jsonl"
    assert re.fullmatch(rf"bucket/a/b/e/champion/2026/03/04/05/{name}", place)
    assert data.endswith(b"\n")
    (record,) = files.records()
    event = record["eventMetadata"].pop("eventId")
    assert re.fullmatch(r"[0-9a-f-]{36}", event)
    assert record == {
        "captureData": {
            "endpointInput": {
                "observedContentType": "image/jpeg",
                "mode": "INPUT",
                "data": base64.b64encode(b"\xff0").decode(),
                "encoding": "BASE64",
            },
            "endpointOutput": {
                "observedContentType": "application/json",
                "mode": "OUTPUT",
                "data": base64.b64encode(b'{"a": 1}').decode(),
                "encoding": "BASE64",
            },
        },
        "eventMetadata": {"inferenceId": "request-7", "inferenceTime": "2026-03-04T05:06:07Z"},
        "eventVersion": "0",
    }


def test_an_inference_id_that_was_not_given_is_not_there() -> None:
    (record,) = captured(CONFIG, exchange()).records()
    assert "inferenceId" not in record["eventMetadata"]


@pytest.mark.parametrize(
    ("modes", "parts"),
    [
        (["Input"], {"endpointInput"}),
        (["Output"], {"endpointOutput"}),
        (["InputAndOutput"], {"endpointInput", "endpointOutput"}),
    ],
)
def test_only_what_was_asked_for_is_captured(modes: list[str], parts: set[str]) -> None:
    options = [{"CaptureMode": mode} for mode in modes]
    (record,) = captured({**CONFIG, "CaptureOptions": options}, exchange()).records()
    assert set(record["captureData"]) == parts


def test_content_types_that_are_named_are_kept_as_text() -> None:
    header = {"JsonContentTypes": ["application/json"], "CsvContentTypes": ["text/csv"]}
    config = {**CONFIG, "CaptureContentTypeHeader": header}
    csv = exchange(request_type="text/csv; charset=utf-8", request="1,ä".encode())
    broken = exchange(request_type="text/csv", request=b"\xff\xfe")
    first, second = captured(config, csv, broken).records()
    given = first["captureData"]["endpointInput"]
    assert (given["observedContentType"], given["data"], given["encoding"]) == ("text/csv; charset=utf-8", "1,ä", "CSV")
    answered = first["captureData"]["endpointOutput"]
    assert (answered["data"], answered["encoding"]) == ('{"a": 1}', "JSON")
    kept = second["captureData"]["endpointInput"]
    assert (base64.b64decode(kept["data"]), kept["encoding"]) == (b"\xff\xfe", "BASE64")


def test_the_percentage_is_kept() -> None:
    many = [exchange(n) for n in range(2000)]
    assert captured({**CONFIG, "InitialSamplingPercentage": 0}, *many).records() == []
    assert captured({**CONFIG, "EnableCapture": False}, *many).records() == []
    found = len(captured({**CONFIG, "InitialSamplingPercentage": 30}, *many).records())
    assert 498 <= found <= 702  # 600, five standard deviations on either side


def test_each_hour_and_variant_has_files_of_its_own() -> None:
    other = TIME.replace(hour=6)
    files = captured(CONFIG, exchange(), exchange(), exchange(time=other), exchange(variant="challenger"))
    folders = Counter(place.rsplit("/", 1)[0] for place in files.found)
    assert folders == {
        "bucket/a/b/e/champion/2026/03/04/05": 1,
        "bucket/a/b/e/champion/2026/03/04/06": 1,
        "bucket/a/b/e/challenger/2026/03/04/05": 1,
    }
    assert len(files.records()) == 4


def test_what_cannot_be_written_is_written_later(capfd: pytest.CaptureFixture[str]) -> None:
    files = Files(faults=2)
    capture = Capture(files, flush_s=0.01)
    capture.record(CONFIG, exchange(1))
    until(lambda: files.found, "the capture to be written at last")
    capture.close()
    assert len(files.records()) == 1
    assert "wait: S3 is down" in capfd.readouterr().err


def test_a_bucket_that_is_not_there_is_said_and_not_waited_for(capfd: pytest.CaptureFixture[str]) -> None:
    files = Files(faults=1, fault=FileNotFoundError("there is no bucket x"))
    capture = Capture(files, flush_s=60)
    capture.record(CONFIG, exchange())
    capture.close()
    assert files.found == {}
    assert "are lost: there is no bucket x" in capfd.readouterr().err


def test_an_invocation_never_waits_and_memory_has_a_limit() -> None:
    files = Files()
    files.gate.clear()  # S3 hangs
    capture = Capture(files, flush_s=0.01, max_held=100 * exchange(10).size)
    for number in range(1000, 1500):
        capture.record(CONFIG, exchange(number % 90 + 10))
    assert capture.dropped == 400
    files.gate.set()
    capture.close()
    assert len(files.records()) == 100


# Through the endpoint


def keys(aws: LocalAws, prefix: str) -> list[str]:
    listed = aws.client("s3").list_objects_v2(Bucket="captioner", Prefix=prefix)
    return [one["Key"] for one in listed.get("Contents", [])]


def lines(aws: LocalAws, prefix: str) -> list[dict[str, Any]]:
    client = aws.client("s3")
    bodies = [client.get_object(Bucket="captioner", Key=key)["Body"].read() for key in keys(aws, prefix)]
    return [json.loads(line) for body in bodies for line in body.splitlines()]


def test_a_polite_stop_loses_nothing(tmp_path: Path) -> None:
    aws = LocalAws(tmp_path / "aws").start()
    try:
        aws.model("cap-m")
        capture = {**CONFIG, "EnableCapture": True, "DestinationS3Uri": "s3://captioner/captured"}
        aws.config("cap-c", {"champion": ("cap-m", 1), "challenger": ("cap-m", 1)}, DataCaptureConfig=capture)
        aws.endpoint("cap", "cap-c")
        client = aws.client("sagemaker-runtime")
        for number in range(40):
            client.invoke_endpoint(
                EndpointName="cap", Body=b"picture %d" % number, ContentType="image/png", InferenceId=f"i-{number}"
            )
        with pytest.raises(Exception, match="ModelError"):
            client.invoke_endpoint(EndpointName="cap", Body=b"status 400 no", ContentType="image/png")
        assert aws.stop() == 0
        aws.start()
        aws.steady("cap")
        found = lines(aws, "captured/cap/")
        bodies = {
            one["eventMetadata"]["inferenceId"]: base64.b64decode(one["captureData"]["endpointInput"]["data"])
            for one in found
        }
        assert len(found) == 40
        assert bodies == {f"i-{number}": b"picture %d" % number for number in range(40)}
        variants = {key.split("/")[2] for key in keys(aws, "captured/cap/")}
        assert variants == {"champion", "challenger"}
        # And while it runs, within seconds.
        client.invoke_endpoint(EndpointName="cap", Body=b"x", ContentType="image/png", InferenceId="late")
        until(lambda: any(one["eventMetadata"]["inferenceId"] == "late" for one in lines(aws, "captured/")), "a flush")
    finally:
        aws.stop()
