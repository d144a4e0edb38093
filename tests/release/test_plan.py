"""Plans, computed: from what is wanted and what is live to the calls between them. No server."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from typing import Any

import pytest

from captioner.deployparams import DeployParams
from captioner.release import names, requests
from captioner.release.facts import Live, LiveVariant, Place, Wanted, WantedVariant
from captioner.release.plan import Plan, plan
from captioner.release.showing import render

NAME = "captioner-sample"
LOCAL = Place("the local AWS", True, "arn:aws:iam::123456789012:role/captioner", "captioner:1", "bucket")
REAL = dataclasses.replace(LOCAL, called="AWS", local=False)


def digest(version: str) -> str:
    return hashlib.sha256(version.encode()).hexdigest()


def params(**values: Any) -> DeployParams:
    return DeployParams(**{"instance_type": "ml.m5.large", "instances": 2, "challenger_share": 0.5, **values})


def variant(name: str, version: str, weight: float = 0.5, **values: Any) -> WantedVariant:
    return WantedVariant(name, version, digest(version), weight, **{"gate": "passed", **values})


def wanted(*variants: WantedVariant, of: DeployParams | None = None, **values: Any) -> Wanted:
    return Wanted(NAME, variants, of or params(), **{"sha": "c0ffee", **values})


def after(wish: Wanted, place: Place = LOCAL, **values: Any) -> Live:
    """What is live once `wish` was carried out."""
    models = {one.name: requests.model(wish, one, place) for one in wish.variants}
    config = requests.config(wish, models, place)
    chosen = {
        one["VariantName"]: one
        for key in ("ProductionVariants", "ShadowProductionVariants")
        for one in config.get(key, [])
    }
    variants = tuple(
        LiveVariant(
            one.name,
            one.weight,
            chosen[one.name].get("InitialInstanceCount"),
            chosen[one.name].get("InstanceType", "serverless"),
            models[one.name]["ModelName"],
            one.version,
            one.digest,
            one.shadow,
        )
        for one in wish.variants
    )
    live = Live(
        place=place,
        status="InService",
        config=config["EndpointConfigName"],
        settings=config,
        variants=variants,
        tags={**wish.params.tags, names.OWNER: NAME, names.VERIFIED: config["EndpointConfigName"]},
        models=frozenset(one["ModelName"] for one in models.values()),
        configs=frozenset({config["EndpointConfigName"]}),
        alarms=frozenset(one["AlarmName"] for one in requests.alarms(wish)),
        archives=frozenset(one.digest for one in wish.variants),
    )
    return dataclasses.replace(live, **values)


def operations(found: Plan) -> list[str]:
    return [step.operation for step in found.steps]


CHAMPION, CHALLENGER = variant("champion", "1"), variant("challenger", "2")
BOTH = wanted(CHAMPION, CHALLENGER)
GUARDED = wanted(CHAMPION, CHALLENGER, of=params(alarms={}))
ALONE = wanted(variant("champion", "1", 1.0))


def test_the_first_deployment_is_in_sagemakers_order() -> None:
    found = plan(wanted(CHAMPION, CHALLENGER, of=params(alarms={})), Live(LOCAL, bucket=False))
    assert found.action == "create"
    assert operations(found) == [
        *["SmokeTest"] * 2,
        "CreateBucket",
        *["PutObject"] * 2,
        *["CreateModel"] * 2,
        *["PutMetricAlarm"] * 6,
        "CreateEndpointConfig",
        "DescribeEndpointConfig",
        "CreateEndpoint",
        "DescribeEndpoint",
        *["InvokeEndpoint"] * 2,
        "AddTags",
    ]
    assert not found.refusals


def test_a_champion_alone_is_deployed_alone() -> None:
    found = plan(ALONE, Live(LOCAL))
    assert operations(found).count("CreateModel") == 1
    assert [(one.variant, one.before) for one in found.changes] == [("champion", None)]


def test_two_variants_of_one_model_share_its_upload_and_its_model() -> None:
    found = plan(wanted(CHAMPION, variant("challenger", "1")), Live(LOCAL))
    assert [operations(found).count(one) for one in ("SmokeTest", "PutObject", "CreateModel")] == [1, 1, 1]


def test_what_is_so_already_needs_no_call() -> None:
    found = plan(BOTH, after(BOTH))
    assert (found.action, found.steps) == ("nothing", ())
    assert "No call is needed." in render(found)


def test_new_models_come_before_and_old_ones_go_after_the_update() -> None:
    live = after(BOTH)
    found = plan(wanted(variant("champion", "2"), variant("challenger", "3")), live)
    assert found.action == "update"
    assert operations(found) == [
        "SmokeTest",
        "PutObject",
        "CreateModel",
        "CreateEndpointConfig",
        "DescribeEndpointConfig",
        "UpdateEndpoint",
        "DescribeEndpoint",
        *["InvokeEndpoint"] * 2,
        "AddTags",
        "DescribeEndpoint",
        "DeleteEndpointConfig",
        "DeleteModel",
    ]
    deleted = [step.subject for step in found.steps[-2:]]
    assert deleted == [live.config, live.variants[0].model]


def test_weights_and_counts_move_without_new_instances() -> None:
    wish = wanted(
        variant("champion", "1", 0.9), variant("challenger", "2", 0.1), of=params(challenger={"instances": 3})
    )
    found = plan(wish, after(BOTH))
    assert found.action == "weigh"
    assert operations(found) == ["UpdateEndpointWeightsAndCapacities", "DescribeEndpoint"]
    assert found.steps[0].request["DesiredWeightsAndCapacities"] == [
        {"VariantName": "champion", "DesiredWeight": 0.9},
        {"VariantName": "challenger", "DesiredWeight": 0.1, "DesiredInstanceCount": 3},
    ]


def test_weights_that_single_precision_rounded_are_the_same() -> None:
    live = after(BOTH)
    rounded = tuple(dataclasses.replace(one, weight=0.5000000119) for one in live.variants)
    assert plan(BOTH, dataclasses.replace(live, variants=rounded)).steps == ()


@pytest.mark.parametrize("status", ["Failed", "OutOfService"])
def test_a_broken_endpoint_is_deleted_first_and_only_then_made_anew(status: str) -> None:
    found = plan(BOTH, after(BOTH, status=status))
    assert found.action == "replace"
    assert operations(found)[:5] == [
        "DescribeEndpointConfig",
        "DeleteEndpoint",
        "DescribeEndpoint",
        "CreateEndpoint",
        "DescribeEndpoint",
    ]


def test_an_endpoint_whose_update_and_rollback_failed_still_answers_and_is_updated() -> None:
    old = wanted(variant("champion", "9"), CHALLENGER)
    assert plan(BOTH, after(old, status="UpdateRollbackFailed")).action == "update"


def test_a_run_that_was_cut_off_is_verified_and_cleaned_up() -> None:
    live = after(BOTH, tags={names.OWNER: NAME}, models=after(BOTH).models | {f"{NAME}-m-{'0' * 12}-{'0' * 8}"})
    found = plan(BOTH, live)
    assert found.action == "nothing"
    assert operations(found) == ["InvokeEndpoint", "InvokeEndpoint", "AddTags", "DescribeEndpoint", "DeleteModel"]


def test_a_config_that_somebody_deleted_under_the_endpoint_is_made_again() -> None:
    found = plan(BOTH, after(BOTH, settings={}, configs=frozenset()))
    assert found.action == "update"
    assert "CreateEndpointConfig" in operations(found)


def test_a_shadow_is_no_second_production_variant_and_is_not_asked() -> None:
    of = params(strategy="shadow")
    found = plan(
        wanted(variant("champion", "1", 1.0), variant("challenger", "2", 1.0, shadow=True), of=of), Live(LOCAL)
    )
    config = next(step.request for step in found.steps if step.operation == "CreateEndpointConfig")
    assert [one["VariantName"] for one in config["ProductionVariants"]] == ["champion"]
    assert [one["VariantName"] for one in config["ShadowProductionVariants"]] == ["challenger"]
    assert operations(found).count("InvokeEndpoint") == 1
    assert not found.refusals
    live = after(wanted(variant("champion", "1", 1.0), variant("challenger", "2", 1.0, shadow=True), of=of))
    fewer = wanted(variant("champion", "1", 1.0), variant("challenger", "2", 0.5, shadow=True), of=of)
    assert plan(fewer, live).action == "update"  # its share cannot be moved by weights


def test_everything_that_the_params_name_is_asked_for() -> None:
    of = params(
        instances=1,
        challenger={"instance_type": "ml.c5.xlarge", "instances": 2},
        capture={"sampling_percent": 20},
        kms_key="alias/captioner",
        vpc={"subnets": ("subnet-1",), "security_groups": ("sg-1",)},
        tags={"team": "vision"},
        ttl_hours=8,
    )
    found = plan(wanted(CHAMPION, CHALLENGER, of=of, expires="2030-01-01T00:00:00+00:00"), Live(REAL))
    asked = {step.operation: step.request for step in found.steps}
    assert asked["CreateModel"]["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    config = asked["CreateEndpointConfig"]
    assert config["KmsKeyId"] == "alias/captioner"
    assert config["DataCaptureConfig"]["InitialSamplingPercentage"] == 20
    assert config["DataCaptureConfig"]["DestinationS3Uri"] == "s3://bucket/capture"
    assert [(one["InstanceType"], one["InitialInstanceCount"]) for one in config["ProductionVariants"]] == [
        ("ml.m5.large", 1),
        ("ml.c5.xlarge", 2),
    ]
    assert asked["PutObject"]["SSEKMSKeyId"] == "alias/captioner"
    tags = {one["Key"]: one["Value"] for one in asked["CreateEndpoint"]["Tags"]}
    assert tags["team"] == "vision"
    assert tags["captioner:expires"] == found.expires == "2030-01-01T00:00:00+00:00"
    assert found.cost.hourly == pytest.approx(0.115 + 2 * 0.204)


def test_a_time_to_live_runs_from_when_it_was_asked_for() -> None:
    wish = wanted(CHAMPION, CHALLENGER, of=params(ttl_hours=8), expires="later")
    live = after(wish)
    live = dataclasses.replace(live, tags={**live.tags, names.TTL: "8", names.EXPIRES: "soon"})
    assert (plan(wish, live).steps, plan(wish, live).expires) == ((), "soon")
    longer = plan(dataclasses.replace(wish, params=params(ttl_hours=9)), live)
    assert operations(longer) == ["AddTags"]
    assert longer.expires == "later"
    assert operations(plan(BOTH, live)) == ["DeleteTags"]


def test_alarms_are_of_each_variant_and_old_ones_are_collected() -> None:
    of = params(alarms={"minutes": 2}, limits={"latency_ms": 500.0})
    wish = wanted(CHAMPION, CHALLENGER, of=of)
    alarms = requests.alarms(wish)
    assert len(alarms) == 6
    assert all(one["TreatMissingData"] == "notBreaching" for one in alarms)
    assert all(names.is_alarm_of(NAME, one["AlarmName"]) for one in alarms)
    assert {one["Threshold"] for one in alarms if one["MetricName"] == "ModelLatency"} == {500_000.0}
    other = wanted(CHAMPION, CHALLENGER, of=params(alarms={"minutes": 3}))
    found = plan(wish, after(other))
    assert found.action == "nothing"
    assert operations(found) == [*["PutMetricAlarm"] * 6, "DescribeEndpoint", "DeleteAlarms"]
    assert operations(plan(BOTH, after(wish))) == ["DescribeEndpoint", "DeleteAlarms"]


@pytest.mark.parametrize(
    ("values", "policy"),
    [
        ({"strategy": "canary"}, {"Type": "CANARY", "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 25}}),
        ({"strategy": "linear"}, {"Type": "LINEAR", "LinearStepSize": {"Type": "CAPACITY_PERCENT", "Value": 25}}),
        ({"strategy": "all-at-once"}, {"Type": "ALL_AT_ONCE"}),
        ({"strategy": "ab"}, {"Type": "ALL_AT_ONCE"}),
    ],
)
def test_an_update_is_let_in_as_the_strategy_says(values: dict[str, Any], policy: dict[str, Any]) -> None:
    of = params(alarms={}, **values)
    found = plan(wanted(variant("champion", "3"), CHALLENGER, of=of), after(wanted(CHAMPION, CHALLENGER, of=of)))
    update = next(step.request for step in found.steps if step.operation == "UpdateEndpoint")
    deployment = update["DeploymentConfig"]
    routing = dict(deployment["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"])
    assert routing.pop("WaitIntervalInSeconds") == (300 if values["strategy"] in ("canary", "linear") else 0)
    assert routing == policy
    assert len(deployment["AutoRollbackConfiguration"]["Alarms"]) == 6
    limit = deployment["BlueGreenUpdatePolicy"]["MaximumExecutionTimeoutInSeconds"]
    assert max(600, requests.rollout_s(of)) < limit <= 28_800
    assert "6 alarms roll it back" in found.guardrails
    assert not found.refusals


def test_a_plain_update_asks_for_no_guardrail() -> None:
    found = plan(wanted(variant("champion", "3"), CHALLENGER), after(BOTH))
    update = next(step.request for step in found.steps if step.operation == "UpdateEndpoint")
    assert "DeploymentConfig" not in update


# What is refused


@pytest.mark.parametrize(
    ("wish", "live", "said"),
    [
        (
            wanted(variant("champion", "3"), CHALLENGER, of=params(strategy="canary", instances=1)),
            after(BOTH),
            "canary needs two instances of each variant, .* one of champion and one of challenger:",
        ),
        (
            wanted(variant("champion", "3"), CHALLENGER, of=params(strategy="linear", challenger={"instances": 1})),
            after(BOTH),
            "linear needs two instances of each variant, .* there is one of challenger:",
        ),
        (
            wanted(CHAMPION, CHALLENGER, of=params(strategy="all-at-once")),
            after(ALONE),
            "needs the same variants before and after, and challenger comes",
        ),
        (
            wanted(variant("champion", "2", 1.0), of=params(strategy="canary")),
            after(BOTH),
            "needs the same variants before and after, and challenger goes",
        ),
        (
            wanted(CHAMPION, CHALLENGER, of=params(serverless={})),
            Live(LOCAL),
            "A serverless endpoint has one variant, and there is a challenger",
        ),
        (
            wanted(variant("champion", "1", 1.0), of=params(serverless={}, capture={})),
            Live(LOCAL),
            "A serverless endpoint has no deploy.capture",
        ),
        (
            wanted(variant("champion", "1", 1.0), of=params(serverless={})),
            after(ALONE),
            "does not turn an endpoint with instances into a serverless one",
        ),
        (
            wanted(CHAMPION, CHALLENGER, variant("other", "3", shadow=True)),
            Live(LOCAL),
            "A shadow needs exactly one production variant",
        ),
        (
            wanted(variant("champion", "1"), variant("challenger", "2", shadow=True), experiment=True),
            Live(LOCAL),
            "An experiment is running",
        ),
        (
            wanted(CHAMPION, variant("challenger", "2", gate="failed: CIDEr fell.")),
            Live(LOCAL),
            "Version 2, the challenger, did not pass the gate: CIDEr fell.",
        ),
        (wanted(CHAMPION, variant("challenger", "2", gate="")), Live(REAL), "was never judged by the gate"),
        (
            wanted(CHAMPION, CHALLENGER, dirty=True),
            Live(REAL),
            "changes outside dvc.lock and params.yaml.*; commit them",
        ),
        (
            wanted(CHAMPION, CHALLENGER, of=params(strategy="canary", instance_type="ml.inf1.xlarge")),
            after(BOTH),
            "no deployment guardrails on ml.inf1.xlarge",
        ),
        (BOTH, Live(REAL, bucket=False), "There is no bucket bucket"),
        (
            wanted(variant("champion", "3"), CHALLENGER, of=params(alarms={})),
            after(GUARDED, alarming=frozenset({requests.alarms(GUARDED)[0]["AlarmName"]})),
            "guarded by an alarm which is in ALARM is rolled back at once",
        ),
    ],
)
def test_what_would_not_be_what_it_reads_like_is_refused(wish: Wanted, live: Live, said: str) -> None:
    found = plan(wish, live)
    assert len(found.refusals) == 1
    assert re.search(said, found.refusals[0])
    assert f"refused: {found.refusals[0]}" in render(found)


@pytest.mark.parametrize(
    "wish",
    [
        wanted(CHAMPION, CHALLENGER, dirty=True),
        wanted(CHAMPION, variant("challenger", "2", gate="")),
        wanted(CHAMPION, CHALLENGER, sha=""),
    ],
)
def test_here_the_house_only_warns(wish: Wanted) -> None:
    found = plan(wish, Live(LOCAL))
    assert not found.refusals
    assert len(found.warnings) == 1


def test_a_first_deployment_needs_no_second_instance_for_its_canary() -> None:
    found = plan(wanted(CHAMPION, CHALLENGER, of=params(strategy="canary", instances=1)), Live(LOCAL))
    assert not found.refusals
    assert found.guardrails == ("none: a new endpoint has no old variants to go back to",)


def test_alarms_that_cannot_guard_are_not_said_to() -> None:
    of = params(alarms={})
    found = plan(wanted(CHAMPION, CHALLENGER, of=of), after(ALONE))
    update = next(step.request for step in found.steps if step.operation == "UpdateEndpoint")
    assert "DeploymentConfig" not in update
    assert "all traffic moves at once; no alarm, no bake" in found.guardrails
    assert any("No alarm guards this update" in one for one in found.warnings)


def test_a_price_that_nobody_knows_is_asked_for_and_one_of_the_params_counts() -> None:
    odd = params(instance_type="ml.x9.large")
    found = plan(wanted(CHAMPION, CHALLENGER, of=odd), Live(LOCAL))
    assert found.cost.hourly is None
    assert "ml.x9.large: name it in deploy.prices" in found.cost.said
    own = params(instance_type="ml.x9.large", prices={"ml.x9.large": 2.0})
    assert plan(wanted(CHAMPION, CHALLENGER, of=own), Live(LOCAL)).cost.hourly == pytest.approx(8.0)


def test_the_price_table_says_when_and_where_it_is_from() -> None:
    found = plan(BOTH, Live(LOCAL))
    assert re.match(r"us-east-1 as of 20\d\d-\d\d-\d\d, https://aws.amazon.com/", found.cost.source)
    assert found.cost.source in render(found)


def test_a_plan_is_json_and_shows_each_change() -> None:
    found = plan(wanted(variant("champion", "3", 0.75), variant("challenger", "2", 0.25)), after(BOTH))
    shown = json.loads(json.dumps(dataclasses.asdict(found)))
    assert [one["variant"] for one in shown["changes"]] == ["champion", "challenger"]
    assert shown["changes"][0]["before"]["version"] == "1"
    text = render(found)
    assert "version   1 → 3" in text
    assert "weight    0.5 → 0.25" in text
    assert "UpdateEndpoint" in text
