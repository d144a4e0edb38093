"""CloudWatch's API for metrics and alarms, over our own series and alarms; its other operations are moto's.

moto reads and writes the protocols (CBOR, JSON, query): a handler here gets the request's members as botocore names
them and returns the answer's. Imported with moto, by the first request that is not ours.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from moto.cloudwatch.exceptions import InvalidFormat, InvalidParameterValue, ResourceNotFound, ValidationError
from moto.cloudwatch.responses import CloudWatchResponse
from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import convert_to_flask_response
from moto.moto_server.werkzeug_app import create_backend_app

from captioner.emulator import queries, shapes
from captioner.emulator.alarms import ALARM, INSUFFICIENT, OK
from captioner.emulator.faults import AwsError
from captioner.emulator.paging import page
from captioner.emulator.queries import BadQuery
from captioner.emulator.series import Datum, Metric, Series, statistic_of
from captioner.emulator.store import ACCOUNT, REGION
from captioner.emulator.watching import Alarm, Alarms

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

PAGE, METRICS_PAGE = 100, 500
_TIMES = ("StateUpdatedTimestamp", "StateTransitionedTimestamp", "AlarmConfigurationUpdatedTimestamp")


@dataclass(frozen=True)
class Book:
    """What the handlers work on."""

    series: Series
    alarms: Alarms


def application(service: str, book: Book) -> WSGIApplication:
    """moto's application for a service; CloudWatch's with the handlers here. What moto has not made is a 501."""
    app: Any = create_backend_app(service)  # type: ignore[arg-type]
    app.register_error_handler(NotImplementedError, _not_implemented)
    if service == "cloudwatch":
        view = convert_to_flask_response(type("Handlers", (_Handlers,), {"book": book}).dispatch)  # type: ignore[attr-defined]
        app.view_functions = dict.fromkeys(app.view_functions, view)
    application: WSGIApplication = app
    return application


def _not_implemented(error: NotImplementedError) -> tuple[str, int]:
    """SDKs read an empty body in every protocol, name the operation themselves, and do not repeat a 501."""
    print(f"Neither the local AWS nor moto can do this: {error}.", file=sys.stderr, flush=True)
    return "", HTTPStatus.NOT_IMPLEMENTED


class _Handlers(CloudWatchResponse):
    book: Book

    def _request(self) -> dict[str, Any]:
        """The members, checked against botocore's model. Raises moto's errors."""
        found: Any = self._get_params()
        members: dict[str, Any] = found.original_dict() if hasattr(found, "original_dict") else found
        try:
            shapes.check(self._get_action(), _plain(members), service="cloudwatch")
        except AwsError as error:
            raise ValidationError(error.message) from None
        return members

    # Metrics
    def put_metric_data(self) -> ActionResult:
        request = self._request()
        for number, one in enumerate(request.get("MetricData") or [], start=1):
            named = ((each["Name"], each["Value"]) for each in one.get("Dimensions") or [])
            self.book.series.put(Metric.of(request["Namespace"], one["MetricName"], named), _datum(one, number))
        return EmptyResult()

    def get_metric_data(self) -> ActionResult:
        request = self._request()
        start, end, asked = _seconds(request["StartTime"]), _seconds(request["EndTime"]), request["MetricDataQueries"]
        if start >= end:
            raise ValidationError("The parameter StartTime must be less than the parameter EndTime.")
        try:
            queries.check(asked)
            found = queries.evaluate(asked, self.book.series, start, end)
        except BadQuery as error:
            raise ValidationError(str(error)) from None
        newest_first = request.get("ScanBy") != "TimestampAscending"
        results = []
        for one in asked:
            if one.get("ReturnData", True):
                points = sorted(found[one["Id"]].items(), reverse=newest_first)
                results.append(
                    {
                        "Id": one["Id"],
                        "Label": one.get("Label") or _label(one),
                        "Timestamps": [_moment(at) for at, _ in points],
                        "Values": [value for _, value in points],
                        "StatusCode": "Complete",
                    }
                )
        return ActionResult({"MetricDataResults": results})

    def get_metric_statistics(self) -> ActionResult:
        request = self._request()
        simple, extended = request.get("Statistics") or [], request.get("ExtendedStatistics") or []
        if not simple and not extended:
            raise InvalidParameterValue("Must specify either Statistics or ExtendedStatistics")
        start, end = _seconds(request["StartTime"]), _seconds(request["EndTime"])
        if start >= end:
            raise InvalidParameterValue("The parameter StartTime must be less than the parameter EndTime.")
        try:
            queries.check_period(request["Period"])
            for name in extended:
                queries.check_statistic(name)
        except BadQuery as error:
            raise InvalidParameterValue(str(error)) from None
        metric = queries.metric(request)
        points = []
        for at, whole in self.book.series.periods(metric, start, end, request["Period"], request.get("Unit")):
            point: dict[str, Any] = {"Timestamp": _moment(at), "Unit": whole.unit or "None"}
            point |= {name: statistic_of(name)(whole) for name in simple}
            if extended:
                point["ExtendedStatistics"] = {name: statistic_of(name)(whole) for name in extended}
            points.append(point)
        return ActionResult({"Label": request["MetricName"], "Datapoints": points})

    def list_metrics(self) -> ActionResult:
        request = self._request()
        wanted = {(one["Name"], one.get("Value")) for one in request.get("Dimensions") or []}
        found = [
            {
                "Namespace": one.namespace,
                "MetricName": one.name,
                "Dimensions": [{"Name": name, "Value": value} for name, value in one.dimensions],
            }
            for one in self.book.series.metrics()
            if request.get("Namespace") in (None, one.namespace)
            and request.get("MetricName") in (None, one.name)
            and all(any(name == key and value in (None, had) for key, had in one.dimensions) for name, value in wanted)
        ]
        page, more = _page(found, request, METRICS_PAGE)
        return ActionResult({"Metrics": page, **more})

    # Alarms
    def put_metric_alarm(self) -> ActionResult:
        request = _plain(self._request())
        if self._get_param("AlarmRule"):
            raise ValidationError("The local CloudWatch has no composite alarms.")
        try:
            self.book.alarms.put(request)
        except BadQuery as error:
            raise ValidationError(str(error)) from None
        return EmptyResult()

    def describe_alarms(self) -> ActionResult:
        request = self._request()
        names, prefix = request.get("AlarmNames"), request.get("AlarmNamePrefix") or ""
        action, kinds = request.get("ActionPrefix"), request.get("AlarmTypes") or ["MetricAlarm"]
        found = [
            _described(one)
            for one in self.book.alarms.all()
            if "MetricAlarm" in kinds
            and (not names or one["AlarmName"] in names)
            and one["AlarmName"].startswith(prefix)
            and request.get("StateValue") in (None, one["StateValue"])
            and (not action or any(each.startswith(action) for each in one.get("AlarmActions") or []))
        ]
        page, more = _page(found, {**request, "MaxRecords": request.get("MaxRecords") or PAGE}, PAGE)
        return ActionResult({"MetricAlarms": page, "CompositeAlarms": [], **more})

    def describe_alarms_for_metric(self) -> ActionResult:
        metric = queries.metric(self._request())
        of_metric = [one for one in self.book.alarms.all() if one.get("MetricName") and queries.metric(one) == metric]
        return ActionResult({"MetricAlarms": [_described(one) for one in of_metric]})

    def delete_alarms(self) -> ActionResult:
        names = self._request()["AlarmNames"]
        unknown = [name for name in names if name not in self.book.alarms]
        if len(names) > 1 and unknown:
            # Of several, none is deleted when one is unknown; a lone unknown one is no error.
            raise ResourceNotFound(f"Unknown alarms: {', '.join(unknown)}.")
        self.book.alarms.remove(names)
        return EmptyResult()

    def set_alarm_state(self) -> ActionResult:
        request = self._request()
        data = request.get("StateReasonData")
        try:
            json.loads(data or "{}")
        except ValueError:
            raise InvalidFormat("StateReasonData is not JSON.") from None
        assert request["StateValue"] in (OK, ALARM, INSUFFICIENT)
        if not self.book.alarms.set_state(request["AlarmName"], request["StateValue"], request["StateReason"], data):
            raise ResourceNotFound(f"There is no alarm {request['AlarmName']}.")
        return EmptyResult()

    def enable_alarm_actions(self) -> ActionResult:
        return self._set_actions(True)

    def disable_alarm_actions(self) -> ActionResult:
        return self._set_actions(False)

    def _set_actions(self, enabled: bool) -> ActionResult:
        for name in self._request()["AlarmNames"]:
            self.book.alarms.change(name, lambda alarm: alarm.update(ActionsEnabled=enabled))
        return EmptyResult()

    # Tags of alarms
    def list_tags_for_resource(self) -> ActionResult:
        name = self._tagged()
        found = next((one for one in self.book.alarms.all() if one["AlarmName"] == name), None)
        return ActionResult({"Tags": found.get("Tags") or []}) if found else super().list_tags_for_resource()

    def tag_resource(self) -> ActionResult:
        new = _plain(self._request())["Tags"]
        return self._retag(lambda tags: list({one["Key"]: one for one in [*tags, *new]}.values()))

    def untag_resource(self) -> ActionResult:
        gone = self._request()["TagKeys"]
        return self._retag(lambda tags: [one for one in tags if one["Key"] not in gone])

    def _retag(self, edit: Callable[[list[Any]], list[Any]]) -> ActionResult:
        if not self.book.alarms.change(self._tagged(), lambda alarm: alarm.update(Tags=edit(alarm.get("Tags") or []))):
            raise ResourceNotFound("The local CloudWatch tags alarms only.")
        return EmptyResult()

    def _tagged(self) -> str:
        return str(self._request()["ResourceARN"]).partition(":alarm:")[2]


def _datum(one: Mapping[str, Any], number: int) -> Datum:
    """Raises InvalidParameterValue unless it has a value, values with counts, or statistics."""
    at = _seconds(one["Timestamp"]) if one.get("Timestamp") else time.time()
    found = Datum(at, one.get("Unit") or "None")
    if whole := one.get("StatisticValues"):
        found.count, found.total = whole["SampleCount"], whole["Sum"]
        found.least, found.most, found.whole = whole["Minimum"], whole["Maximum"], False
        return found
    values = one.get("Values") or ([one["Value"]] if one.get("Value") is not None else [])
    counts = one.get("Counts") or [1] * len(values)
    if not values or len(counts) != len(values) or any(value != value for value in values):
        raise InvalidParameterValue(
            f"MetricData.member.{number} needs Value, Values with as many Counts, or statistics."
        )
    for value, times in zip(values, counts, strict=True):
        found.add(float(value), float(times))
    return found


def _described(alarm: Alarm) -> dict[str, Any]:
    shown = {member: value for member, value in alarm.items() if member != "Tags"}
    shown |= {member: _moment(alarm[member]) for member in _TIMES}
    shown["AlarmArn"] = f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{alarm['AlarmName']}"
    return {"ActionsEnabled": True, "OKActions": [], "AlarmActions": [], "InsufficientDataActions": [], **shown}


def _label(query: Mapping[str, Any]) -> str:
    return query["MetricStat"]["Metric"]["MetricName"] if query.get("MetricStat") else str(query["Id"])


def _page(found: list[Any], request: Mapping[str, Any], most: int) -> tuple[list[Any], dict[str, Any]]:
    size = min(most, int(request.get("MaxRecords") or most))
    return page(found, request, size, InvalidParameterValue("The NextToken is not one of ours."))


def _plain(value: Any) -> Any:
    """As JSON can hold it: what is kept on disk, and what the shapes are checked on."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, datetime):
        return _seconds(value)
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value]
    return value


def _seconds(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
