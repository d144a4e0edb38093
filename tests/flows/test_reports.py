"""What Prefect shows of a report."""

from __future__ import annotations

import logging
import sys

import pytest

from captioner.errors import BadData, CaptionerError, GateFailed, ServiceUnavailable
from flows.dvc_stage import stage_error
from flows.graph import busy
from flows.plain_errors import Plain
from flows.reports import markdown


def test_a_report_becomes_tables_of_its_figures() -> None:
    report = {
        "images": 12345,
        "note": "a|b\nc",
        "scores": {"bleu_4": 51.23456, "cider": 1234.5},
        "baseline": {"bleu_4": 20.0, "cider": 99.0},
        "slices": {"long": {"images": 3, "cider": 7.0}, "short": {"images": 4, "cider": 8.0}},
        "epochs": [{"epoch": 1, "loss": 2.5}, {"epoch": 2, "loss": 1.25}],
    }
    assert markdown("evaluate@merge", report, ["[MLflow run](http://there)"]) == (
        "## evaluate@merge\n\n[MLflow run](http://there)\n\n"
        "|  |  |\n| --- | --- |\n| images | 12,345 |\n| note | a\\|b c |\n\n"
        "| slices | images | cider |\n| --- | --- | --- |\n| long | 3 | 7 |\n| short | 4 | 8 |\n\n"
        "| epoch | loss |\n| --- | --- |\n| 1 | 2.5 |\n| 2 | 1.25 |\n\n"
        "|  | scores | baseline |\n| --- | --- | --- |\n| bleu_4 | 51.23 | 20 |\n| cider | 1,234 | 99 |\n"
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [([1, 2], "1, 2"), (list(range(7)), "7 entries"), (None, ""), (True, "True"), (0.000123456, "0.0001235")],
)
def test_single_values_are_kept_short(value: object, shown: str) -> None:
    assert markdown("train", {"it": value}, []) == f"## train\n\n|  |  |\n| --- | --- |\n| it | {shown} |\n"


def test_an_empty_report_is_only_its_title() -> None:
    assert markdown("train", {"notes": {}, "epochs": []}, []) == "## train\n\n|  |  |\n| --- | --- |\n| epochs |  |\n"


@pytest.mark.parametrize("kind", [BadData, GateFailed, ServiceUnavailable])
def test_a_stages_error_is_raised_as_what_it_was(kind: type[CaptionerError]) -> None:
    error = stage_error({"type": kind.__name__, "message": "So it is."})
    assert type(error) is kind
    assert str(error) == "So it is."


@pytest.mark.parametrize("name", ["NoSuchError", "annotations", None])
def test_an_unknown_error_is_still_one_of_ours(name: str | None) -> None:
    assert type(stage_error({"type": name, "message": "Hm."})) is CaptionerError


@pytest.mark.parametrize(("error", "plain"), [(GateFailed("No."), True), (ZeroDivisionError("bug"), False)])
def test_only_bugs_show_a_traceback(error: Exception, plain: bool) -> None:
    record = raised(error)
    assert Plain().filter(record)
    assert (record.exc_info is None) == plain
    assert (record.getMessage() == "No.") == plain


def test_a_failure_is_told_once_and_not_of_the_task_the_flow_and_both_their_states() -> None:
    gate, bug, end = GateFailed("It's no."), ZeroDivisionError("bug"), "Finished in state Failed"
    failed = f"{end}({f'Task run encountered an exception GateFailed: {gate}'!r})"
    crashed = f"{end}({f'Task run encountered an exception ZeroDivisionError: {bug}'!r})"
    records = [raised(gate), plainly(failed), raised(gate), plainly(failed), raised(GateFailed("It's no."))]
    records += [raised(bug), plainly(crashed), plainly("It's no.")]
    one = Plain()
    told = [record.getMessage() for record in records if one.filter(record)]
    assert told == ["It's no.", end, end, "It's no.", "Task failed: ZeroDivisionError('bug')", crashed, "It's no."]


def raised(error: Exception) -> logging.LogRecord:
    """As Prefect logs what a task or a flow has raised."""
    try:
        raise error
    except Exception:
        return logging.LogRecord("x", logging.ERROR, "f", 1, "Task failed: %r", (error,), sys.exc_info())


def plainly(message: str) -> logging.LogRecord:
    return logging.LogRecord("x", logging.ERROR, "f", 1, message, (), None)


def test_the_process_in_the_way_is_named_where_dvc_names_it() -> None:
    said = "'/a/out.txt' is busy, it is being blocked by:\n  (PID 12): dvc repro\n\nIf there are none"
    assert str(busy(said)) == "process 12 (dvc repro) is at work here."
    assert str(busy("Unable to acquire lock. Most likely")) == "another DVC process is at work here."
