"""What a benchmark found, as ``results.json`` keeps it and as README's table shows it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.rounds import Ratio

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "benchmarks" / "results.json"
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "results.md"
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


@dataclass(frozen=True)
class Result:
    """One comparison. `ratio` and `goal`: how many times better than the peer; `ratio` is None when it was not run."""

    name: str  # the benchmark, and what of it
    peer: str
    ratio: Ratio | None
    goal: float
    unit: str = ""  # of `ours` and `peers`
    ours: float | None = None  # the median of the rounds, for orientation: absolute figures do not travel
    peers: float | None = None
    equal: str = ""  # what was asserted before anything was timed
    not_run: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    commit: str = ""
    machine: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the median reaches the goal; None when it was not run."""
        return None if self.ratio is None else self.ratio.median >= self.goal


def to_json(result: Result) -> dict[str, Any]:
    """As in results.json, figures cut to four digits."""
    found = {**asdict(result), "met": result.met}
    return {name: _rounded(value) for name, value in found.items() if value not in ("", {})}


def read(path: Path = FILE) -> list[dict[str, Any]]:
    """The results there are; none when there is no file."""
    try:
        found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return found


def merge(old: Sequence[dict[str, Any]], new: Iterable[dict[str, Any]], order: Sequence[str]) -> list[dict[str, Any]]:
    """`new` in the place of what `old` had of the same benchmarks, in the order of the benchmarks' names."""
    fresh = list(new)
    names = {result["benchmark"] for result in fresh}
    kept = [result for result in old if result["benchmark"] not in names and result["benchmark"] in order]
    return sorted([*kept, *fresh], key=lambda result: order.index(result["benchmark"]))


def write(results: Sequence[dict[str, Any]], path: Path = FILE) -> None:
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def table(results: Sequence[dict[str, Any]]) -> str:
    """README's table."""
    lines = ["| What | Against | Times better: median (least – most) | Goal | |", "| --- | --- | ---: | ---: | --- |"]
    for result in results:
        ratio, goal = result["ratio"], f"≥ {_figure(result['goal'])}"
        if ratio is None:
            shown, met = f"not run: {result['not_run']}", "–"
        else:
            spread = f"{_figure(ratio['min'])} – {_figure(ratio['max'])}"
            shown, met = f"**{_figure(ratio['median'])}** ({spread})", "met" if result["met"] else "missed"
        lines.append(f"| {result['name']} | {result['peer']} | {shown} | {goal} | {met} |")
    return "\n".join(lines)


def figures(results: Sequence[dict[str, Any]]) -> str:
    """The table of docs/results.md: absolute figures, for orientation, and where each came from."""
    lines = [
        "| What | Against | Ours | Peer's | Cold: ours, peer's | Equal before timing | Limit reached "
        "| Commit | Machine | Load |",
        "| --- | --- | ---: | ---: | ---: | --- | ---: | --- | --- | ---: |",
    ]
    shapes: list[str] = []
    for result in results:
        if result["ratio"] is None:
            continue
        cells = [_with_unit(result.get(who), result.get("unit", "")) for who in ("ours", "peers")]
        details = result.get("details", {})
        cold = details.get("cold_start_s", {})
        starts = ", ".join(f"{_figure(cold[who])} s" for who in ("ours", "peer") if who in cold) or "–"
        share = details.get("limit", {}).get("share_reached")
        reached = "–" if share is None else f"{share:.0%}"
        row = [result["name"], result["peer"], *cells, starts, result.get("equal", "–"), reached]
        machine = result["machine"]
        shape = ", ".join(f"{name.replace('_', ' ')} {machine[name]}" for name in machine if name != "load_before")
        if shape not in shapes:
            shapes.append(shape)
        row += [f"`{result['commit']}`", str(shapes.index(shape) + 1), str(machine["load_before"])]
        lines.append(f"| {' | '.join(row)} |")
    if not shapes:
        return "Not measured yet."
    return "\n".join([f"Machine {number}: {shape}.  " for number, shape in enumerate(shapes, start=1)] + ["", *lines])


def renew(text: str, content: str) -> str:
    """`text` with what stands between the two marks replaced. Raises ValueError when a mark is missing."""
    if BEGIN not in text or END not in text:
        raise ValueError(f"there are no marks {BEGIN} … {END}")
    return re.sub(f"{BEGIN}.*?{END}", lambda _: f"{BEGIN}\n{content}\n{END}", text, flags=re.DOTALL)


def write_pages(results: Sequence[dict[str, Any]]) -> None:
    """README's table, and the figures of docs/results.md."""
    for page, content in ((README, table(results)), (PAGE, figures(results))):
        page.write_text(renew(page.read_text(encoding="utf-8"), content), encoding="utf-8")


def _with_unit(value: float | None, unit: str) -> str:
    return "–" if value is None else f"{_figure(value)} {unit}"


def _figure(value: float) -> str:
    """Three digits: 1,234 · 123 · 12.3 · 1.23."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 0.1 else 4
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
