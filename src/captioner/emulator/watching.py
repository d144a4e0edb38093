"""The alarms of this machine: kept on disk, judged at every tick of the metrics, and watched by deployments.

Periods are shortened by the time scale as everything that waits is (``delays``). Composite alarms, anomaly detection
and alarm actions are not here.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from captioner.emulator import queries
from captioner.emulator.alarms import ALARM, COMPARISONS, EXTRA, INSUFFICIENT, MISSING, judge
from captioner.emulator.queries import BadQuery
from captioner.emulator.series import Series, is_statistic
from captioner.records import read_json, write_json

DAY_S, WEEK_S = 86_400, 604_800
UNSUPPORTED = (
    "EvaluationWindow",
    "WarmUpConfiguration",
    "EvaluationCriteria",
    "EvaluationInterval",
    "ThresholdMetricId",
)
Alarm = dict[str, Any]


class Watch:
    """Told when one of some alarms goes into ALARM. `event` is also set by whoever wants to end the waiting."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = frozenset(names)
        self.event = threading.Event()
        self.fired: str | None = None

    def fire(self, name: str) -> None:
        self.fired = self.fired or name
        self.event.set()


class Alarms:
    """Alarms by name: a dictionary of PutMetricAlarm's members and those of the state. Values handed out are copies."""

    def __init__(self, file: Path, series: Series, scale: float = 1.0) -> None:
        self._file, self._series, self._scale = file, series, scale
        self._lock = threading.RLock()
        self._alarms: dict[str, Alarm] = read_json(file)["Alarms"] if file.exists() else {}
        self._watches: set[Watch] = set()

    def all(self) -> list[Alarm]:
        with self._lock:
            return [dict(self._alarms[name]) for name in sorted(self._alarms)]

    def __contains__(self, name: str) -> bool:
        with self._lock:
            return name in self._alarms

    def put(self, request: dict[str, Any]) -> None:
        """Create or replace an alarm; the state of one that was there stays. Raises BadQuery."""
        check(request)
        now = time.time()
        fresh = {
            "StateValue": INSUFFICIENT,
            "StateReason": "Unchecked: Initial alarm creation",
            "StateUpdatedTimestamp": now,
            "StateTransitionedTimestamp": now,
        }
        name = request["AlarmName"]
        with self._lock:
            before = self._alarms.get(name, {})
            state = {member: before.get(member, value) for member, value in fresh.items()}
            # Tags are given at creation only; afterwards TagResource changes them.
            tags = {"Tags": before.get("Tags") if before else request.get("Tags") or []}
            self._alarms[name] = {**request, **state, **tags, "AlarmConfigurationUpdatedTimestamp": now}
            self._save()

    def remove(self, names: Iterable[str]) -> None:
        with self._lock:
            for name in names:
                self._alarms.pop(name, None)
            self._save()

    def change(self, name: str, edit: Callable[[Alarm], None]) -> bool:
        """Apply `edit` to an alarm. False when there is none."""
        with self._lock:
            if name not in self._alarms:
                return False
            edit(self._alarms[name])
            self._save()
            return True

    def set_state(self, name: str, state: str, reason: str, data: str | None = None) -> bool:
        """Put an alarm into a state until it is judged next. False when there is none."""

        def edit(alarm: Alarm) -> None:
            now = time.time()
            if alarm["StateValue"] != state:
                alarm["StateTransitionedTimestamp"] = now
            alarm |= {"StateValue": state, "StateReason": reason, "StateUpdatedTimestamp": now}
            alarm |= {"StateReasonData": data} if data else {}

        with self._lock:
            known = self.change(name, edit)
            if known and state == ALARM:
                for watch in self._watches:
                    if name in watch.names:
                        watch.fire(name)
            return known

    @contextmanager
    def watch(self, names: Iterable[str]) -> Iterator[Watch]:
        """A watch over these alarms; it fires at once for one that is in ALARM already."""
        watch = Watch(names)
        with self._lock:
            self._watches.add(watch)
            for name in sorted(watch.names):
                if self._alarms.get(name, {}).get("StateValue") == ALARM:
                    watch.fire(name)
        try:
            yield watch
        finally:
            with self._lock:
                self._watches.discard(watch)

    def wake(self) -> None:
        """End every waiting for an alarm."""
        with self._lock:
            for watch in self._watches:
                watch.event.set()

    def tick(self, now: float) -> None:
        """Judge every alarm by the periods that were complete at `now`."""
        for alarm in self.all():
            state, reason = self._judge(alarm, now)
            if state != alarm["StateValue"]:
                self.set_state(alarm["AlarmName"], state, reason)

    def _judge(self, alarm: Alarm, now: float) -> tuple[str, str]:
        period = _period(alarm) * self._scale
        last = math.floor(now / period + 1e-6)
        periods = alarm["EvaluationPeriods"]
        starts = [index * period for index in range(last - periods - EXTRA, last)]
        values = self._values(alarm, starts[0], last * period)
        breaches = COMPARISONS[alarm["ComparisonOperator"]]
        found = [values.get(at) for at in starts]
        breaching = [None if one is None else breaches(one, alarm["Threshold"]) for one in found]
        to_alarm = alarm.get("DatapointsToAlarm") or periods
        missing = alarm.get("TreatMissingData") or "missing"
        state = judge(breaching, periods, to_alarm, missing, alarm["StateValue"])
        shown = [f"{one:g}" for one in found if one is not None][-periods:]
        points = f"the last datapoints are [{', '.join(shown)}]" if shown else "there are no datapoints"
        reason = f"Threshold Crossed: {points} for {alarm['ComparisonOperator']} {alarm['Threshold']:g}"
        return state, f"{reason} ({to_alarm} of {periods} to alarm; missing data is {missing})."

    def _values(self, alarm: Alarm, start: float, end: float) -> dict[float, float]:
        if asked := alarm.get("Metrics"):
            shown = next(one["Id"] for one in asked if one.get("ReturnData", True))
            return queries.evaluate(asked, self._series, start, end, self._scale)[shown]
        statistic, metric, period = _statistic(alarm), queries.metric(alarm), alarm["Period"] * self._scale
        points = dict(self._series.points(metric, statistic, start, end, period, alarm.get("Unit")))
        if alarm.get("EvaluateLowSampleCountPercentile") == "ignore" and statistic.startswith("p"):
            share = float(statistic[1:]) / 100
            enough = 10 / max(1e-9, min(share, 1 - share))
            counts = dict(self._series.points(metric, "SampleCount", start, end, period))
            return {at: one for at, one in points.items() if counts.get(at, 0) >= enough}
        return points

    def _save(self) -> None:
        write_json(self._file, {"Alarms": self._alarms})


def check(request: dict[str, Any]) -> None:
    """Raises BadQuery for an alarm that CloudWatch would refuse, or that cannot be judged here."""
    for member in UNSUPPORTED:
        if request.get(member):
            raise BadQuery(f"The local CloudWatch does not have {member} of alarms.")
    operator, periods = request.get("ComparisonOperator"), request.get("EvaluationPeriods")
    if operator not in COMPARISONS or "Threshold" not in request:
        raise BadQuery(f"An alarm needs a Threshold and one of {', '.join(COMPARISONS)}; got {operator}.")
    if not periods or not 1 <= (request.get("DatapointsToAlarm") or periods) <= periods:
        raise BadQuery("An alarm needs EvaluationPeriods, and DatapointsToAlarm between 1 and that.")
    if (request.get("TreatMissingData") or "missing") not in MISSING:
        raise BadQuery(f"TreatMissingData is one of {', '.join(MISSING)}; got {request['TreatMissingData']}.")
    if metrics := request.get("Metrics"):
        if request.get("MetricName"):
            raise BadQuery("An alarm has either Metrics or MetricName, not both.")
        queries.check(metrics)
        if sum(one.get("ReturnData", True) for one in metrics) != 1:
            raise BadQuery("Exactly one of the Metrics of an alarm has ReturnData true.")
    else:
        _check_metric(request)
    length = _period(request) * periods
    if length > (WEEK_S if _period(request) >= 3600 else DAY_S):
        raise BadQuery(f"EvaluationPeriods times the period may be a day at most; got {length} s.")


def _check_metric(request: dict[str, Any]) -> None:
    for member in ("MetricName", "Namespace", "Period"):
        if not request.get(member):
            raise BadQuery(f"An alarm on a metric needs {member}.")
    if bool(request.get("Statistic")) == bool(request.get("ExtendedStatistic")):
        raise BadQuery("An alarm on a metric needs either Statistic or ExtendedStatistic.")
    if not is_statistic(_statistic(request)):
        raise BadQuery(f"The local CloudWatch knows percentiles (p99) as ExtendedStatistic; got {_statistic(request)}.")
    queries.check_period(request["Period"])


def _statistic(alarm: Alarm) -> str:
    return str(alarm.get("Statistic") or alarm.get("ExtendedStatistic"))


def _period(alarm: Alarm) -> int:
    return queries.period_of(alarm["Metrics"]) if alarm.get("Metrics") else int(alarm["Period"])
