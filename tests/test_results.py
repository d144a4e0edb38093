"""scripts/results.py on the reports of a small project, without a server."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from captioner.errors import BadData
from captioner.evaluation import EvaluateReport, by_index, by_score, fault_shares, gap, human_scores, quote, wordings
from captioner.metrics import Scorer
from captioner.records import read_json, write_json
from tests.evaluated import good, records, references
from tests.loading import script

results = script("results")


def write_report(path: Path, off: int = 0, images: int = 60, dev: bool = True) -> Path:
    """A whole report: every `off`-th caption is that of another image."""
    rows = records(images)
    said = [good(n + 1 if off and n % off == 0 else n) for n in range(images)]
    meant = [list(references(n)) for n in range(images)]
    scorer = Scorer(meant)
    scores, cider = scorer.score(said), np.asarray(scorer.cider_each(said))
    worded, distance = wordings(said, meant)
    report = EvaluateReport(
        candidate="merge",
        digest="d" * 64,
        split="test",
        test_set="t" * 64,
        images=images,
        without_references=0,
        scores=scores,
        copied=0.1,
        slices={},
        baseline=scores,
        human=human_scores(meant),
        dev=scores if dev else None,
        gap=gap(scores if dev else None, scores),
        wording=worded,
        length_distance=distance,
        faults=fault_shares(said, meant),
        shown=quote(said, cider, rows, by_index(rows)),
        worst=quote(said, cider, rows, by_score(cider, rows)),
    )
    write_json(path, asdict(report))
    return path


def test_the_page_holds_every_figure_of_the_report(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, off in (("merge", 3), ("attention", 6)):
        write_report(project / "reports" / f"evaluate-{name}.json", off)
    monkeypatch.chdir(project)
    assert results.main(["--no-times"]) == 0
    page = capsys.readouterr().out
    for heading in (
        "## sample",
        "| merge, dev minus test |",
        "| a person (leave one out) |",
        "| wording |",
        "| slice |",
    ):
        assert heading in page, heading
    assert "| wrong colour | " in page
    assert page.count(" lowest CIDEr of ") == 2
    assert "wrong subject: says cat; people say dog" in page
    # 24 of 60 by index: 0, 2, 5, 7 …
    assert "| 0, `0000` |" in page
    assert "| 5, `0005` |" in page
    assert "| 57, `0057` |" in page
    columns = {line.count(" | ") for line in page.splitlines() if line.startswith("| merge")}
    assert len(columns) == 1, "every row of a table has as many cells"


def test_without_a_server_or_a_report_one_sentence_says_so(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    assert results.main(["--no-times"]) == 2
    assert "evaluate-merge.json is missing" in capsys.readouterr().err
    for name in ("merge", "attention"):
        write_report(project / "reports" / f"evaluate-{name}.json")
    assert results.main([]) == 2
    assert "--no-times" in capsys.readouterr().err


def table_of(lines: list[str]) -> dict[str, list[str]]:
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines if line.startswith("| ")]
    return {row[0]: row[1:] for row in rows[2:]}


def test_seeds_are_told_by_mean_least_and_most(tmp_path: Path) -> None:
    files = [write_report(tmp_path / str(off) / "reports" / "evaluate-a.json", off) for off in (2, 3, 6)]
    found = table_of(results.seeds_of_files(files))
    ciders = [read_json(file)["scores"]["cider"] for file in files]
    assert found["CIDEr"] == [f"{value:.2f}" for value in (sum(ciders) / 3, min(ciders), max(ciders), *ciders)]
    assert found["CIDEr, dev minus test"][:3] == ["0.00"] * 3
    assert found["copied"][0] == "0.10"


def test_reports_of_different_test_sets_are_not_averaged(tmp_path: Path) -> None:
    one, other = (write_report(tmp_path / name / "reports" / "evaluate-a.json") for name in "ab")
    write_json(other, {**read_json(other), "test_set": "u" * 64})
    with pytest.raises(BadData, match="differ in test_set"):
        results.seeds_of_files([one, other])
    write_json(other, {"split": "test", "test_set": "t" * 64, "protocol": read_json(one)["protocol"]})
    with pytest.raises(BadData, match="lacks 'scores'"):
        results.seeds_of_files([one, other])
    bare = write_report(tmp_path / "c" / "reports" / "evaluate-a.json", dev=False)
    assert math.isnan(float(table_of(results.seeds_of_files([one, bare]))["CIDEr on dev"][0]))


def test_candidates_that_differ_in_nothing_but_a_seed_are_a_group(project: Path) -> None:
    from captioner.bootstrap import open_app

    assert results.seed_groups(open_app(project)) == []
    text = (project / "params.yaml").read_text()
    merge = next(line for line in text.splitlines() if line.startswith("  merge:"))
    text = text.replace(merge, f"{merge}\n{merge.replace('merge:', 'again:', 1)}")
    (project / "params.yaml").write_text(text.replace("[merge, attention]", "[merge, attention, again]"))
    groups: Any = results.seed_groups(open_app(project))
    assert groups == [["merge", "again"]]
