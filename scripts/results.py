"""Prints the results of the project in this folder as Markdown: scores, times of the stages, captions by fixed index.

``.venv/bin/python scripts/results.py`` after ``captioner run``, with the local stack up: the times are Prefect's, each
stage's from the last run that really ran it. Nothing is chosen by how it looks.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

from captioner import stack
from captioner.bootstrap import App, open_app
from captioner.records import read_json, read_manifest, read_predictions

CAPTIONS = 12
SCORES = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "cider", "rouge_l", "brevity", "mean_words", "distinct")


def main() -> None:
    app = open_app()
    reports = {name: read_json(app.paths.report("evaluate", name)) for name in app.params.candidates}
    print("\n".join([*heading(app), "", *scores(reports), "", *slices(reports), "", *times(app), "", *captions(app)]))


def heading(app: App) -> list[str]:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    return [
        f"## {app.params.profile}",
        "",
        f"Commit `{commit}`, `captioner profile use {app.params.profile}` and `captioner run`; {os.cpu_count()} cores "
        f"({platform.machine()}), Python {platform.python_version()}.",
    ]


def scores(reports: dict[str, Any]) -> list[str]:
    first = next(iter(reports.values()))
    rows = {name: {**report["scores"], "copied": report["copied"]} for name, report in reports.items()}
    rows |= {"nearest neighbour": first["baseline"], "a person (leave one out)": first["human"]}
    lines = [
        f"{first['images']} images of the split `{first['split']}`, free decoding, all references.",
        "",
        "| | " + " | ".join(name.replace("_", "-") for name in (*SCORES, "copied")) + " |",
        "| --- |" + " ---: |" * (len(SCORES) + 1),
    ]
    for name, row in rows.items():
        cells = [f"{row[s]:.2f}" if s in row else "–" for s in (*SCORES, "copied")]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def slices(reports: dict[str, Any]) -> list[str]:
    names = list(next(iter(reports.values()))["slices"])
    lines = ["| slice | images | " + " | ".join(f"{c}: CIDEr, BLEU-4" for c in reports) + " |"]
    lines.append("| --- | ---: |" + " ---: |" * len(reports))
    for name in names:
        cells = [report["slices"][name] for report in reports.values()]
        figures = " | ".join(f"{cell['cider']:.1f}, {cell['bleu_4']:.1f}" for cell in cells)
        lines.append(f"| {name} | {cells[0]['images']} | {figures} |")
    return lines


def times(app: App) -> list[str]:
    """Wall time of each task in its last run that was not `Cached`, from the Prefect server."""
    api = stack.status(app.settings, app.paths)["prefect"]["url"].rstrip("/").removesuffix("/api") + "/api"
    body = json.dumps({"sort": "END_TIME_DESC", "limit": 200}).encode()
    request = urllib.request.Request(f"{api}/task_runs/filter", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        runs = json.load(answer)
    seconds: dict[str, float] = {}
    for run in runs:
        if run["state_name"] == "Completed":
            seconds.setdefault(run["name"], run["total_run_time"])
    return [
        "| stage | wall time |",
        "| --- | ---: |",
        *(f"| {n} | {_clock(s)} |" for n, s in reversed(seconds.items())),
    ]


def captions(app: App) -> list[str]:
    """Test images by fixed index, evenly spread over the split in the order of their ids."""
    manifest = {r.id: r for r in read_manifest(app.paths.validated / "manifest.jsonl")}
    said = {
        name: {p.id: p.captions[0].caption for p in read_predictions(app.paths.predictions(name) / "predictions.jsonl")}
        for name in app.params.candidates
    }
    ids = sorted(next(iter(said.values())))
    lines = ["| index, image | " + " | ".join(said) + " | a person |", "| --- |" + " --- |" * (len(said) + 1)]
    for i in range(CAPTIONS):
        index = i * len(ids) // CAPTIONS
        image = ids[index]
        person = manifest[image].captions[0].strip().rstrip(" .")
        lines.append(
            f"| {index}, `{Path(image).stem}` | " + " | ".join(s[image] for s in said.values()) + f" | {person} |"
        )
    return lines


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60)} min {seconds % 60:02.0f} s" if seconds >= 60 else f"{seconds:.1f} s"


if __name__ == "__main__":
    main()
