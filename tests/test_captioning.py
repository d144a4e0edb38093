"""`captioner caption`, as a script meets it: one JSON object a line, in order, failures among them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioner.adapters.mlflow_store import prepare
from captioner.bootstrap import open_app
from captioner.captioning import batches, default_model
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


# As a stream


def test_the_first_answer_is_there_before_the_last_image_is_read(folder: Path, tiny_artifact: Path) -> None:
    pipe = folder.parent / "late.png"
    os.mkfifo(pipe)  # whoever reads it waits until somebody writes
    command = [sys.executable, "-m", "captioner", "caption", str(folder), str(pipe), "--json"]
    with subprocess.Popen(
        [*command, "--model", str(tiny_artifact)], cwd=folder.parent, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        first = json.loads(running.stdout.readline())
        assert Path(first["image"]).name == min(golden_images())
        pipe.write_bytes(golden_images()["coffee.png"])
        rest = [json.loads(line) for line in running.stdout]
    assert running.returncode == 0
    assert [Path(line["image"]).name for line in rest] == [*sorted(golden_images())[1:], "late.png"]
    assert rest[-1]["caption"]


def test_no_more_images_are_held_than_a_batch_has() -> None:
    names = iter([str(number) for number in range(100)])
    sizes = [len(group) for group in batches(names, 16)]
    assert sizes == [1, 2, 4, 8, 16, 16, 16, 16, 16, 5]
    started = batches(iter(["a", "b", "c", "d"]), 16)
    assert next(started) == ["a"]


def test_machines_are_told_the_progress_without_a_total(
    folder: Path, tiny_artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CAPTIONER_PROGRESS", "json")
    assert main(["caption", str(folder), "--model", str(tiny_artifact)]) == 0
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    assert told[-1]["progress"] == {"task": "captions", "done": 6, "total": None, "unit": "images", "note": ""}


# Which model


@pytest.fixture
def clone(folder: Path, shipped_project: Path) -> Path:
    """A fresh clone after set-up: the profile sample, a shipped model, nothing computed, no server."""
    shutil.copytree(shipped_project / "models" / "shipped", folder.parent / "models" / "shipped")
    return folder.parent


def test_a_fresh_clone_captions_a_photo_with_the_shipped_model(clone: Path) -> None:
    script = (
        "import sys\n"
        "from captioner.cli import main\n"
        "code = main(['caption', 'pictures/chelsea.png', '--json'])\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))\n"
        "sys.exit(code)"
    )
    # A proxy that is not there: whoever reaches for the network fails.
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    environ = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=clone, env={**environ, **nowhere}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    line, modules = done.stdout.splitlines()
    card = json.loads((clone / "models" / "shipped" / "card.json").read_text())
    assert json.loads(line)["model"] == {"version": "shipped", "digest": card["artifact"]["digest"]}
    assert json.loads(line)["caption"]
    told = done.stderr.splitlines()
    assert len(told) == 2, told
    assert "once on this machine" in told[0]
    assert told[1].startswith("captioner: with the shipped model (attention on flickr8k, CIDEr ")
    assert not {"mlflow", "sqlalchemy", "prefect", "boto3", "dvc"} & set(modules.split())
    assert not (clone / ".captioner" / "mlflow").exists()


def test_without_a_shipped_model_it_says_what_to_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options in ([], ["--model", "shipped"]):
        assert main(["caption", str(folder / "chelsea.png"), *options]) == 2
        said = capsys.readouterr().err.strip()
        assert len(said.splitlines()) == 1
        assert "git checkout -- models/shipped" in said
        assert "captioner run" in said


def test_a_champion_is_asked_for_by_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["caption", str(folder / "chelsea.png"), "--model", "champion"]) == 2
    assert "The registry has no champion of captioner-sample: run the pipeline first" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("profile", "champion", "chosen"),
    [("sample", True, "shipped"), ("flickr8k", False, "shipped"), ("flickr8k", True, "champion")],
)
def test_the_default_is_the_champion_of_a_real_dataset(
    project: Path, small_store: Path, profile: str, champion: bool, chosen: str
) -> None:
    shutil.copy(project / "profiles" / f"{profile}.yaml", project / "params.yaml")
    app = open_app(project)
    assert default_model(app) == "shipped"  # nothing there yet
    assert not app.paths.mlflow.exists()  # and asking has made nothing
    shutil.copytree(small_store, app.paths.mlflow)
    if champion:
        registry, run = app.registry(), app.tracker().start("train", {})
        (project / "model.tar.gz").write_bytes(b"not looked into")
        registry.create(app.name, project / "model.tar.gz", run.id, {})
        registry.set_alias(app.name, "champion", "1")
    assert default_model(app) == chosen


@pytest.fixture(scope="module")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow store with nothing in it: building one takes seconds."""
    folder = tmp_path_factory.mktemp("store")
    prepare(folder / "mlflow.db")
    return folder


# Explained


def test_an_explanation_is_one_png_of_the_caption(
    clone: Path, tiny_artifact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = str(clone / "pictures" / "astronaut.png")
    assert main(["caption", photo, "--json", "--model", str(tiny_artifact), "--explain", "why.png"]) == 0
    (line,) = lines(capsys)
    assert line["explained"] == "why.png"
    with Image.open(clone / "why.png") as drawn:
        assert drawn.format == "PNG"
        assert drawn.info["Description"] == line["caption"]
        assert min(drawn.size) > 200
        pixels = np.asarray(drawn.convert("RGB"), float)
    assert (pixels.max(axis=2) - pixels.min(axis=2) > 60).mean() > 0.02  # somewhere it looked


def test_several_images_are_explained_in_a_folder(
    folder: Path, tiny_artifact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["caption", str(folder), "--model", str(tiny_artifact), "--explain"]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("  → explained/astronaut.png")
    assert {file.stem for file in Path("explained").iterdir()} == {Path(name).stem for name in golden_images()}


def test_the_option_may_stand_before_the_image(
    folder: Path, tiny_artifact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = folder / "chelsea.png"
    before = photo.read_bytes()
    assert main(["caption", "--model", str(tiny_artifact), "--explain", str(photo)]) == 0
    assert Path("chelsea-explained.png").is_file()
    assert photo.read_bytes() == before


def test_a_photo_is_not_drawn_over(folder: Path, tiny_artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = [folder / "chelsea.png", folder / "coffee.png"]
    before = photos[1].read_bytes()
    assert main(["caption", str(photos[0]), "--model", str(tiny_artifact), "--explain", str(photos[1])]) == 2
    assert "was not drawn here" in capsys.readouterr().err
    assert photos[1].read_bytes() == before


def test_a_model_without_attention_is_refused_before_it_says_anything(
    folder: Path, tiny_merge: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["caption", str(folder / "chelsea.png"), "--model", str(tiny_merge), "--explain"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "network (merge) does not look at parts of the picture" in captured.err


def test_without_an_image_it_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options in ([], ["--explain"]):
        assert main(["caption", *options]) == 2
        assert "name an image, a folder or a URL" in capsys.readouterr().err
