"""An endpoint as routers ask it, on the local SageMaker: what is passed on, and who is at fault when it fails."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from captioner.adapters.aws import LOCAL_BUCKET, account
from captioner.adapters.sagemaker_runtime import SageMakerInference
from captioner.adapters.secret import revealed
from captioner.errors import BadImage, BadInput, BadParams, ModelUnavailable, ServiceUnavailable
from captioner.paths import Paths
from captioner.ports import Question
from captioner.settings import Settings
from tests.local_aws import LocalAws

NAME = "captioner-asked"
QUESTION = Question(b"a picture", "image/jpeg", "an-id", "champion", "captioner-api;variant=champion")


@pytest.fixture(scope="module")
def endpoint(local_aws: LocalAws) -> Iterator[LocalAws]:
    for model, caption in (("asked-1", "one"), ("asked-2", "two")):
        local_aws.model(model, version=model, CAPTION=caption)
    local_aws.config("asked", {"champion": ("asked-1", 1.0), "challenger": ("asked-2", 0.0)})
    assert local_aws.endpoint(NAME, "asked")["EndpointStatus"] == "InService"
    yield local_aws
    local_aws.client("sagemaker").delete_endpoint(EndpointName=NAME)


@pytest.fixture
def inference(endpoint: LocalAws, tmp_path: Path) -> SageMakerInference:
    settings = Settings.from_env(tmp_path, {})
    return SageMakerInference(settings, Paths.of(tmp_path, settings), endpoint.account)


def test_id_and_trace_reach_the_container_and_the_variant_is_the_one_that_was_asked(
    inference: SageMakerInference,
) -> None:
    for variant, caption in (("champion", "one"), ("challenger", "two"), (None, "one")):
        answer = inference.ask(NAME, dataclasses.replace(QUESTION, variant=variant))
        assert (answer.variant, answer.body["caption"]) == (variant or "champion", caption)
        headers = answer.body["headers"]
        assert headers["x-amzn-sagemaker-inference-id"] == "an-id"
        assert headers["x-amzn-sagemaker-custom-attributes"] == QUESTION.trace
        assert headers["content-type"] == "image/jpeg"


def refused(inference: SageMakerInference, body: bytes, **changes: str) -> ModelUnavailable:
    with pytest.raises(ModelUnavailable) as error:
        inference.ask(NAME, dataclasses.replace(QUESTION, body=body, **changes))
    assert not isinstance(error.value, BadImage)
    return error.value


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_model_may_be_asked_again(inference: SageMakerInference, status: int) -> None:
    assert refused(inference, b"status %d no room" % status).again


@pytest.mark.parametrize("status", [500, 502])
def test_a_model_that_failed_may_not(inference: SageMakerInference, status: int) -> None:
    error = refused(inference, b"status %d something private" % status)
    assert not error.again
    assert "private" not in str(error)


def test_a_variant_that_is_not_there_is_down(inference: SageMakerInference) -> None:
    assert "nobody" in str(refused(inference, b"x", variant="nobody"))
    with pytest.raises(ModelUnavailable, match="not found"):
        inference.ask("captioner-nowhere", QUESTION)


@pytest.mark.parametrize("status", [400, 413, 415])
def test_a_picture_that_the_model_refuses_is_the_callers(inference: SageMakerInference, status: int) -> None:
    with pytest.raises(BadImage, match="no picture"):
        inference.ask(NAME, dataclasses.replace(QUESTION, body=b"status %d no picture" % status))


def test_what_is_larger_than_an_endpoint_takes(inference: SageMakerInference) -> None:
    with pytest.raises(BadInput, match="larger"):
        inference.ask(NAME, dataclasses.replace(QUESTION, body=b"x" * 6_291_457))


def test_an_answer_without_a_caption_is_a_fault_of_the_model(inference: SageMakerInference) -> None:
    for body in (b"status 200 not JSON", b"status 200 []", b'status 200 {"caption": null}'):
        assert not refused(inference, body).again


def test_nobody_there(tmp_path: Path, endpoint: LocalAws) -> None:
    settings = Settings.from_env(tmp_path, {})
    gone = dataclasses.replace(endpoint.account, url="http://127.0.0.1:1")
    inference = SageMakerInference(settings, Paths.of(tmp_path, settings), gone)
    with pytest.raises(ModelUnavailable, match="cannot be reached") as error:
        inference.ask(NAME, QUESTION)
    assert error.value.again
    with pytest.raises(ServiceUnavailable):
        inference.status(NAME)


def test_the_status_is_sagemakers(inference: SageMakerInference) -> None:
    assert inference.status(NAME) == "InService"
    assert inference.status("captioner-nowhere") is None


def test_a_router_needs_the_bucket_only(tmp_path: Path) -> None:
    settings = Settings.from_env(tmp_path, {"CAPTIONER_AWS": "real", "CAPTIONER_AWS_BUCKET": LOCAL_BUCKET})
    paths = Paths.of(tmp_path, settings)
    assert account(settings, paths, deploys=False).bucket == LOCAL_BUCKET
    with pytest.raises(BadParams, match="CAPTIONER_AWS_IMAGE, CAPTIONER_AWS_ROLE"):
        account(settings, paths)


def test_a_secret_that_is_no_address_is_the_secret_itself() -> None:
    assert revealed("arn of nothing") == "arn of nothing"
