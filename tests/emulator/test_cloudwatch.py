"""CloudWatch over HTTP: what the data plane publishes, alarms that are judged on it, and what of them survives."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local_aws import LocalAws, until

ERRORS = "Invocation5XXErrors"


@pytest.fixture
def served(quick_aws: LocalAws, request: pytest.FixtureRequest) -> str:
    """An endpoint with one variant, `champion`, of two instances."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[-40:].strip("-")
    quick_aws.model(f"{name}-m")
    quick_aws.config(f"{name}-c", {"champion": (f"{name}-m", 1)}, instances=2)
    quick_aws.endpoint(name, f"{name}-c")
    return name


def ask(aws: LocalAws, endpoint: str, *bodies: bytes) -> None:
    for body in bodies:
        bad = pytest.raises(ClientError, match="ModelError") if body.startswith(b"status") else nullcontext()
        with bad:
            aws.client("sagemaker-runtime").invoke_endpoint(EndpointName=endpoint, Body=body)


def dimensions(endpoint: str, config: str = "") -> list[dict[str, str]]:
    found = [{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": "champion"}]
    return [*found, {"Name": "EndpointConfigName", "Value": config}] if config else found


def window() -> dict[str, datetime]:
    now = datetime.now(UTC)
    return {"StartTime": now - timedelta(minutes=30), "EndTime": now + timedelta(minutes=5)}


def statistics(aws: LocalAws, metric: str, of: list[dict[str, str]], **wanted: Any) -> list[dict[str, Any]]:
    """The data points of half an hour in one period: whether a minute ended meanwhile does not matter."""
    answer = aws.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/SageMaker", MetricName=metric, Dimensions=of, Period=86_400, **window(), **wanted
    )
    found: list[dict[str, Any]] = answer["Datapoints"]
    return found


def total(aws: LocalAws, metric: str, of: list[dict[str, str]]) -> float:
    return float(sum(one["Sum"] for one in statistics(aws, metric, of, Statistics=["Sum"])))


def alarm(aws: LocalAws, name: str, endpoint: str, **more: Any) -> str:
    given = {
        "Namespace": "AWS/SageMaker",
        "MetricName": ERRORS,
        "Dimensions": dimensions(endpoint),
        "Statistic": "Sum",
        "Period": 60,
        "EvaluationPeriods": 1,
        "Threshold": 0,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
        **more,
    }
    given = {member: value for member, value in given.items() if value is not None}
    aws.client("cloudwatch").put_metric_alarm(AlarmName=name, **given)
    return name


def described(aws: LocalAws, name: str) -> dict[str, Any]:
    (found,) = aws.client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"]
    result: dict[str, Any] = found
    return result


def test_requests_are_counted_in_the_names_and_units_of_aws(quick_aws: LocalAws, served: str) -> None:
    ask(quick_aws, served, *[b"x"] * 5, b"status 400 a", b"status 404 b", b"status 500 c")
    of = dimensions(served)
    until(lambda: total(quick_aws, "Invocations", of) == 8, "all requests to be published")
    assert total(quick_aws, "Invocation4XXErrors", of) == 2
    assert total(quick_aws, ERRORS, of) == 1
    assert total(quick_aws, "InvocationModelErrors", of) == 3
    assert total(quick_aws, "InvocationsPerInstance", of) == 4  # half of them by each instance
    # An error counts 1 and everything else 0: the average is a rate.
    rates = statistics(quick_aws, "InvocationModelErrors", of, Statistics=["Average", "SampleCount"])
    assert sum(one["Average"] * one["SampleCount"] for one in rates) == 3
    assert sum(one["SampleCount"] for one in rates) == 8
    for metric in ("ModelLatency", "OverheadLatency"):
        (point, *_) = statistics(
            quick_aws, metric, of, Statistics=["Minimum", "Maximum", "Average"], ExtendedStatistics=["p50", "p99"]
        )
        assert point["Unit"] == "Microseconds"
        assert point["Minimum"] <= point["Average"] <= point["Maximum"]
        assert 0.99 * point["Minimum"] <= point["ExtendedStatistics"]["p50"] <= point["ExtendedStatistics"]["p99"]
        assert point["ExtendedStatistics"]["p99"] <= 1.01 * point["Maximum"]
    # A local round trip takes more than a tenth of a millisecond and less than a minute: it is microseconds.
    (point, *_) = statistics(quick_aws, "ModelLatency", of, Statistics=["Average"])
    assert 100 < point["Average"] < 60e6


def test_each_config_has_numbers_of_its_own_too(quick_aws: LocalAws, served: str) -> None:
    ask(quick_aws, served, b"x", b"x")
    until(lambda: total(quick_aws, "Invocations", dimensions(served)) == 2, "the first config's requests")
    client = quick_aws.client("sagemaker")
    quick_aws.config(f"{served}-c2", {"champion": (f"{served}-m", 1)})
    client.update_endpoint(EndpointName=served, EndpointConfigName=f"{served}-c2")
    quick_aws.steady(served)
    ask(quick_aws, served, b"x", b"x", b"x")
    until(lambda: total(quick_aws, "Invocations", dimensions(served)) == 5, "all requests")
    assert total(quick_aws, "Invocations", dimensions(served, f"{served}-c")) == 2
    assert total(quick_aws, "Invocations", dimensions(served, f"{served}-c2")) == 3
    listed = quick_aws.client("cloudwatch").list_metrics(
        Namespace="AWS/SageMaker",
        MetricName="Invocations",
        Dimensions=[{"Name": "EndpointName", "Value": served}],
    )["Metrics"]
    assert sorted(len(one["Dimensions"]) for one in listed) == [2, 3, 3]


def test_metric_data_with_math_and_percentiles(quick_aws: LocalAws, served: str) -> None:
    ask(quick_aws, served, *[b"x"] * 6, b"status 400 a", b"status 500 b")
    until(lambda: total(quick_aws, "Invocations", dimensions(served)) == 8, "all requests to be published")

    def query(name: str, metric: str, stat: str, **more: Any) -> dict[str, Any]:
        wanted = {"Namespace": "AWS/SageMaker", "MetricName": metric, "Dimensions": dimensions(served)}
        return {"Id": name, "MetricStat": {"Metric": wanted, "Period": 86_400, "Stat": stat}, **more}

    queries = [
        query("bad4", "Invocation4XXErrors", "Sum", ReturnData=False),
        query("bad5", ERRORS, "Sum", ReturnData=False),
        query("all", "Invocations", "Sum"),
        query("slow", "ModelLatency", "p99"),
        {"Id": "rate", "Expression": "100 * SUM([bad4, bad5]) / all", "Label": "errors in per cent"},
    ]
    client = quick_aws.client("cloudwatch")
    found = client.get_metric_data(MetricDataQueries=queries, **window())["MetricDataResults"]
    assert [one["Id"] for one in found] == ["all", "slow", "rate"]
    rate = found[2]
    assert (rate["Label"], rate["StatusCode"], rate["Timestamps"][0].hour) == ("errors in per cent", "Complete", 0)
    if len(rate["Values"]) == 1:  # not around midnight
        assert rate["Values"] == [25.0]
    assert found[1]["Values"][0] > 0
    with pytest.raises(ClientError, match="does not know"):
        client.get_metric_data(MetricDataQueries=[*queries, {"Id": "x", "Expression": "RATE(all)"}], **window())
    with pytest.raises(ClientError, match="names nobody"):
        client.get_metric_data(MetricDataQueries=[*queries, {"Id": "x", "Expression": "nobody + 1"}], **window())


def test_an_alarm_goes_on_with_the_errors_and_off_without(quick_aws: LocalAws, served: str) -> None:
    name = alarm(quick_aws, f"{served}-a", served)
    # Before it is judged for the first time nothing is known; then missing data is no breach.
    assert described(quick_aws, name)["StateValue"] in ("INSUFFICIENT_DATA", "OK")
    until(lambda: described(quick_aws, name)["StateValue"] == "OK", "the first judgement")
    ask(quick_aws, served, b"status 500 x")
    until(lambda: described(quick_aws, name)["StateValue"] == "ALARM", "the alarm")
    found = described(quick_aws, name)
    assert "Threshold Crossed" in found["StateReason"]
    assert found["AlarmArn"].endswith(f":alarm:{name}")
    assert found["StateTransitionedTimestamp"] > found["AlarmConfigurationUpdatedTimestamp"]
    until(lambda: described(quick_aws, name)["StateValue"] == "OK", "the end of the alarm")
    by_state = quick_aws.client("cloudwatch").describe_alarms(StateValue="OK", AlarmNamePrefix=served)["MetricAlarms"]
    assert [one["AlarmName"] for one in by_state] == [name]


def test_alarms_on_percentiles_and_on_math(quick_aws: LocalAws, served: str) -> None:
    slow = alarm(
        quick_aws,
        f"{served}-slow",
        served,
        MetricName="ModelLatency",
        Statistic=None,
        ExtendedStatistic="p99",
        Threshold=400_000,
    )
    metrics = [
        {
            "Id": name,
            "MetricStat": {
                "Metric": {"Namespace": "AWS/SageMaker", "MetricName": metric, "Dimensions": dimensions(served)},
                "Period": 60,
                "Stat": "Sum",
            },
            "ReturnData": False,
        }
        for name, metric in (("bad", "Invocation4XXErrors"), ("all", "Invocations"))
    ]
    math = alarm(
        quick_aws,
        f"{served}-math",
        served,
        Namespace=None,
        MetricName=None,
        Dimensions=None,
        Statistic=None,
        Period=None,
        Metrics=[*metrics, {"Id": "rate", "Expression": "100 * bad / all", "Label": "rate", "ReturnData": True}],
        Threshold=10,
    )
    for name in (slow, math):
        until(lambda name=name: described(quick_aws, name)["StateValue"] == "OK", f"{name} to be judged")
    ask(quick_aws, served, b"sleep 0.5")
    until(lambda: described(quick_aws, slow)["StateValue"] == "ALARM", "the alarm on p99")
    assert described(quick_aws, math)["StateValue"] == "OK"
    ask(quick_aws, served, b"status 400 x")
    until(lambda: described(quick_aws, math)["StateValue"] == "ALARM", "the alarm on the rate")
    assert described(quick_aws, math)["Metrics"][2]["Expression"] == "100 * bad / all"
    assert described(quick_aws, slow)["ExtendedStatistic"] == "p99"


def test_a_program_may_publish_and_watch_numbers_of_its_own(quick_aws: LocalAws) -> None:
    client = quick_aws.client("cloudwatch")
    client.put_metric_data(
        Namespace="own",
        MetricData=[
            {"MetricName": "m", "Value": 2.0},
            {"MetricName": "m", "Values": [1.0, 3.0], "Counts": [1.0, 2.0]},
            {"MetricName": "whole", "StatisticValues": {"SampleCount": 2, "Sum": 4, "Minimum": 1, "Maximum": 3}},
        ],
    )
    wanted = {"Namespace": "own", "Period": 86_400, **window()}
    (found,) = client.get_metric_statistics(
        MetricName="m", Statistics=["Sum", "SampleCount"], ExtendedStatistics=["p50"], **wanted
    )["Datapoints"]
    assert (found["Sum"], found["SampleCount"], found["ExtendedStatistics"]) == (9, 4, {"p50": 2})
    (whole,) = client.get_metric_statistics(MetricName="whole", Statistics=["Average"], **wanted)["Datapoints"]
    assert whole["Average"] == 2
    with pytest.raises(ClientError, match="needs Value"):
        client.put_metric_data(Namespace="own", MetricData=[{"MetricName": "m", "Values": [1.0], "Counts": [1.0, 2.0]}])


def refused(call: Callable[..., Any], **request: Any) -> str:
    with pytest.raises(ClientError) as error:
        call(**request)
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 404)
    return str(error.value)


def test_an_alarm_that_could_not_be_judged_is_refused(quick_aws: LocalAws) -> None:
    def attempt(**more: Any) -> str:
        with pytest.raises(ClientError) as error:
            alarm(quick_aws, "refused", "nobody", **more)
        return str(error.value)

    assert "as ExtendedStatistic" in attempt(Statistic=None, ExtendedStatistic="tm99")
    assert "either Statistic or ExtendedStatistic" in attempt(ExtendedStatistic="p99")
    assert "needs a Threshold" in attempt(ComparisonOperator="LessThanLowerOrGreaterThanUpperThreshold")
    assert "multiple of 60" in attempt(Period=45)
    assert "DatapointsToAlarm between 1 and that" in attempt(DatapointsToAlarm=2)
    assert "a day at most" in attempt(EvaluationPeriods=1441)
    assert "TreatMissingData is one of" in attempt(TreatMissingData="no")
    assert "needs Period" in attempt(Period=None)
    assert quick_aws.client("cloudwatch").describe_alarms(AlarmNames=["refused"])["MetricAlarms"] == []
    client = quick_aws.client("cloudwatch")
    assert "no alarm nobody" in refused(
        client.set_alarm_state, AlarmName="nobody", StateValue="OK", StateReason="a test"
    )


def test_alarms_are_changed_tagged_paged_and_deleted(quick_aws: LocalAws) -> None:
    client = quick_aws.client("cloudwatch")
    tags = [{"Key": "owner", "Value": "test"}]
    names = [alarm(quick_aws, f"book-{n}", "nobody", Tags=tags, AlarmActions=["arn:aws:sns:x"]) for n in range(5)]
    pages = client.get_paginator("describe_alarms").paginate(AlarmNamePrefix="book-", PaginationConfig={"PageSize": 2})
    assert [[one["AlarmName"] for one in page["MetricAlarms"]] for page in pages] == [names[:2], names[2:4], names[4:]]
    resource = described(quick_aws, "book-0")["AlarmArn"]
    client.tag_resource(ResourceARN=resource, Tags=[{"Key": "owner", "Value": "b"}, {"Key": "x", "Value": "1"}])
    client.untag_resource(ResourceARN=resource, TagKeys=["x"])
    assert client.list_tags_for_resource(ResourceARN=resource)["Tags"] == [{"Key": "owner", "Value": "b"}]
    client.disable_alarm_actions(AlarmNames=["book-0"])
    assert [described(quick_aws, name)["ActionsEnabled"] for name in names[:2]] == [False, True]
    # A changed alarm keeps its state until data say otherwise, and its tags.
    alarm(quick_aws, "book-1", "nobody", TreatMissingData="ignore")
    client.set_alarm_state(AlarmName="book-1", StateValue="ALARM", StateReason="a test")
    alarm(quick_aws, "book-1", "nobody", Threshold=7, TreatMissingData="ignore")
    assert (described(quick_aws, "book-1")["StateValue"], described(quick_aws, "book-1")["Threshold"]) == ("ALARM", 7)
    found = client.describe_alarms_for_metric(
        Namespace="AWS/SageMaker", MetricName=ERRORS, Dimensions=dimensions("nobody")
    )["MetricAlarms"]
    assert set(names) <= {one["AlarmName"] for one in found}
    assert "Unknown alarms" in refused(client.delete_alarms, AlarmNames=["book-0", "nobody"])
    client.delete_alarms(AlarmNames=names)
    assert client.describe_alarms(AlarmNamePrefix="book-")["MetricAlarms"] == []
    client.delete_alarms(AlarmNames=["book-0"])


def test_alarms_survive_down_and_up(tmp_path: Path) -> None:
    aws = LocalAws(tmp_path / "aws").start()
    try:
        alarm(aws, "kept", "nobody", Tags=[{"Key": "owner", "Value": "test"}])
        aws.client("cloudwatch").set_alarm_state(AlarmName="kept", StateValue="ALARM", StateReason="a test")
        before = described(aws, "kept")
        assert aws.stop() == 0
        aws.start()
        # The minute of this clock is AWS's: it has most likely not been judged since, and its definition is the same.
        after = described(aws, "kept")
        for part in ("MetricName", "Threshold", "Dimensions", "AlarmConfigurationUpdatedTimestamp", "AlarmArn"):
            assert after[part] == before[part]
        listed = aws.client("cloudwatch").list_tags_for_resource(ResourceARN=after["AlarmArn"])
        assert listed["Tags"] == [{"Key": "owner", "Value": "test"}]
    finally:
        aws.stop()
