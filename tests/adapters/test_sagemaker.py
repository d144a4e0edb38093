"""The SageMaker adapter against the local SageMaker: real boto3, real HTTP, real processes."""

import dataclasses
import hashlib
import json
import re
from pathlib import Path

import pytest

from captioner.adapters.aws import account
from captioner.adapters.sagemaker import SageMakerEndpoint
from captioner.errors import BadData, BadEnvironment, BadImage, BadInput, BadParams, GateFailed, ServiceUnavailable
from captioner.params import DeployParams
from captioner.paths import Paths
from captioner.ports import EndpointState
from captioner.records import write_json
from captioner.release.facts import Wanted, WantedVariant
from captioner.release.names import base, is_alarm_of, is_config_of, is_model_of
from captioner.release.plan import Plan, plan
from captioner.settings import Settings
from tests.local_aws import LocalAws, model_archive


@pytest.fixture
def endpoint(local_aws: LocalAws, settings: Settings, paths: Paths) -> SageMakerEndpoint:
    """The adapter, with an image that runs the tiny container."""
    return SageMakerEndpoint(settings, paths, dataclasses.replace(local_aws.account, image=local_aws.image()))


PARAMS = DeployParams(instance_type="ml.m5.large", instances=1, challenger_share=0.5, max_wait_s=60)


@dataclasses.dataclass(frozen=True)
class Spec:
    """A variant to deploy, and the file of its artifact."""

    variant: WantedVariant
    artifact: Path

    @property
    def digest(self) -> str:
        return self.variant.digest

    def but(self, **values: object) -> "Spec":
        return Spec(dataclasses.replace(self.variant, **values), self.artifact)


def spec(folder: Path, name: str, version: str, weight: float, content: bytes | None = None) -> Spec:
    data = model_archive({"1/saved_model.pb": content or version.encode()})
    artifact = folder / f"{name}-{version}.tar.gz"
    artifact.write_bytes(data)
    return Spec(WantedVariant(name, version, hashlib.sha256(data).hexdigest(), weight), artifact)


def planned(endpoint: SageMakerEndpoint, name: str, *specs: Spec, **params: object) -> Plan:
    wanted = Wanted(name, tuple(one.variant for one in specs), DeployParams(**{**PARAMS.model_dump(), **params}))
    return plan(wanted, endpoint.live(name, [one.digest for one in specs]))


def apply(endpoint: SageMakerEndpoint, name: str, *specs: Spec, **params: object) -> EndpointState:
    todo = planned(endpoint, name, *specs, **params)
    artifacts = {one.digest: (one.artifact, one.variant.version) for one in specs}
    endpoint.carry_out(name, todo.steps, artifacts, todo.wait_s)
    after = endpoint.state(name)
    assert after is not None
    return after


def unknown_image(local_aws: LocalAws, settings: Settings, paths: Paths) -> SageMakerEndpoint:
    """The adapter with an image that serves well here and is refused there."""
    program = [local_aws.image().removeprefix("local-exec:"), "serve"]
    return SageMakerEndpoint(settings, paths, dataclasses.replace(local_aws.account, image="else/where:1"), program)


def owned(local_aws: LocalAws, name: str) -> tuple[list[str], list[str]]:
    """Names of the configs and models that exist for an endpoint."""
    client = local_aws.client("sagemaker")
    configs = client.list_endpoint_configs(NameContains=f"{name}-c-", MaxResults=100)["EndpointConfigs"]
    models = client.list_models(NameContains=f"{name}-m-", MaxResults=100)["Models"]
    return [one["EndpointConfigName"] for one in configs], [one["ModelName"] for one in models]


def test_two_variants_answer_as_themselves(endpoint: SageMakerEndpoint, tmp_path: Path) -> None:
    champion, challenger = spec(tmp_path, "champion", "1", 0.5), spec(tmp_path, "challenger", "2", 0.5)
    state = apply(endpoint, "ada-two", champion, challenger)
    assert state.status == "InService"
    assert [(v.name, v.weight, v.model_version, v.digest) for v in state.variants] == [
        ("champion", 0.5, "1", champion.digest),
        ("challenger", 0.5, "2", challenger.digest),
    ]
    assert endpoint.state("ada-two") == state
    answer = endpoint.invoke("ada-two", b"picture", "image/jpeg", variant="challenger")
    assert (answer.variant, answer.body["model"]) == ("challenger", {"version": "2", "digest": challenger.digest})


def test_applying_the_same_again_changes_nothing(
    endpoint: SageMakerEndpoint, local_aws: LocalAws, tmp_path: Path
) -> None:
    one = spec(tmp_path, "champion", "1", 1.0)
    first = apply(endpoint, "ada-same", one)
    assert planned(endpoint, "ada-same", one).steps == ()
    modified, pids = local_aws.describe("ada-same")["LastModifiedTime"], local_aws.instances("ada-same", "champion")
    assert apply(endpoint, "ada-same", one) == first
    assert local_aws.describe("ada-same")["LastModifiedTime"] == modified
    assert local_aws.instances("ada-same", "champion") == pids


def test_other_weights_keep_config_and_processes(
    endpoint: SageMakerEndpoint, local_aws: LocalAws, tmp_path: Path
) -> None:
    champion, challenger = spec(tmp_path, "champion", "1", 0.5), spec(tmp_path, "challenger", "2", 0.5)
    before = apply(endpoint, "ada-weights", champion, challenger)
    pid = local_aws.instances("ada-weights", "champion")[0]["pid"]
    heavier = [champion.but(weight=1.0), challenger.but(weight=0.0)]
    after = apply(endpoint, "ada-weights", *heavier)
    assert [v.weight for v in after.variants] == [1.0, 0.0]
    assert after.config == before.config
    assert local_aws.instances("ada-weights", "champion")[0]["pid"] == pid


def test_a_swap_collects_what_nothing_refers_to_any_more(
    endpoint: SageMakerEndpoint, local_aws: LocalAws, tmp_path: Path
) -> None:
    apply(endpoint, "ada-swap", spec(tmp_path, "champion", "1", 0.5), spec(tmp_path, "challenger", "2", 0.5))
    apply(endpoint, "ada-swap-2", spec(tmp_path, "champion", "9", 1.0))
    state = apply(endpoint, "ada-swap", spec(tmp_path, "champion", "2", 1.0))
    assert [(v.name, v.model_version) for v in state.variants] == [("champion", "2")]
    configs, models = owned(local_aws, "ada-swap")
    assert configs == [state.config]
    assert len(models) == 1
    # Another endpoint whose name starts the same keeps its own.
    assert [len(one) for one in owned(local_aws, "ada-swap-2")] == [1, 1]
    assert endpoint.invoke("ada-swap-2", b"x", "image/png").body["model"]["version"] == "9"


def test_a_rolled_back_update_is_not_taken_for_success(
    endpoint: SageMakerEndpoint, local_aws: LocalAws, settings: Settings, paths: Paths, tmp_path: Path
) -> None:
    good = apply(endpoint, "ada-back", spec(tmp_path, "champion", "1", 1.0))
    broken = unknown_image(local_aws, settings, paths)
    with pytest.raises(BadEnvironment, match=r"not changed, its old variants still answer: .*only knows") as raised:
        apply(broken, "ada-back", spec(tmp_path, "champion", "2", 1.0))
    assert "\n" not in str(raised.value)
    assert endpoint.invoke("ada-back", b"x", "image/png").body["model"]["version"] == "1"
    state = endpoint.state("ada-back")
    assert (state.config, state.status) == (good.config, "InService")
    # The next good one goes through, and the broken one's leavings are collected.
    after = apply(endpoint, "ada-back", spec(tmp_path, "champion", "3", 1.0))
    assert owned(local_aws, "ada-back")[0] == [after.config]


def test_a_variant_that_answers_as_another_model_is_found_out(
    local_aws: LocalAws, settings: Settings, paths: Paths, tmp_path: Path
) -> None:
    """In service says nothing of what answers: only the answer does."""
    program = tmp_path / "liar"
    program.write_text(f'#!/bin/sh\nexport CAPTIONER_MODEL_DIGEST=other\nexec {local_aws.home}/tiny "$@"\n')
    program.chmod(0o755)
    liar = SageMakerEndpoint(settings, paths, dataclasses.replace(local_aws.account, image=f"local-exec:{program}"))
    with pytest.raises(GateFailed, match=r"Version 1 is not deployed: asked for .* it answers as model other, not"):
        apply(liar, "ada-liar", spec(tmp_path, "champion", "1", 1.0))


def test_an_image_that_serves_something_else_is_found_out(
    local_aws: LocalAws, settings: Settings, paths: Paths, tmp_path: Path
) -> None:
    """The model is fine by itself; the endpoint's container answers with another caption."""
    program = tmp_path / "stale"
    program.write_text(f'#!/bin/sh\nexport CAPTION="an old answer"\nexec {local_aws.home}/tiny "$@"\n')
    program.chmod(0o755)
    honest = [local_aws.image().removeprefix("local-exec:"), "serve"]
    where = dataclasses.replace(local_aws.account, image=f"local-exec:{program}")
    stale = SageMakerEndpoint(settings, paths, where, honest)
    with pytest.raises(BadEnvironment, match=r"not with what was deployed: .*'an old answer' .*instead of 'a tiny"):
        apply(stale, "ada-stale", spec(tmp_path, "champion", "1", 1.0))


def test_a_failed_endpoint_is_replaced(
    endpoint: SageMakerEndpoint, local_aws: LocalAws, settings: Settings, paths: Paths, tmp_path: Path
) -> None:
    broken = unknown_image(local_aws, settings, paths)
    with pytest.raises(BadEnvironment, match="ada-failed is Failed"):
        apply(broken, "ada-failed", spec(tmp_path, "champion", "1", 1.0))
    assert apply(endpoint, "ada-failed", spec(tmp_path, "champion", "1", 1.0)).status == "InService"


def test_an_artifact_goes_up_once_and_only_as_what_it_says(
    endpoint: SageMakerEndpoint, local_aws: LocalAws, tmp_path: Path
) -> None:
    one = spec(tmp_path, "champion", "1", 1.0, content=b"only here")
    with pytest.raises(BadData, match="SHA-256 differs"):
        apply(endpoint, "ada-digest", one.but(digest="0" * 64))
    assert endpoint.state("ada-digest") is None
    apply(endpoint, "ada-digest", one)
    key = f"models/{one.digest}/model.tar.gz"
    before = local_aws.client("s3").head_object(Bucket="captioner", Key=key)["LastModified"]
    apply(endpoint, "ada-digest", one.but(weight=0.7))
    assert local_aws.client("s3").head_object(Bucket="captioner", Key=key)["LastModified"] == before


def test_what_the_model_refuses_is_said_in_its_words(endpoint: SageMakerEndpoint, tmp_path: Path) -> None:
    apply(endpoint, "ada-refuse", spec(tmp_path, "champion", "1", 1.0))
    refusal = json.dumps({"error": "image is empty (0 bytes)."}).encode()
    with pytest.raises(BadImage, match=re.escape("image is empty (0 bytes).")):
        endpoint.invoke("ada-refuse", b"status 400 " + refusal, "image/png")
    with pytest.raises(ServiceUnavailable, match="is busy: too many"):
        endpoint.invoke("ada-refuse", b"status 429 too many", "image/png")
    with pytest.raises(ServiceUnavailable, match=r"failed \(500\)"):
        endpoint.invoke("ada-refuse", b"status 500 out of luck", "image/png")
    with pytest.raises(BadInput, match="6291456"):
        endpoint.invoke("ada-refuse", b"x" * 6_291_457, "image/png")
    with pytest.raises(BadInput, match=r"ada-nowhere .*not found"):
        endpoint.invoke("ada-nowhere", b"x", "image/png")


def test_nothing_there_is_none(endpoint: SageMakerEndpoint) -> None:
    assert endpoint.state("ada-none") is None


def test_a_local_aws_that_is_not_up_says_what_to_do(settings: Settings, paths: Paths) -> None:
    with pytest.raises(ServiceUnavailable, match="run `captioner up`"):
        SageMakerEndpoint(settings, paths).state("captioner-sample")
    write_json(paths.services, {"aws": {"url": "http://127.0.0.1:9", "pid": 1}})
    with pytest.raises(ServiceUnavailable, match=r"does not answer .*run `captioner up`"):
        SageMakerEndpoint(settings, paths).state("captioner-sample")


def test_the_users_own_aws_configuration_leads_nowhere(
    local_aws: LocalAws, settings: Settings, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A profile that does not exist, a proxy and a region of the user's: none of it reaches the local AWS."""
    for name, value in {
        "AWS_PROFILE": "nobody",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_DEFAULT_REGION": "eu-north-1",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
    write_json(paths.services, {"aws": {"url": local_aws.url}})
    assert SageMakerEndpoint(settings, paths).state("ada-none") is None


def test_the_real_aws_needs_its_settings(project: Path, paths: Paths) -> None:
    real = Settings.from_env(project, {"CAPTIONER_AWS": "real", "CAPTIONER_AWS_ROLE": "arn:aws:iam::1:role/x"})
    with pytest.raises(BadParams, match="CAPTIONER_AWS_IMAGE, CAPTIONER_AWS_BUCKET"):
        account(real, paths)
    complete = dataclasses.replace(real, aws_image="1.dkr.ecr.eu.amazonaws.com/captioner:1", aws_bucket="b")
    assert account(complete, paths).url is None


def test_names_fit_and_tell_endpoints_apart() -> None:
    long = "captioner-" + "x" * 41
    assert len(base(long)) <= 36
    assert base(long) != base(long[:-1] + "y")
    assert is_model_of("a", f"a-m-{'0' * 12}-{'1' * 8}")
    assert not is_model_of("a", f"a-b-m-{'0' * 12}-{'1' * 8}")
    assert not is_config_of("a", f"a-2-c-{'0' * 12}")
    assert is_alarm_of("a", f"a-a-champion-model-errors-{'1' * 8}")
