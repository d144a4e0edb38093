"""Where a request goes, and who may ask."""

import json
import urllib.error
import urllib.request

import pytest

from captioner.emulator.faults import AwsError
from captioner.emulator.front import read_at_most, signing_name
from tests.local_aws import LocalAws

SIGNED = "AWS4-HMAC-SHA256 Credential=AKID/20260101/eu-west-1/{}/aws4_request, SignedHeaders=host, Signature=0"


@pytest.mark.parametrize(
    ("environ", "service"),
    [
        ({"HTTP_AUTHORIZATION": SIGNED.format("sagemaker")}, "sagemaker"),
        ({"HTTP_AUTHORIZATION": SIGNED.format("s3")}, "s3"),
        ({"HTTP_AUTHORIZATION": SIGNED.format("monitoring")}, "monitoring"),
        ({"QUERY_STRING": "X-Amz-Credential=AKID%2F20260101%2Feu-west-1%2Fs3%2Faws4_request"}, "s3"),
        ({"HTTP_X_AMZ_TARGET": "SageMaker.ListModels"}, "sagemaker"),
        ({"PATH_INFO": "/endpoints/one/invocations"}, "sagemaker"),
        ({"PATH_INFO": "/bucket/key"}, "s3"),
        ({"CONTENT_TYPE": "application/x-www-form-urlencoded"}, "moto"),
        ({"PATH_INFO": "/moto-api/reset"}, "moto"),
    ],
)
def test_the_signature_says_which_service_is_meant(environ: dict[str, str], service: str) -> None:
    assert signing_name(environ) == service


def test_a_body_is_read_to_its_limit_and_no_further() -> None:
    assert read_at_most(iter([b"ab", b"cd"]), 4) == b"abcd"
    left = iter([b"ab", b"cd", b"ef"])
    with pytest.raises(AwsError, match="exceeded 3 bytes"):
        read_at_most(left, 3)
    assert list(left) == [b"ef"]


def test_a_web_page_is_turned_away(local_aws: LocalAws) -> None:
    request = urllib.request.Request(
        local_aws.url, data=b"{}", headers={"Origin": "http://example.com", "X-Amz-Target": "SageMaker.ListModels"}
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 403


def test_requests_that_are_not_json_are_refused_in_json(local_aws: LocalAws) -> None:
    request = urllib.request.Request(local_aws.url, data=b"not json", headers={"X-Amz-Target": "SageMaker.ListModels"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 400
    assert json.load(refused.value)["__type"] == "SerializationException"
