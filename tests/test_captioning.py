"""`captioner caption`, as a script meets it: one JSON object a line, in order, failures among them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from captioner.cli import main
from captioner.golden import golden_images


@pytest.fixture
def folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    pictures = project / "pictures"
    pictures.mkdir()
    for name, data in golden_images().items():
        (pictures / name).write_bytes(data)
    return pictures


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_folder_is_captioned_in_order(folder: Path, tiny_artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["caption", str(folder), "--json", "--model", str(tiny_artifact)]) == 0
    found = lines(capsys)
    assert [Path(line["image"]).name for line in found] == sorted(golden_images())
    first = found[0]
    assert set(first) == {"image", "caption", "log_probability", "alternatives", "model"}
    assert len(first["alternatives"]) == 2
    assert set(first["model"]) == {"version", "digest"}
    assert first["log_probability"] >= first["alternatives"][0]["log_probability"] * 2


def test_an_image_that_fails_does_not_stop_the_others(
    folder: Path, tiny_artifact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("I am no picture.")
    (folder / "cut.png").write_bytes((folder / "coffee.png").read_bytes()[:5000])
    wanted = [str(folder / n) for n in ("empty.jpg", "chelsea.png", "text.jpg", "nowhere.jpg", "cut.png", "coffee.png")]
    assert main(["caption", *wanted, "--json", "--model", str(tiny_artifact), "--top", "1"]) == 2
    captured = capsys.readouterr()
    found = [json.loads(line) for line in captured.out.splitlines()]
    assert [line["image"] for line in found] == wanted
    assert ["error" in line for line in found] == [True, False, True, True, True, False]
    assert all(set(line) == {"image", "error"} for line in found if "error" in line)
    assert found[1]["alternatives"] == []
    assert "4 of 6 images" in captured.err


def test_people_get_plain_lines(folder: Path, tiny_artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = str(folder / "chelsea.png")
    assert main(["caption", image, "--model", str(tiny_artifact)]) == 0
    assert capsys.readouterr().out.startswith(f"{image}: ")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--model", "nowhere.tar.gz"], "nowhere.tar.gz is no model"),
        (["--model", "models:/captioner-sample"], "names no version"),
        (["--beam", "0"], "beam of 0"),
        (["--beam", "2", "--top", "5"], "5 captions"),
    ],
)
def test_bad_options_are_one_sentence(
    folder: Path, tiny_artifact: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    model = [] if "--model" in options else ["--model", str(tiny_artifact)]
    assert main(["caption", str(folder / "chelsea.png"), *model, *options]) == 2
    error = capsys.readouterr().err.strip()
    assert says in error
    assert len(error.splitlines()) == 1


def test_an_empty_folder_says_what_was_looked_for(
    project: Path, tiny_artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    (project / "empty").mkdir()
    assert main(["caption", "empty", "--model", str(tiny_artifact)]) == 2
    assert ".jpg" in capsys.readouterr().err


def test_a_url_is_fetched(folder: Path, tiny_artifact: Path, serve_folder, capsys: pytest.CaptureFixture[str]) -> None:
    url = serve_folder(folder)
    assert main(["caption", f"{url}/chelsea.png", f"{url}/nothing.png", "--json", "--model", str(tiny_artifact)]) == 2
    fetched, missing = lines(capsys)
    assert fetched["caption"] is not None
    assert "404" in missing["error"]


def test_without_a_champion_it_says_what_to_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(folder.parent / ".captioner", ignore_errors=True)
    assert main(["caption", str(folder / "chelsea.png")]) == 2
    assert "captioner run" in capsys.readouterr().err
