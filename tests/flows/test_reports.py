"""What Prefect shows of a report."""

from __future__ import annotations

import logging
import sys

import pytest

from captioner.errors import BadData, CaptionerError, GateFailed, ServiceUnavailable
from flows.dvc_stage import stage_error
from flows.graph import busy
from flows.plain_errors import Plain
from flows.reports import flat, markdown


def test_a_report_becomes_a_table_of_its_figures() -> None:
    report = {"images": 900, "scores": {"bleu_4": 51.23456, "slices": {"long": {"cider": 1234.5}}}, "note": "a|b\nc"}
    text = markdown("evaluate@merge", report, ["[MLflow run](http://there)"])
    assert text == (
        "## evaluate@merge\n\n| | |\n| --- | --- |\n| images | 900 |\n| scores.bleu_4 | 51.23 |\n"
        "| scores.slices.long.cider | 1,234 |\n| note | a\\|b c |\n\n[MLflow run](http://there)\n"
    )


def test_flat_joins_the_names_of_what_is_nested() -> None:
    assert flat({"a": {"b": {"c": 1}}, "d": [2]}) == [("a.b.c", 1), ("d", [2])]


@pytest.mark.parametrize(
    ("value", "shown"),
    [([1, 2], "1, 2"), ([{"loss": 1}] * 14, "14 entries"), (list(range(7)), "7 entries"), (None, "None")],
)
def test_long_lists_are_counted(value: object, shown: str) -> None:
    assert f"| epochs | {shown} |" in markdown("train", {"epochs": value}, [])


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
    try:
        raise error
    except Exception:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "Task failed: %r", (error,), sys.exc_info())
    assert Plain().filter(record)
    assert (record.exc_info is None) == plain
    assert (record.getMessage() == "No.") == plain


def test_the_process_in_the_way_is_named_where_dvc_names_it() -> None:
    said = "'/a/out.txt' is busy, it is being blocked by:\n  (PID 12): dvc repro\n\nIf there are none"
    assert str(busy(said)) == "process 12 (dvc repro) is at work here."
    assert str(busy("Unable to acquire lock. Most likely")) == "another DVC process is at work here."
