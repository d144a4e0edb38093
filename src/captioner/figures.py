"""Figures of the stages' reports as PNG, for MLflow and the docs: learning, scores, slices, faults, caption lengths.

Reports in (as they are read from JSON and CSV), bytes out; the same report gives the same bytes. Knows nothing of
models or trackers. Matplotlib is imported when something is drawn, and without its global state.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.errors import BadData
from captioner.faults import FAULTS
from captioner.paths import Paths
from captioner.records import read_json, write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Report = Mapping[str, Any]

INK, SOFT, LINE = "#1f2328", "#626a73", "#e2dfd8"
COLOURS = ("#0b6b57", "#c2652a", "#4a6fa5", "#8a5a83", "#b59a2d", "#5b5f66")
"""One for each candidate, told apart by eyes that do not see red or green as others do."""
NEIGHBOUR, PERSON = "#c4bfb3", "#7d838a"

SCORES = {"bleu_1": "BLEU-1", "bleu_2": "BLEU-2", "bleu_3": "BLEU-3", "bleu_4": "BLEU-4", "cider": "CIDEr"}
DOTS = 110  # an inch


def write_figures(paths: Paths, candidate: str, folder: Path) -> list[Path]:
    """Draw every figure of `candidate` whose report is there into `folder`; returns the files. Raises BadData."""
    found: dict[str, bytes] = {}
    train, evaluate = paths.report("train", candidate), paths.report("evaluate", candidate)
    lengths = paths.plots("evaluate", candidate) / "lengths.csv"
    if train.is_file():
        found["learning.png"] = learning_curves({candidate: read_json(train)})
    if evaluate.is_file():
        report = read_json(evaluate)
        found["scores.png"] = score_bars({candidate: report})
        found["slices.png"] = slice_bars({candidate: report})
        if report.get("faults"):
            found["faults.png"] = fault_bars({candidate: report})
    if lengths.is_file():
        found["lengths.png"] = caption_lengths(lengths)
    for name, data in found.items():
        write_bytes(folder / name, data)
    return [folder / name for name in found]


def learning_curves(reports: Mapping[str, Report]) -> bytes:
    """Loss and dev CIDEr by epoch of each candidate's train report, the best epoch marked. Raises BadData."""
    from matplotlib.ticker import MaxNLocator

    figure, (left, right) = _axes("Loss a token (nats)", "CIDEr on dev, free decoding")
    for colour, (name, report) in zip(COLOURS, reports.items(), strict=False):
        epochs = _rows(report.get("epochs"), f"The train report of {name} has no epochs")
        numbers = [int(epoch["epoch"]) for epoch in epochs]
        left.plot(numbers, [epoch["loss"] for epoch in epochs], color=colour, marker="o", markersize=3, label=name)
        scores = [epoch["cider"] for epoch in epochs]
        right.plot(numbers, scores, color=colour, marker="o", markersize=3, label=name)
        best = report.get("best_epoch")
        if best in numbers:
            value = scores[numbers.index(best)]
            right.plot([best], [value], color=colour, marker="o", markersize=9, fillstyle="none", markeredgewidth=1.5)
            right.annotate(f"{value:.1f}", (best, value), (0, 9), textcoords="offset points", ha="center", color=colour)
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(y=0.12)
    if len(reports) > 1:
        left.legend(frameon=False, fontsize=8)
    return _png(figure)


def score_bars(reports: Mapping[str, Report]) -> bytes:
    """BLEU and CIDEr of each candidate's evaluate report beside the nearest neighbour and a person. Raises BadData."""
    first = next(iter(reports.values()))
    bars = {name: report["scores"] for name, report in reports.items()}
    bars["nearest neighbour"] = first["baseline"]
    if first.get("human"):
        bars["a person (one reference less)"] = first["human"]
    figure, (axes,) = _axes(f"Scores x100 on {first['split']}, {first['images']:,} images")
    width = 0.8 / len(bars)
    colours = (*COLOURS[: len(reports)], NEIGHBOUR, PERSON)
    for place, (name, scores) in enumerate(bars.items()):
        at = [spot + (place - (len(bars) - 1) / 2) * width for spot in range(len(SCORES))]
        drawn = axes.bar(at, [scores[key] for key in SCORES], width * 0.92, color=colours[place], label=name)
        axes.bar_label(drawn, fmt="%.1f", fontsize=7, color=SOFT, padding=1)
    axes.set_xticks(range(len(SCORES)), list(SCORES.values()))
    _legend(figure, len(bars))
    return _png(figure)


def slice_bars(reports: Mapping[str, Report]) -> bytes:
    """CIDEr by slice of each candidate's evaluate report, with its mean over all images. Raises BadData."""
    first = next(iter(reports.values()))
    names = list(_rows(first.get("slices"), "The evaluate report has no slices"))
    figure, (axes,) = _axes("CIDEr by slice", height=0.9 + (0.16 + 0.18 * len(reports)) * len(names))
    width = 0.8 / len(reports)
    for place, (candidate, report) in enumerate(reports.items()):
        at = [spot + (place - (len(reports) - 1) / 2) * width for spot in range(len(names))]
        values = [report["slices"].get(name, {}).get("cider", 0.0) for name in names]
        drawn = axes.barh(at, values, width * 0.9, color=COLOURS[place], label=candidate)
        axes.bar_label(drawn, fmt="%.0f", fontsize=7, color="white", padding=-18)
        axes.axvline(report["scores"]["cider"], color=COLOURS[place], linewidth=1, linestyle="--")
    axes.set_yticks(range(len(names)), [f"{name} ({first['slices'][name]['images']:,})" for name in names])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=LINE)
    axes.set_xlabel("dashed: all images")
    if len(reports) > 1:
        _legend(figure, len(reports))
    return _png(figure)


def fault_bars(reports: Mapping[str, Report]) -> bytes:
    """The share of captions by fault of each candidate's evaluate report, beside people's captions. Raises BadData."""
    first = next(iter(reports.values()))
    shares = _rows(first.get("faults"), "The evaluate report has no faults")
    names = [name for name in FAULTS if name in shares]
    bars = {name: [report["faults"].get(n, {}).get("captions", 0.0) for n in names] for name, report in reports.items()}
    bars["a person (one reference less)"] = [first["faults"][name]["people"] for name in names]
    figure, (axes,) = _axes("Share of captions by fault", height=0.9 + (0.16 + 0.18 * len(bars)) * len(names))
    width = 0.8 / len(bars)
    colours = (*COLOURS[: len(reports)], PERSON)
    for place, (name, values) in enumerate(bars.items()):
        at = [spot + (place - (len(bars) - 1) / 2) * width for spot in range(len(names))]
        drawn = axes.barh(at, values, width * 0.9, color=colours[place], label=name)
        axes.bar_label(drawn, fmt="{:.1%}", fontsize=7, color=SOFT, padding=2)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=LINE)
    axes.xaxis.set_major_formatter("{x:.0%}")
    _legend(figure, len(bars))
    return _png(figure)


def caption_lengths(path: Path) -> bytes:
    """The shares of captions by their number of words, of the model and of people, from lengths.csv. Raises BadData."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [(int(r["words"]), float(r["predicted"]), float(r["references"])) for r in csv.DictReader(file)]
    except (KeyError, TypeError, ValueError) as error:
        raise BadData(f"{path} does not hold caption lengths ({error}): run evaluate again.") from None
    words = [row[0] for row in _rows(rows, f"{path} is empty")]
    figure, (axes,) = _axes("Words a caption, share of captions")
    axes.bar(words, [row[2] for row in rows], 0.9, color=LINE, label="people")
    axes.plot(words, [row[1] for row in rows], color=COLOURS[0], marker="o", markersize=3, label="model")
    axes.set_xlabel(f"words ({words[-1]}: or more)")
    axes.yaxis.set_major_formatter("{x:.0%}")
    _legend(figure, 2)
    return _png(figure)


def difference_over_time(rows: Sequence[Report]) -> bytes:
    """An experiment's difference with its interval over the users who have rated; rows without one are left out."""
    shown = [row for row in rows if row["low"] is not None]
    users = [row["users"] for row in _rows(shown, "There is no interval yet")]
    figure, (axes,) = _axes("Mean rating, challenger minus champion")
    axes.fill_between(
        users, [row["low"] for row in shown], [row["high"] for row in shown], color=COLOURS[0], alpha=0.2, linewidth=0
    )
    axes.plot(users, [row["difference"] for row in shown], color=COLOURS[0])
    axes.axhline(0.0, color=INK, linestyle="--", linewidth=1)
    axes.set_xlabel("users who have rated")
    return _png(figure)


def _axes(*titles: str, height: float = 3.6) -> tuple[Figure, Sequence[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * len(titles) if len(titles) > 1 else 7.2, height), dpi=DOTS, layout="constrained")
    found = figure.subplots(1, len(titles), squeeze=False)[0]
    for axes, title in zip(found, titles, strict=True):
        axes.set_title(title, loc="left", fontsize=10, color=INK, fontweight="bold")
        axes.tick_params(labelsize=8, colors=SOFT)
        axes.xaxis.label.set(color=SOFT, fontsize=8)
        axes.grid(axis="y", color=LINE)
        axes.set_axisbelow(True)
        for side, spine in axes.spines.items():
            spine.set_visible(side == "bottom")
            spine.set_color(SOFT)
    return figure, list(found)


def _legend(figure: Figure, columns: int) -> None:
    """Outside the axes, where it can hide nothing."""
    figure.legend(loc="outside lower left", ncols=columns, frameon=False, fontsize=8, labelcolor=INK)


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    # Without the version of matplotlib in it.
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _rows(value: Any, fault: str) -> Any:
    if not value:
        raise BadData(f"{fault}: run the stage again.")
    return value
