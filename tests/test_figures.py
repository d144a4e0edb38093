from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captioner.errors import BadData
from captioner.figures import caption_lengths, fault_bars, learning_curves, score_bars, slice_bars, write_figures
from captioner.paths import Paths
from captioner.records import write_json, write_text

SCORES = {"bleu_1": 60.0, "bleu_2": 42.0, "bleu_3": 30.0, "bleu_4": 21.0, "cider": 55.0}


def train_report(scale: float = 1.0) -> dict[str, Any]:
    epochs = [{"epoch": n, "loss": 5.0 / n, "cider": scale * (30 - (n - 4) ** 2)} for n in range(1, 7)]
    return {"best_epoch": 4, "epochs": epochs}


def evaluate_report(scale: float = 1.0) -> dict[str, Any]:
    scores = {name: scale * value for name, value in SCORES.items()}
    slices = {name: {"images": 10, "cider": scale * 50, "bleu_4": 20.0} for name in ("length/long", "light/dark")}
    faults = {name: {"captions": 0.4 * scale, "people": 0.02} for name in ("wrong number", "left out")}
    shown = {"baseline": SCORES, "human": SCORES, "slices": slices, "faults": faults}
    return {"split": "test", "images": 20, "scores": scores, **shown}


def lengths(path: Path) -> Path:
    write_text(path, "words,predicted,references\n0,0.0,0.1\n1,0.25,0.4\n2,0.75,0.5\n")
    return path


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG"
        assert not image.info.get("Software"), "the version of matplotlib would make other bytes"
        return np.asarray(image.convert("RGB")).astype(int)


def has(data: bytes, colour: tuple[int, int, int]) -> bool:
    return bool((np.abs(pixels(data) - colour).max(axis=2) < 3).any())


GREEN, ORANGE = (0x0B, 0x6B, 0x57), (0xC2, 0x65, 0x2A)


@pytest.mark.parametrize("draw", [learning_curves, score_bars, slice_bars, fault_bars])
def test_each_candidate_has_its_colour(draw: Any) -> None:
    report = train_report if draw is learning_curves else evaluate_report
    assert has(draw({"merge": report()}), GREEN)
    assert not has(draw({"merge": report()}), ORANGE)
    assert has(draw({"merge": report(), "attention": report(0.8)}), ORANGE)


@pytest.mark.parametrize("draw", [learning_curves, score_bars, slice_bars, fault_bars])
def test_the_same_report_gives_the_same_bytes_and_another_one_others(draw: Any) -> None:
    report = train_report if draw is learning_curves else evaluate_report
    assert draw({"merge": report()}) == draw({"merge": report()})
    assert draw({"merge": report()}) != draw({"merge": report(0.5)})


def test_caption_lengths(tmp_path: Path) -> None:
    assert has(caption_lengths(lengths(tmp_path / "lengths.csv")), GREEN)
    write_text(tmp_path / "other.csv", "a,b\n1,2\n")
    with pytest.raises(BadData, match="does not hold caption lengths"):
        caption_lengths(tmp_path / "other.csv")
    write_text(tmp_path / "empty.csv", "words,predicted,references\n")
    with pytest.raises(BadData, match="is empty"):
        caption_lengths(tmp_path / "empty.csv")


def test_a_report_without_a_person_is_drawn_without_one() -> None:
    alone = {**evaluate_report(), "human": None}
    assert score_bars({"merge": alone}) != score_bars({"merge": evaluate_report()})


def test_reports_without_what_is_drawn_are_refused() -> None:
    with pytest.raises(BadData, match="train report of merge has no epochs"):
        learning_curves({"merge": {"epochs": []}})
    with pytest.raises(BadData, match="no slices"):
        slice_bars({"merge": {**evaluate_report(), "slices": {}}})
    with pytest.raises(BadData, match="no faults"):
        fault_bars({"merge": {"split": "test"}})


def test_whatever_reports_are_there_are_drawn(paths: Paths, tmp_path: Path) -> None:
    assert write_figures(paths, "merge", tmp_path / "figures") == []
    write_json(paths.report("train", "merge"), train_report())
    assert [file.name for file in write_figures(paths, "merge", tmp_path / "figures")] == ["learning.png"]
    write_json(paths.report("evaluate", "merge"), evaluate_report())
    lengths(paths.plots("evaluate", "merge") / "lengths.csv")
    files = write_figures(paths, "merge", tmp_path / "figures")
    assert [file.name for file in files] == ["learning.png", "scores.png", "slices.png", "faults.png", "lengths.png"]
    for file in files:
        height, width, _ = pixels(file.read_bytes()).shape
        assert 100 < height < width < 1200
