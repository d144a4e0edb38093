"""The command line's edge: exit codes, one sentence for every error, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from captioner.cli import main
from captioner.paths import Paths
from tests.tiny import write_data


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    return project


def change(project: Path, **sections: object) -> None:
    """Replace whole sections of the project's params.yaml."""
    file = project / "params.yaml"
    params = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**params, **sections}))


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    """What was said on standard error: one line, and no traceback."""
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1, error
    assert error.startswith("captioner: ")
    return error


@pytest.mark.parametrize("verb", [["validate"], ["train", "merge"], ["register"], ["up"], ["reconcile"]])
def test_every_verb_checks_the_whole_params_first(
    here: Path, capsys: pytest.CaptureFixture[str], verb: list[str]
) -> None:
    change(here, export={"beam": 3, "length_power": 0.7, "top": 3, "wings": 2})
    assert main(verb) == 2
    said = sentence(capsys)
    assert "export.wings is not a parameter" in said
    assert "beam, length_power, top" in said


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"acquire": {"dataset": "imagenet"}}, "'sample', 'flickr8k' or 'folder'"),
        ({"acquire": {"dataset": "folder"}}, "acquire.folder is missing"),
        (
            {"candidates": ["merge", "transformer"]},
            "no candidate 'transformer' in decoders; there is: attention, merge",
        ),
        ({"candidates": ["merge", "merge"]}, "names one twice"),
        ({"decoders": {"merge": {"kind": "gru"}}}, "'merge' or 'attention'"),
        ({"export": {"beam": 2, "length_power": 0.7, "top": 3}}, "top (3) cannot be more than beam (2)"),
        (
            {"export": {"beam": 3, "length_power": 0.7, "top": 3, "no_repeat_ngram_size": 1}},
            "no caption could say 'a' twice",
        ),
        ({"evaluate": {"split": "test", "batch": "many", "gallery": 8}}, "evaluate.batch"),
        ({"surprise": 1}, "surprise is not a parameter"),
    ],
)
def test_a_bad_parameter_is_named_with_the_valid_ones(
    here: Path, capsys: pytest.CaptureFixture[str], sections: dict[str, object], says: str
) -> None:
    change(here, **sections)
    assert main(["acquire"]) == 2
    assert says in sentence(capsys)


def test_an_unknown_encoder_is_named_with_the_valid_ones(
    here: Path, paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    write_data(paths)
    change(here, features={"encoder": "vgg99", "layout": "grid", "batch": 32})
    assert main(["features"]) == 2
    said = sentence(capsys)
    assert "vgg99" in said
    assert "efficientnet-lite0" in said


def test_an_unknown_candidate_is_named_with_the_valid_ones(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "transformer"]) == 2
    assert "merge, attention" in sentence(capsys)


def test_params_that_are_not_yaml_are_one_sentence(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "params.yaml").write_text("profile: [sample\n  oops")
    assert main(["acquire"]) == 2
    assert "not YAML" in sentence(capsys)


def test_outside_a_project_it_says_where_to_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["acquire"]) == 2
    assert "run captioner from the project's folder" in sentence(capsys)


def test_an_unknown_setting_is_refused(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CAPTIONER_FLIKR8K", "/data")
    assert main(["acquire"]) == 2
    assert "CAPTIONER_FLICKR8K" in sentence(capsys)


def test_machines_get_errors_as_json(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CAPTIONER_PROGRESS", "json")
    assert main(["validate"]) == 2
    fault = json.loads(capsys.readouterr().err.strip().splitlines()[-1])["error"]
    assert fault["type"] == "BadData"
    assert fault["transient"] is False


def test_a_stage_before_its_inputs_says_what_to_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in (["validate"], ["features"], ["train", "merge"], ["export", "merge"], ["evaluate", "merge"]):
        assert main(verb) == 2, verb
        assert "run" in sentence(capsys), verb


def test_a_disk_that_cannot_be_written_is_one_sentence(
    here: Path, paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    write_data(paths)
    # A file where the stage's folder should be stands for a disk that refuses, also for root.
    (here / "models").write_text("not a folder")
    assert main(["train", "merge"]) == 2
    assert "cannot be written" in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_training_that_is_interrupted_keeps_what_was_done(here: Path, paths: Paths, number: int) -> None:
    write_data(paths)
    params = yaml.safe_load((here / "params.yaml").read_text())
    decoder = {"kind": "merge", "units": 12, "embedding": 8, "dropout": 0.2}
    change(
        here,
        decoders={**params["decoders"], "merge": decoder},
        train={**params["train"], "epochs": 300, "patience": 300, "images_per_batch": 6, "dev_images": 6},
    )
    child = subprocess.Popen(
        [sys.executable, "-m", "captioner", "train", "merge"],
        cwd=here,
        env={**os.environ, "CAPTIONER_PROGRESS": "json"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert child.stderr is not None
    for line in child.stderr:
        if "epoch 3/" in line:  # two epochs are done and kept
            child.send_signal(number)
            break
    rest = child.stderr.read()
    assert child.wait() == 130
    assert "Traceback" not in rest
    assert "goes on from where it was" in rest
    (checkpoint,) = paths.checkpoints.rglob("checkpoint.npz")
    from captioner.model.trained import unpack_arrays

    history = json.loads(unpack_arrays(checkpoint)["history"].tobytes())
    assert len(history) >= 2
