"""Prints the results of the project in this folder as Markdown: scores, what stands beside them, times, captions.

``.venv/bin/python scripts/results.py`` after ``captioner run``, with the local stack up: the times are Prefect's, each
stage's from the last run that really ran it (``--no-times`` leaves them out). Captions are chosen by index and by
score, nothing by how it looks. ``--seeds REPORT…`` prints one table instead: mean, least and most over evaluation
reports of runs that differ in their seed only; candidates of this project that do so get that table by themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from captioner import stack
from captioner.bootstrap import App, open_app
from captioner.errors import BadData, CaptionerError
from captioner.records import read_json

Report = Mapping[str, Any]

SCORES = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "cider", "rouge_l", "brevity", "mean_words", "distinct")
WORDING = {
    "words a caption": ("mean_words", "{:.2f}"),
    "their standard deviation": ("deviation", "{:.2f}"),
    "different words, one caption an image": ("different_words", "{:,}"),
    "captions with two words in a row twice": ("repeated_bigram", "{:.1%}"),
    "captions with three words in a row twice": ("repeated_trigram", "{:.1%}"),
}


def _score(name: str, report: Report) -> float:
    found: float = report["scores"][name]
    return found


OVER_SEEDS: dict[str, Callable[[Report], float]] = {
    **{name: partial(_score, name) for name in SCORES},
    "copied": lambda report: report["copied"],
    "cider on dev": lambda report: report["dev"]["cider"] if report["dev"] else float("nan"),
    "cider, dev minus test": lambda report: report["gap"].get("cider", float("nan")),
    "repeats three words": lambda report: report["wording"]["captions"]["repeated_trigram"],
}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the page or the table of seeds, or one sentence that says why not. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", nargs="+", type=Path, metavar="REPORT", help="evaluate-C.json of each seed's run")
    parser.add_argument("--no-times", action="store_true", help="leave out the stages' times: no server is asked")
    options = parser.parse_args(argv)
    try:
        lines = seeds_of_files(options.seeds) if options.seeds else page(open_app(), times_too=not options.no_times)
    except CaptionerError as error:
        print(f"results: {error}", file=sys.stderr)
        return error.exit_code
    print("\n".join(lines))
    return 0


def page(app: App, times_too: bool) -> list[str]:
    """Everything about this project's candidates. Raises BadData when a candidate was not evaluated."""
    reports = {name: read_json(app.paths.report("evaluate", name)) for name in app.params.candidates}
    parts = [heading(app), scores(reports), *(seeds(reports, group) for group in seed_groups(app))]
    parts += [wording(reports), slices(reports), faults(reports)]
    parts += [times(app)] if times_too else []
    parts += [shown(reports), *(worst(name, report) for name, report in reports.items())]
    return [line for part in parts for line in [*part, ""]][:-1]


def heading(app: App) -> list[str]:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    return [
        f"## {app.params.profile}",
        "",
        f"Commit `{commit}`, `captioner profile use {app.params.profile}` and `captioner run`; {os.cpu_count()} cores "
        f"({platform.machine()}), Python {platform.python_version()}.",
    ]


def scores(reports: Mapping[str, Report]) -> list[str]:
    first = next(iter(reports.values()))
    rows: dict[str, Mapping[str, Any]] = {}
    for name, report in reports.items():
        rows[name] = {**report["scores"], "copied": report["copied"]}
        if report["dev"]:
            rows[f"{name}, on dev"] = report["dev"]
            rows[f"{name}, dev minus {report['split']}"] = report["gap"]
    rows["nearest neighbour"] = first["baseline"]
    if first["human"]:
        rows["a person (leave one out)"] = first["human"]
    columns = (*SCORES, "copied")
    cells = ([name, *(f"{row[s]:.2f}" if s in row else "–" for s in columns)] for name, row in rows.items())
    text = f"{first['images']:,} images of the split `{first['split']}`, free decoding, all references."
    return [text, "", *table(["", *map(_named, columns)], cells)]


def seed_groups(app: App) -> list[list[str]]:
    """The candidates that differ in their seed only, where there are two or more such."""
    groups: dict[str, list[str]] = {}
    for name in app.params.candidates:
        network = {key: value for key, value in app.params.decoder(name).model_dump().items() if key != "seed"}
        groups.setdefault(json.dumps(network, sort_keys=True), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def seeds_of_files(files: Sequence[Path]) -> list[str]:
    """The table of seeds from report files. Raises BadData unless they are of one test set."""
    reports = {
        f"{number}: {file.resolve().parent.parent.name}/{file.stem}": read_json(file)
        for number, file in enumerate(files, 1)
    }
    return seeds(reports, list(reports))


def seeds(reports: Mapping[str, Report], names: Sequence[str]) -> list[str]:
    """Mean, least and most of each figure. Raises BadData when the reports cannot be compared."""
    chosen = [reports[name] for name in names]
    for key in ("split", "test_set", "protocol"):
        if len({report.get(key) for report in chosen}) > 1:
            raise BadData(f"The reports differ in {key}: {', '.join(names)} cannot be averaged.")
    try:
        figures = {figure: [of(report) for report in chosen] for figure, of in OVER_SEEDS.items()}
    except (KeyError, TypeError) as error:
        raise BadData(f"A report lacks {error}: run evaluate again.") from None
    rows = (
        [_named(figure), *(f"{value:.2f}" for value in (sum(v) / len(v), min(v), max(v), *v))]
        for figure, v in figures.items()
    )
    return [f"{len(names)} seeds, everything else equal:", "", *table(["", "mean", "least", "most", *names], rows)]


def wording(reports: Mapping[str, Report]) -> list[str]:
    people = next(iter(reports.values()))["wording"]["people"]
    rows = [
        [
            text,
            *(form.format(report["wording"]["captions"][key]) for report in reports.values()),
            form.format(people[key]),
        ]
        for text, (key, form) in WORDING.items()
    ]
    apart = [f"{report['length_distance']:.0%}" for report in reports.values()]
    return table(["wording", *reports, "people"], [*rows, ["lengths that would have to change", *apart, "–"]])


def slices(reports: Mapping[str, Report]) -> list[str]:
    rows = []
    for name in next(iter(reports.values()))["slices"]:
        cells = [report["slices"][name] for report in reports.values()]
        rows.append([name, f"{cells[0]['images']}", *(f"{cell['cider']:.1f}, {cell['bleu_4']:.1f}" for cell in cells)])
    return table(["slice", "images", *(f"{name}: CIDEr, BLEU-4" for name in reports)], rows)


def faults(reports: Mapping[str, Report]) -> list[str]:
    first = next(iter(reports.values()))["faults"]
    names = sorted(first, key=lambda name: -max(report["faults"][name]["captions"] for report in reports.values()))
    rows = (
        [
            name,
            *(f"{report['faults'][name]['captions']:.1%}" for report in reports.values()),
            f"{first[name]['people']:.1%}",
        ]
        for name in names
    )
    return table(["fault, share of captions", *reports, "a person"], rows)


def times(app: App) -> list[str]:
    """Wall time of each task in its last run that was not `Cached`, from the Prefect server. Raises BadData."""
    server = stack.status(app.settings, app.paths).get("prefect", {})
    api = str(server.get("url", "")).rstrip("/").removesuffix("/api") + "/api"
    body = json.dumps({"sort": "END_TIME_DESC", "limit": 200}).encode()
    try:
        request = urllib.request.Request(f"{api}/task_runs/filter", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            runs = json.load(answer)
    except (OSError, ValueError):
        raise BadData("No Prefect server answers, so no times are known: captioner up, or --no-times.") from None
    seconds: dict[str, float] = {}
    for run in runs:
        if run["state_name"] == "Completed":
            seconds.setdefault(run["name"], run["total_run_time"])
    return table(["stage", "wall time"], ([name, _clock(took)] for name, took in reversed(seconds.items())))


def shown(reports: Mapping[str, Report]) -> list[str]:
    """The captions that every report quotes, by fixed index over the sorted ids."""
    first = next(iter(reports.values()))
    said = [{one["id"]: one for one in report["shown"]} for report in reports.values()]
    rows = (
        [
            f"{one['index']}, `{Path(one['id']).stem}`",
            *(f"{of_model[one['id']]['caption']} ({of_model[one['id']]['cider']:.0f})" for of_model in said),
            _tidy(one["references"][0]),
        ]
        for one in first["shown"]
    )
    text = f"{len(first['shown'])} images by index, evenly spaced over the sorted ids; CIDEr in brackets."
    return [text, "", *table(["index, image", *reports, "a person"], rows, figures=False)]


def worst(name: str, report: Report) -> list[str]:
    """The lowest CIDEr, with what the rules say is wrong."""
    rows = (
        [
            f"`{Path(one['id']).stem}`",
            one["caption"] or "–",
            f"{one['cider']:.2f}",
            "<br>".join(one["faults"]),
            "<br>".join(map(_tidy, one["references"])),
        ]
        for one in report["worst"]
    )
    text = f"The {len(report['worst'])} lowest CIDEr of {name}, and what is wrong with them, the main fault first:"
    return [text, "", *table(["image", "caption", "CIDEr", "what went wrong", "people"], rows, figures=False)]


def table(head: Sequence[str], rows: Any, figures: bool = True) -> list[str]:
    """A Markdown table; with `figures` every column but the first is set to the right."""
    rule = "| --- |" + (" ---: |" if figures else " --- |") * (len(head) - 1)
    lines = ("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    return [f"| {' | '.join(head)} |", rule, *lines]


def _named(score: str) -> str:
    """bleu_1 → BLEU-1, as papers print it."""
    text = score.replace("cider", "CIDEr").replace("bleu_", "BLEU-").replace("rouge_l", "ROUGE-L")
    return text.replace("_", " ")


def _tidy(caption: str) -> str:
    return caption.strip().rstrip(" .")


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60)} min {seconds % 60:02.0f} s" if seconds >= 60 else f"{seconds:.1f} s"


if __name__ == "__main__":
    sys.exit(main())
