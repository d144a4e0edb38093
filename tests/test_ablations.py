"""scripts/ablations.py: its rows are what the train stage itself reaches, and nothing is trained twice."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from captioner.paths import Paths
from captioner.settings import Settings
from captioner.stages import train
from tests.loading import script
from tests.tiny import decoder_params, train_params, write_data

ablations = script("ablations")

ROOT = Path(__file__).resolve().parents[1]
SCST = {"epochs": 2, "learning_rate": 0.005, "warmup_steps": 1, "samples": 3, "patience": 2}
PARAMS = train_params(objective="scst", scst=SCST)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A project of thirty images and a decoder of twelve units."""
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    given = yaml.safe_load((ROOT / "profiles" / "sample.yaml").read_text(encoding="utf-8"))
    given |= {"train": PARAMS.model_dump(), "decoders": {"attention": decoder_params().model_dump()}}
    given["candidates"] = ["attention"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(given), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CAPTIONER_PROGRESS", "none")
    paths = Paths.of(tmp_path, Settings.from_env(tmp_path))
    write_data(paths)
    return paths


def tracked(paths: Paths) -> int:
    """How many runs MLflow has."""
    (file,) = (paths.home / "mlflow").glob("*.db")
    with closing(sqlite3.connect(file)) as database:
        return int(database.execute("select count(*) from runs").fetchone()[0])


def test_a_row_is_what_the_train_stage_reaches(small: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    varied = "train.scst.learning_rate=0.05"
    arguments = ["attention", "--seeds", "3", "--set", "train.ema=0.5", "--vary", varied]
    assert ablations.main(arguments) == 0
    told = capsys.readouterr()
    assert tracked(small) == 1 + 2, "a run of what both rows share, and one a row"
    wanted = []
    for change, rate in ((ablations.NOTHING, 0.005), (varied, 0.05)):
        params = train_params(objective="scst", scst={**SCST, "learning_rate": rate}, seed=3, ema=0.5)
        report = train.run(params, decoder_params(), small, "attention", train.NoTracker(), small.root)
        start, best = (
            max((e for e in report.epochs if e.objective == phase), key=lambda e: e.cider)
            for phase in ("cross-entropy", "scst")
        )
        wanted.append(ablations.Row(change, 3, start.cider, best.cider, best.bleu_4, best.mean_words, best.distinct))
    assert told.out.splitlines() == ablations.table(wanted)
    kept = {file: file.stat().st_mtime_ns for file in small.checkpoints.rglob("*.npz")}
    assert len(kept) == 1 + 2 * 2  # the phase before, and both phases of each row

    assert ablations.main(arguments) == 0
    assert capsys.readouterr().out == told.out
    assert {file: file.stat().st_mtime_ns for file in small.checkpoints.rglob("*.npz")} == kept


def test_what_is_not_of_a_later_phase_varies_cross_entropy_and_ends_there(
    small: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    varied = ["decoders.attention.units=9", "train.learning_rate=0.1"]
    assert ablations.main(["attention", "--seeds", "3", "--set", "train.epochs=1", "--vary", *varied]) == 0
    wanted = []
    for change, units, rate in ((ablations.NOTHING, 12, 0.02), (varied[0], 9, 0.02), (varied[1], 12, 0.1)):
        params = train_params(seed=3, epochs=1, learning_rate=rate)
        report = train.run(params, decoder_params(units=units), small, "attention", train.NoTracker(), small.root)
        (only,) = report.epochs
        wanted.append(ablations.Row(change, 3, None, only.cider, only.bleu_4, only.mean_words, only.distinct))
    assert capsys.readouterr().out.splitlines() == ablations.table(wanted)


def test_a_line_has_the_means_over_the_seeds_and_what_each_reached() -> None:
    rows = [ablations.Row("x=1", seed, 40.0 + seed, 50.0 + seed, 20.0, 9.0 + seed, 0.5) for seed in (1, 2)]
    assert ablations.table([*rows, rows[0]._replace(change="x=2", before=None)])[2:] == [
        "| x=1 | 2 | 51.5 | 51.0, 52.0 | 41.5 | 20.0 | 10.5 | 0.50 |",
        "| x=2 | 1 | 51.0 | 51.0 | – | 20.0 | 10.0 | 0.50 |",
    ]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["attention"], "--vary takes keys of one phase"),
        (["attention", "--vary", "train.epochs=3", "train.scst.epochs=1"], "--vary takes keys of one phase"),
        (["attention", "--vary", "train.seed=3"], "--vary takes keys of one phase"),
        (["attention", "--vary", "train.objective=cross-entropy"], "--vary takes keys of one phase"),
        (["attention", "--vary", "train.scst=null"], "--vary takes keys of one phase"),
        (["attention", "--vary", "decoders.merge.units=3"], "--vary takes keys of one phase"),
        (["attention", "--vary", "decoders.attention.units=none"], "decoders.attention.units"),
        (["attention", "--vary", "train.scst.epochs=1", "train.finetune.epochs=1"], "--vary takes keys of one phase"),
        (["attention", "--vary", "train.scst.epochs"], "is not KEY=VALUE"),
        (["attention", "--vary", "train.scst.epochs=["], "is not YAML"),
        (["attention", "--vary", "train.scst.epochs=none"], "params.yaml, changed: "),
        (["attention", "--vary", "train.scst.speed=1"], "train.scst.speed"),
        (["attention", "--vary", "train.finetune.epochs=1"], "has no phase finetune"),
        (["nobody", "--vary", "train.scst.epochs=1"], "nobody"),
        (["attention", "--vary", "train.ema=0", "--set", "train.distill={teachers: 1, share: 0.5}"], "captioner train"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    arguments: list[str], reason: str, small: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ablations.main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.strip().splitlines()) == 1
    assert said.err.startswith("ablations: ")
    assert reason in said.err
