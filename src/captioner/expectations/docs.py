"""Makes Great Expectations' Data Docs readable without a network, and gives them a first page.

As they are built, the pages fetch their style, scripts, icons and a logo from eight other hosts, and the first page
shows nothing at all until a script has arrived. Here everything foreign is taken out and a style sheet of ours put in;
the first page becomes a plain table of every expectation and its result. Knows nothing of frames.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from captioner.checks import Outcome


@dataclass(frozen=True)
class Checked:
    """One suite that ran: its name, the state of the data that it ran over, that table's rows, and its outcomes."""

    name: str
    stage: str
    rows: int
    outcomes: Sequence[Outcome]


STAGES = {
    "raw": "As it came: rows that break a rule are set aside",
    "validated": "What is left: every rule must be met",
}
_UNSAID = re.compile("^expect_(column_values_to_|compound_columns_to_|table_)?(be_)?|(_to_be_|(?<=_))between$")
_WORDS = {"min_value": "at least ", "max_value": "at most ", "value_set": "", "regex": ""}
_FOREIGN = re.compile(
    r"<script.*?</script>|<footer>.*?</footer>"
    r"|<link\b[^>]*(?:https?:)?//[^>]*>|<link\b[^>]*shortcut icon[^>]*>"
    r"|<img\b[^>]*https?://[^>]*>|url\(['\"]?https?://[^)]*\)",
    re.DOTALL,
)
_POLICY = (
    # Great Expectations puts values into its pages as they are: a caption may hold any HTML.
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'\">"
)
_STYLE = """
:root { --line: #d5d9dd; --quiet: #5c6670; --band: #f3f5f7; --good: #1a7f37; --bad: #b3261e; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2126; margin: 0; }
.container-fluid { padding: 0 1.5rem 1.5rem; }
.row { display: flex; flex-wrap: wrap; gap: 0 1.5rem; }
.col-lg-2 { flex: 0 0 13rem; } .col-lg-10 { flex: 1 1 40rem; min-width: 0; }
.col-12 { flex: 1 0 100%; } .col-6 { flex: 1 1 20rem; }
nav.navbar { height: auto !important; padding: .6rem 1.5rem; border-bottom: 1px solid var(--line); }
#navigation { padding: 0; border: 0; max-height: none !important; } .card { max-height: none !important; }
ol.breadcrumb, .nav { list-style: none; margin: 0; padding: 0; }
ol.breadcrumb li { display: inline; } ol.breadcrumb li + li::before { content: " / "; }
.navbar-brand, .card:has([data-toggle="buttons"]), [data-toggle="collapse"], thead[hidden] { display: none; }
a { color: #0b57d0; text-decoration: none; } a:hover { text-decoration: underline; }
h1 { font-size: 1.5rem; margin: 1.2rem 0 .2rem; } h2 { font-size: 1.15rem; margin: 1.4rem 0 .2rem; }
h3, h4, h5, h6 { font-size: 1rem; margin: .6rem 0; }
p.lead, .quiet { color: var(--quiet); font-weight: normal; }
.alert { background: var(--band); padding: .4rem .8rem; border-radius: 4px; }
table { border-collapse: collapse; width: 100%; margin: .4rem 0 .8rem; }
.col-6 table, .collapse table { width: auto; }
table.index { table-layout: fixed; } table.index td, table.index th { padding: .15rem .8rem .15rem 0; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--quiet); font-weight: 600; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.badge { background: var(--band); border: 1px solid var(--line); border-radius: 3px; padding: 0 .3rem; }
i.fas { font-style: normal; }
i.fa-check-circle::before, .met::before { content: "\\2714\\A0"; color: var(--good); }
i.fa-times::before, i.fa-exclamation-triangle::before, .unmet::before { content: "\\2718\\A0"; color: var(--bad); }
"""


def make_offline(site: Path, checked: Sequence[Checked]) -> None:
    """Rewrite every page under `site`, and write ``index.html``. Raises OSError."""
    for page in sorted(site.rglob("*.html")):
        text = _FOREIGN.sub("", page.read_text(encoding="utf-8"))
        text = text.replace("<head>", f"<head>{_POLICY}", 1).replace("</head>", f"<style>{_STYLE}</style></head>", 1)
        page.write_text(text, encoding="utf-8")
    shutil.rmtree(site / "static", ignore_errors=True)
    (site / "index.html").write_text(_index(site, checked), encoding="utf-8")


def _index(site: Path, checked: Sequence[Checked]) -> str:
    ran = sum(not outcome.problem for suite in checked for outcome in suite.outcomes)
    met = sum(outcome.met for suite in checked for outcome in suite.outcomes)
    body = [f"<h1>Data Docs</h1><p class=quiet>{ran} expectations ran, {met} were met.</p>"]
    for stage, title in STAGES.items():
        body.append(f"<h2>{escape(title)}</h2>")
        body += [_table(site, suite) for suite in checked if suite.stage == stage]
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f"{_POLICY}<title>Data Docs</title>"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<style>{_STYLE}</style></head><body><div class="container-fluid">{"".join(body)}</div></body></html>\n'
    )


def _table(site: Path, suite: Checked) -> str:
    heading = f'<a href="{escape(_page(site, suite))}">{escape(suite.name)}</a> <span class=quiet>{suite.rows:,} rows'
    return (
        f"<h3>{heading}</span></h3><table class=index><col width=22%><col><col width=12%><col width=14%>"
        "<tr><th>Would be wrong<th>Expectation<th class=number>Unexpected<th>Result</tr>"
        f"{''.join(map(_line, suite.outcomes))}</table>"
    )


def _line(outcome: Outcome) -> str:
    result = f'<span class="{"met" if outcome.met else "unmet"}">{"met" if outcome.met else "not met"}</span>'
    if outcome.problem:
        result = f'<span class="unmet">did not run: {escape(outcome.problem[:200])}</span>'
    found = f"{len(outcome.rows):,}" if outcome.observed is None else f"found {outcome.observed:,g}"
    return f"<tr><td>{escape(outcome.rule.reason)}<td>{escape(_asks(outcome))}<td class=number>{found}<td>{result}</tr>"


def _asks(outcome: Outcome) -> str:
    """The expectation in words that fit a cell: Great Expectations' name and its limits."""
    options = dict(outcome.rule.options)
    column = options.pop("column", None) or " + ".join(options.pop("column_list", ()))
    name = _UNSAID.sub("", outcome.rule.expectation).replace("_", " ")
    limits = ", ".join(f"{_WORDS.get(key, key)}{_shown(value)}" for key, value in options.items())
    where = f" where {outcome.rule.where[0]} is {outcome.rule.where[1]}" if outcome.rule.where else ""
    asked = " ".join(filter(None, (column, name))) + where
    return f"{asked}: {limits}" if limits else asked


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _page(site: Path, suite: Checked) -> str:
    """The suite's own page, relative to the site. Great Expectations puts the time of the run into its path."""
    found = sorted((site / "validations" / f"{suite.name}-{suite.stage}").rglob("*.html"))
    return os.path.relpath(found[-1], site) if found else "#"
