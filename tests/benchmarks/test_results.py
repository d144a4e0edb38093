"""results.json: its form, how a part of it is renewed, and the table that README makes of it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import results
from benchmarks.__main__ import NAMES
from benchmarks.results import BEGIN, END, Result, figures, merge, renew, table, to_json
from benchmarks.rounds import Ratio
from benchmarks.torch_peer import cuda

ROOT = Path(__file__).resolve().parents[2]
FASTER = Result("one", "another", Ratio(12.3456789, 11.0, 1234.5), goal=10.0, unit="s", ours=1 / 3)
NOT_RUN = Result("one", "PyTorch", None, goal=2.0, not_run="PyTorch is not installed")


def row(benchmark: str, result: Result = FASTER) -> dict[str, object]:
    return {"benchmark": benchmark, **to_json(result)}


def test_a_result_says_whether_its_goal_was_met() -> None:
    assert to_json(FASTER)["ratio"] == {"median": 12.35, "min": 11.0, "max": 1234.0}
    assert to_json(FASTER)["met"] is True
    assert to_json(Result("a", "b", Ratio(9.99, 9.0, 30.0), goal=10.0))["met"] is False
    assert to_json(NOT_RUN)["met"] is None


def test_running_one_benchmark_renews_its_rows_and_keeps_the_others() -> None:
    old = [row("extraction"), row("beam"), row("beam", NOT_RUN), row("no longer there")]
    new = [row("beam", NOT_RUN)]
    assert merge(old, new, NAMES) == [row("extraction"), row("beam", NOT_RUN)]


def test_the_table_shows_what_was_missed_and_what_was_not_run() -> None:
    missed = Result("two", "another", Ratio(0.4, 0.3, 0.51), goal=0.5)
    lines = table([to_json(one) for one in (FASTER, missed, NOT_RUN)]).splitlines()
    assert lines[2] == "| one | another | **12.3** (11 – 1,234) | ≥ 10 | met |"
    assert lines[3] == "| two | another | **0.4** (0.3 – 0.51) | ≥ 0.5 | missed |"
    assert lines[4] == "| one | PyTorch | not run: PyTorch is not installed | ≥ 2 | – |"


def test_each_figure_names_the_machine_that_it_is_from() -> None:
    shapes = [{"cores": 2, "processor": name, "load_before": 0.5} for name in ("one", "another", "one")]
    rows = [row("extraction", replace(FASTER, machine=shape, commit="0123456789")) for shape in shapes]
    first, second, _, _, _, *lines = figures(rows).splitlines()
    assert (first, second) == ("Machine 1: cores 2, processor one.  ", "Machine 2: cores 2, processor another.  ")
    assert [line.split(" | ")[-2] for line in lines] == ["1", "2", "1"]


def test_only_what_is_between_the_marks_changes() -> None:
    assert renew(f"before\n{BEGIN}\nold\n{END}\nafter\n", "new") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    with pytest.raises(ValueError, match="no marks <!-- benchmarks"):
        renew("no marks", "new")


def test_what_is_committed_has_the_form_that_readers_rely_on() -> None:
    found = results.read()
    for one in found:
        assert one["benchmark"] in NAMES
        assert {"name", "peer", "ratio", "goal", "met", "commit", "machine"} <= set(one)
        if one["ratio"] is None:
            assert one["not_run"]
        else:
            assert one["ratio"]["min"] <= one["ratio"]["median"] <= one["ratio"]["max"]
            assert one["met"] == (one["ratio"]["median"] >= one["goal"])
            assert re.fullmatch(r"[0-9a-f]{10}\+?", one["commit"])


def test_the_pages_say_what_the_benchmarks_found() -> None:
    for page, content in ((results.README, table), (results.PAGE, figures)):
        text = page.read_text(encoding="utf-8")
        assert renew(text, content(results.read())) == text, "make bench ARGS=--table writes it"


def test_there_is_a_module_for_every_benchmark() -> None:
    for name in NAMES:
        assert "def run(" in (ROOT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8")


def test_pytorch_with_cuda_is_recognised() -> None:
    assert cuda(["torch==2.13.0", "nvidia-cublas==13.1"])
    assert not cuda(["torch==2.13.0+cpu", "sympy==1.14"])
