"""The gallery: one self-contained HTML page with captions beside their pictures, tables and bars above them.

Pictures are embedded as small JPEGs, so that the file can be mailed, attached to a run or opened from a disk. Equal
content gives equal bytes. Knows nothing of models, metrics or files: entries and tables come ready to be shown.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape

from PIL import Image

from captioner.errors import BadImage

SIDE = 224  # pixels, the longer side of an embedded picture
_QUALITY = 80


@dataclass(frozen=True)
class Entry:
    """One captioned image. `score` is its CIDEr, x100; `others` are the captions that came second and later.

    `notes` stand under the score, the first one in bold: what is wrong with the caption. `label` goes before the id.
    """

    id: str
    caption: str
    score: float
    references: tuple[str, ...]
    others: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    label: str = ""


@dataclass(frozen=True)
class Section:
    """A heading, a sentence under it, and its images."""

    title: str
    text: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Table:
    """A small table: the first column is text, the others are figures; `note` stands under it."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Bars:
    """A bar chart of shares: two series over the same whole numbers, 0, 1, 2, …; `note` stands under it."""

    title: str
    axis: str
    series: tuple[tuple[str, tuple[float, ...]], tuple[str, tuple[float, ...]]]
    note: str = ""


@dataclass(frozen=True)
class Page:
    title: str
    facts: tuple[tuple[str, str], ...]
    tables: tuple[Table, ...]
    sections: tuple[Section, ...]
    bars: tuple[Bars, ...] = ()


def render(page: Page, picture: Callable[[str], bytes]) -> str:
    """The page as HTML. `picture` gives the encoded image of an id. Raises BadImage."""
    facts = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in page.facts)
    links = "".join(f'<a href="#{_anchor(one.title)}">{escape(one.title)}</a>' for one in page.sections)
    blocks = [_table(table) for table in page.tables]
    blocks[1:1] = [_bars(bars) for bars in page.bars]  # beside the scores, which leave the most room
    tables = "".join(blocks)
    sections = "".join(_section(section, picture) for section in page.sections)
    return (
        "<!doctype html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(page.title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<style>{_STYLE}</style></head>\n<body>\n"
        f"<header><h1>{escape(page.title)}</h1><dl>{facts}</dl></header>\n"
        f'<div class="tables">{tables}</div>\n<nav>{links}</nav>\n<main>\n{sections}</main>\n</body></html>\n'
    )


def thumbnail(data: bytes, side: int = SIDE) -> bytes:
    """A JPEG of at most `side` pixels, from a JPEG or PNG that went through images.normalise. Raises BadImage."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.draft("RGB", (side, side))
            small = image.convert("RGB")
            small.thumbnail((side, side), Image.Resampling.LANCZOS)
    except (OSError, ValueError) as error:
        raise BadImage(f"A picture cannot be shown in the gallery: {error}.") from None
    out = io.BytesIO()
    small.save(out, "JPEG", quality=_QUALITY, optimize=True)
    return out.getvalue()


def _section(section: Section, picture: Callable[[str], bytes]) -> str:
    cards = "".join(_card(entry, picture(entry.id)) for entry in section.entries)
    return (
        f'<section id="{_anchor(section.title)}"><h2>{escape(section.title)}</h2><p>{escape(section.text)}</p>'
        f'<div class="cards">{cards}</div></section>\n'
    )


def _card(entry: Entry, data: bytes) -> str:
    source = base64.b64encode(thumbnail(data)).decode("ascii")
    references = "".join(f"<li>{escape(_tidy(text))}</li>" for text in entry.references)
    others = "".join(f"<li>{escape(text)}</li>" for text in entry.others)
    meant = f"<h3>People said</h3><ul>{references}</ul>"
    more = f"<details><summary>Next in the beam</summary><ul>{others}</ul></details>" if others else ""
    said = escape(entry.caption) if entry.caption else "<em>no words</em>"
    label = f"{escape(entry.label)} · " if entry.label else ""
    notes = "".join(f"<li>{_note(text)}</li>" for text in entry.notes)
    wrong = f'<ul class="notes">{notes}</ul>' if notes else ""
    return (
        f'<figure><img src="data:image/jpeg;base64,{source}" alt="{escape(entry.caption)}">'
        f'<figcaption><p class="said">{said}</p>'
        f'<p class="score"><span><b>{entry.score:.1f}</b> CIDEr</span>'
        f'<span class="id" title="{escape(entry.id)}">{label}{escape(entry.id)}</span></p>'
        f"{wrong}{meant}{more}</figcaption></figure>\n"
    )


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.head)
    rows = "".join(
        f"<tr><th>{escape(row[0])}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])}</tr>"
        for row in table.rows
    )
    note = f"<p>{escape(table.note)}</p>" if table.note else ""
    return (
        f"<div><h2>{escape(table.title)}</h2><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table>{note}</div>\n"
    )


def _bars(bars: Bars) -> str:
    """An inline SVG: nothing to fetch, and colours that follow the page's."""
    (behind_name, behind), (front_name, front) = bars.series
    step, height, top = 14, 150, max(*behind, *front, 1e-9)
    width = step * len(front)
    drawn = "".join(
        f'<rect class="{kind}" x="{place * step + inset}" y="{height * (1 - value / top):.2f}" '
        f'width="{step - 2 * inset}" height="{height * value / top:.2f}"><title>{place}: {value:.1%}</title></rect>'
        for kind, inset, values in (("behind", 0.5, behind), ("front", 4.5, front))
        for place, value in enumerate(values)
        if value > 0
    )
    ticks = "".join(
        f'<text x="{place * step + step / 2}" y="{height + 15}">{place}</text>' for place in range(0, len(front), 5)
    )
    note = f"<p>{escape(bars.note)}</p>" if bars.note else ""
    return (
        f'<div class="bars"><h2>{escape(bars.title)}</h2>'
        f'<p class="key"><i class="behind"></i>{escape(behind_name)} <i class="front"></i>{escape(front_name)}</p>'
        f'<svg viewBox="0 0 {width} {height + 20}" width="{width}" role="img" aria-label="{escape(bars.title)}">'
        f'{drawn}<path d="M0 {height}.5H{width}"/>{ticks}</svg><p class="axis">{escape(bars.axis)}</p>{note}</div>\n'
    )


def _note(text: str) -> str:
    """`name: detail` with its name in bold."""
    name, _, detail = text.partition(": ")
    return f"<b>{escape(name)}</b> {escape(detail)}" if detail else f"<b>{escape(name)}</b>"


def _tidy(text: str) -> str:
    """A reference for reading: Flickr8k writes its captions with a space before every full stop."""
    return re.sub(r"\s+([.,!?;:]|'s\b)", r"\1", " ".join(text.split()))


def _anchor(title: str) -> str:
    return "-".join(word for word in title.lower().split() if word.isalnum())


_STYLE = """
:root { --paper: #fbfaf7; --card: #fff; --ink: #1f2328; --soft: #626a73; --line: #e2dfd8; --accent: #0b6b57;
  --warn: #b4531a; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16181b; --card: #1f2226; --ink: #e8e6e1; --soft: #9ba2ab; --line: #34383e; --accent: #6cc9ae;
    --warn: #e39a63; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 82rem; padding: 2rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { margin: 0 0 .75rem; font-size: 1.6rem; line-height: 1.25; }
h2 { margin: 2.5rem 0 .25rem; font-size: 1.25rem; }
section > p { margin: 0 0 1rem; color: var(--soft); }
dl { display: flex; flex-wrap: wrap; gap: .5rem 2rem; margin: 0; }
dt { color: var(--soft); font-size: .8rem; }
dd { margin: 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.tables { display: flex; flex-wrap: wrap; gap: 1.5rem 2.25rem; align-items: flex-start; margin: 1.75rem 0; }
.tables > div { min-width: 0; max-width: 100%; overflow-x: auto; }
.tables h2 { margin: 0 0 .35rem; font-size: 1rem; }
.tables p { max-width: 27rem; margin: .6rem 0 0; color: var(--soft); font-size: .8rem; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: .25rem 0 .25rem .9rem; border-bottom: 1px solid var(--line); text-align: right; font-weight: 400; }
th:first-child { padding-left: 0; text-align: left; }
thead th { color: var(--soft); font-size: .8rem; }
nav { display: flex; gap: 1.25rem; padding: .5rem 0; border-bottom: 1px solid var(--line); }
a { color: var(--accent); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(17rem, 100%), 1fr)); gap: 1.25rem; }
figure { display: flex; flex-direction: column; margin: 0; overflow: hidden; background: var(--card);
  border: 1px solid var(--line); border-radius: .6rem; }
img { width: 100%; height: 13rem; object-fit: contain; background: color-mix(in srgb, var(--line) 45%, var(--card)); }
figcaption { padding: .8rem 1rem 1rem; font-size: .85rem; color: var(--soft); }
.said { margin: 0; color: var(--ink); font-size: 1.05rem; font-weight: 600; line-height: 1.35; }
.score { display: flex; gap: .75rem; justify-content: space-between; align-items: baseline; margin: .3rem 0 .8rem;
  font-size: .8rem; white-space: nowrap; }
.score b { color: var(--accent); font-size: .95rem; font-variant-numeric: tabular-nums; }
.id { overflow: hidden; text-overflow: ellipsis; opacity: .8; font-size: .75rem; }
figcaption .notes { margin: 0 0 .8rem; padding: .5rem .7rem; border-left: 3px solid var(--warn); border-radius: .25rem;
  background: color-mix(in srgb, var(--warn) 9%, var(--card)); font-size: .8rem; }
.notes b { color: var(--ink); }
.notes li:first-child b { color: var(--warn); }
.bars svg { max-width: 100%; height: auto; }
.bars .front, i.front { fill: var(--accent); background: var(--accent); }
.bars .behind, i.behind { --bar: color-mix(in srgb, var(--soft) 35%, var(--paper)); fill: var(--bar);
  background: var(--bar); }
.bars path { stroke: var(--soft); }
.bars text { fill: var(--soft); font-size: 10px; text-anchor: middle; }
.bars .key, .bars .axis { margin: 0 0 .3rem; }
.key i { display: inline-block; width: .7rem; height: .7rem; margin: 0 .3rem 0 .6rem; border-radius: 2px; }
.key i:first-child { margin-left: 0; }
h3 { margin: 0 0 .15rem; font-size: .75rem; font-weight: 600; color: var(--ink); }
figcaption ul { margin: 0; padding: 0; list-style: none; line-height: 1.4; }
li + li { margin-top: .25rem; }
details { margin-top: .7rem; }
summary { cursor: pointer; color: var(--accent); font-size: .8rem; }
"""
