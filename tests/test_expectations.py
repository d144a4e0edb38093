"""Rules run by the real Great Expectations, and the site that it leaves."""

from __future__ import annotations

import re
import tempfile
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from captioner.checks import Rule
from captioner.errors import BadEnvironment
from captioner.expectations import Expectations

FRAME = pd.DataFrame(
    {
        "row": [0, 1, 2, 3],
        "id": ["a", "b", "b", "d"],
        "size": [5.0, None, 50.0, 7.0],
        "split": ["train", "train", "test", "train"],
        "text": ["x", "<script>alert(1)</script>", "z", ""],
    }
)
UNIQUE = Rule("id not unique", "expect_column_values_to_be_unique", {"column": "id"})
SMALL = Rule("too large", "expect_column_values_to_be_between", {"column": "size", "max_value": 10})
TEXT = Rule("empty", "expect_column_values_to_match_regex", {"column": "text", "regex": r"\S"})
TRAIN = Rule(
    "train too small",
    "expect_table_row_count_to_be_between",
    {"min_value": 3},
    table_level=True,
    where=("split", "train"),
)
TEST = Rule(
    "test too small",
    "expect_table_row_count_to_be_between",
    {"min_value": 2},
    table_level=True,
    where=("split", "test"),
)
IMPOSSIBLE = Rule("cannot run", "expect_column_values_to_be_unique", {"column": "no such column"})


def test_each_rule_has_an_outcome_in_order_with_its_bad_rows() -> None:
    outcomes = Expectations().check("things", "raw", FRAME, [UNIQUE, SMALL, TEXT, TRAIN, TEST])
    assert [(one.rule.reason, one.met, one.rows) for one in outcomes] == [
        ("id not unique", False, (1, 2)),
        ("too large", False, (2,)),  # a missing size is another rule's business
        ("empty", False, (3,)),
        ("train too small", True, ()),
        ("test too small", False, ()),
    ]
    assert [one.observed for one in outcomes[-2:]] == [3, 1]


def test_a_rule_over_some_rows_names_their_positions_in_the_whole_frame() -> None:
    twice = Rule("x", "expect_compound_columns_to_be_unique", {"column_list": ["kind", "id"]}, where=("split", "train"))
    frame = pd.DataFrame(
        {
            "row": range(5),
            "id": ["a"] * 5,
            "kind": ["k", "k", "k", "other", "k"],
            "split": ["test", "test", "train", "train", "train"],
        }
    )
    assert Expectations().check("things", "raw", frame, [twice])[0].rows == (2, 4)


def test_a_rule_that_cannot_run_says_so_and_the_others_still_run() -> None:
    outcomes = Expectations().check("things", "raw", FRAME, [UNIQUE, IMPOSSIBLE, SMALL])
    assert [bool(one.problem) for one in outcomes] == [False, True, False]
    assert "no such column" in outcomes[1].problem
    assert not outcomes[1].met


def test_rows_that_are_not_there_break_no_rule_but_are_too_few() -> None:
    outcomes = Expectations().check("things", "raw", FRAME.iloc[:0], [UNIQUE, SMALL, TEXT, TRAIN])
    assert [(one.met, one.problem) for one in outcomes] == [(True, ""), (True, ""), (True, ""), (False, "")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home") / "data_docs"
    folder.mkdir()
    (folder / "stale.html").write_text("from an earlier run")
    expectations = Expectations()
    expectations.check("things", "raw", FRAME, [UNIQUE, SMALL, TEXT, IMPOSSIBLE])
    expectations.check("things", "validated", FRAME, [UNIQUE, TRAIN])
    assert expectations.build_docs(folder) == folder / "index.html"
    return folder


def test_the_first_page_holds_every_expectation_and_its_result(site: Path) -> None:
    page = (site / "index.html").read_text()
    rows = [re.sub("<[^>]+>", "|", row) for row in re.findall("<tr><td>.*?</tr>", page)]
    assert len(rows) == 6
    assert sum("did not run" in row for row in rows) == 1
    assert sum(row.rstrip("|").endswith("not met") for row in rows) == 4
    assert any("train too small" in row and "found 3" in row for row in rows)
    assert "5 expectations ran, 1 were met" in page


def test_every_link_leads_to_a_page_that_is_there(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) == 5  # the first one, and each suite's rules and results
    for page in pages:
        for link in re.findall('href="([^"#]+)"', page.read_text()):
            assert (page.parent / link).is_file(), f"{page.name}: {link}"


class Fetched(HTMLParser):
    """What a browser would fetch or run when it opens a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "img", "link", "iframe"):
            self.found.append(f"{tag} {dict(attrs)}")


def test_no_page_fetches_anything_or_runs_a_script(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert Fetched(text).found == []
        assert "http://" not in text
        assert "https://" not in text
        # A caption can be any HTML; this forbids the browser to run or fetch what is in it.
        assert re.search(
            r"<head>(<meta charset=.utf-8.>)?<meta http-equiv=.Content-Security-Policy. content=.default-src", text
        )


def test_the_site_is_replaced_whole(site: Path) -> None:
    assert not (site / "stale.html").exists()
    assert not list(site.parent.glob("*.new"))


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadEnvironment, match="Data Docs cannot be written"):
        Expectations().build_docs(tmp_path / "file" / "data_docs")


def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    Expectations().check("things", "raw", FRAME, [UNIQUE])
    assert list(tmp_path.iterdir()) == []
