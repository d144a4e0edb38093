"""The perturbations to the pixel, the counting on sentences, and both on models that have learned."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captioner.datasets.scenes import KINDS
from captioner.errors import BadImage
from captioner.golden import golden_images
from captioner.images import normalise
from captioner.invariance import CONTROL, PERTURBATIONS, SUBJECTS, Change, Direction, change, directions, names, perturb
from captioner.lexicon import PARENTS
from captioner.model.captioner import Captioner
from captioner.packs import PackReader
from captioner.records import read_manifest
from tests.learned import Learned
from tests.loading import script

invariance = script("invariance")


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture
def photo() -> bytes:
    return normalise(golden_images()["coffee.png"], "coffee.png")


def test_the_control_changes_no_pixel(photo: bytes) -> None:
    assert (pixels(perturb(photo, CONTROL)) == pixels(photo)).all()


def test_brightness_is_five_percent_and_stays_within_its_range(photo: bytes) -> None:
    before = pixels(photo).astype(float)
    middle = (before > 20) & (before < 200)
    for name, factor in (("5 % brighter", 1.05), ("5 % darker", 0.95)):
        after = pixels(perturb(photo, name)).astype(float)
        assert after[middle].mean() / before[middle].mean() == pytest.approx(factor, abs=0.005)
    white = io.BytesIO()
    Image.new("RGB", (4, 4), (255, 255, 255)).save(white, "PNG")
    assert pixels(perturb(white.getvalue(), "5 % brighter")).min() == 255


def test_the_shift_moves_every_pixel_by_two_and_repeats_the_edge(photo: bytes) -> None:
    before, after = pixels(photo), pixels(perturb(photo, "shifted by 2 pixels"))
    assert after.shape == before.shape
    assert (after[2:, 2:] == before[:-2, :-2]).all()
    assert (after[0, 2:] == before[0, :-2]).all()


def test_the_jpeg_is_one_and_close(photo: bytes) -> None:
    data = perturb(photo, "JPEG, quality 75")
    assert data.startswith(b"\xff\xd8")
    assert 0 < np.abs(pixels(data).astype(float) - pixels(photo)).mean() < 6


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_the_same_picture_gives_the_same_bytes(photo: bytes, name: str) -> None:
    assert perturb(photo, name) == perturb(photo, name)


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(BadImage, match="invariance"):
        perturb(b"nothing", CONTROL)


def test_changes_are_counted_and_weighed() -> None:
    found = change("x", ["a dog runs", "a cat", "", "a b"], ["a dog sits", "a cat", "", "b a"])
    assert found == Change("x", 4, 0.5, pytest.approx((2 / 3 + 1 + 1 + 1) / 4))


def test_a_dog_stays_a_dog_whatever_it_is_called() -> None:
    before = ["a dog runs", "two dogs play", "a man in the snow"]
    after = ["a puppy sits", "a cat plays", "a boy on the beach"]
    assert directions("x", before, after) == [
        Direction("x", "person", 1, 1.0),
        Direction("x", "dog", 2, 0.5),
        Direction("x", "snow", 1, 0.0),
    ]


def test_only_what_the_references_name_is_held_against_a_caption() -> None:
    before, after = ["a dog in the snow", "a dog"], ["a dog", "a cat"]
    references = [["a dog runs", "a puppy"], ["a cat", "a black cat"]]
    assert directions("x", before, after, references) == [Direction("x", "dog", 1, 1.0)]


def test_subjects_are_concepts_of_the_lexicon() -> None:
    for subject in SUBJECTS:
        assert subject in PARENTS or names(f"a {subject}", subject), subject


# On models


@pytest.mark.timeout(600)
def test_on_scenes_small_changes_change_little(learned: Learned) -> None:
    """A caption may change into another of the five ways to say it (JPEG did that to 60 %), the shape may not.

    Measured: at least 83 % of the words and 94 % of the shapes stay.
    """
    rows = [row for row in read_manifest(learned.paths.validated / "manifest.jsonl") if row.split == "test"][:60]
    with PackReader(learned.paths.raw) as packs:
        scenes = [normalise(packs.read(row), row.id) for row in rows]
    captioner = Captioner.load(learned.artifact, learned.paths.unpacked)
    before = [captions[0].caption for captions in captioner.caption(scenes)]
    for name in PERTURBATIONS:
        after = [captions[0].caption for captions in captioner.caption([perturb(scene, name) for scene in scenes])]
        found = change(name, before, after)
        if name == CONTROL:
            assert found == Change(CONTROL, 60, 0.0, 1.0), "equal pixels have equal captions"
        assert found.words_kept > 0.7, name
        shapes = [
            names(other, kind) for one, other in zip(before, after, strict=True) for kind in KINDS if names(one, kind)
        ]
        assert np.mean(shapes) > 0.85, name


@pytest.fixture(scope="module")
def shipped(from_git: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the model that comes with the code says, asked as a user asks it."""
    project = tmp_path_factory.mktemp("shipped") / "project"
    shutil.copytree(from_git, project)
    return invariance.captions_by("shipped", project)


Measured = tuple[list[Change], list[Direction]]


def hold(measured: Measured, photos: int) -> None:
    """Mostly the same words, and a subject that stays where it was named.

    Of a handful of photos little can be asked: one caption that changes is a sixth of them.
    """
    changes, kept = measured
    assert changes[0] == Change(CONTROL, photos, 0.0, 1.0), "equal pixels have equal captions"
    for one in changes:
        assert one.words_kept >= (0.8 if photos >= 10 else 0.5), one
    for found in kept:
        assert found.kept >= 0.9 or found.images < 10, found


@pytest.mark.timeout(600)
def test_on_photos_of_a_package(shipped: Any) -> None:
    photos = [normalise(data, name) for name, data in golden_images().items()]
    hold(invariance.measure(shipped, photos, None), len(photos))


@pytest.fixture(scope="module")
def on_flickr8k(shipped: Any, flickr8k: Path) -> Measured:
    """Measured on every tenth photo of the test split."""
    with zipfile.ZipFile(flickr8k / "Flickr8k_text.zip") as text:
        test = sorted(text.read("Flickr_8k.testImages.txt").decode().split())[::10]
        captions: dict[str, list[str]] = {}
        for line in text.read("Flickr8k.token.txt").decode().splitlines():
            key, caption = line.split("\t")
            captions.setdefault(key.split("#")[0], []).append(caption)
    with zipfile.ZipFile(flickr8k / "Flickr8k_Dataset.zip") as pictures:
        members = {Path(name).name: name for name in pictures.namelist()}
        photos = [normalise(pictures.read(members[name]), name) for name in test]
    return invariance.measure(shipped, photos, [tuple(captions[name]) for name in test])


@pytest.mark.timeout(900)
def test_on_photos_of_flickr8k_a_dog_stays_a_dog(on_flickr8k: Measured) -> None:
    hold(on_flickr8k, 100)


@pytest.mark.timeout(900)
def test_on_photos_of_flickr8k_about_two_thirds_of_the_captions_stay_word_for_word(on_flickr8k: Measured) -> None:
    for one in on_flickr8k[0]:
        assert one.changed <= 0.5, one  # measured on 200: 0.37 at most; processors round differently


@pytest.mark.timeout(600)
def test_the_script_tells_both_tables(
    learned: Learned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(learned.paths.root)
    monkeypatch.setenv("CAPTIONER_PROGRESS", "none")
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("chelsea.png", "rocket.jpg"):
        (photos / name).write_bytes(golden_images()[name])
    arguments = ["--model", str(learned.artifact), "--images", "8"]
    assert invariance.main(arguments) == 0
    page = capsys.readouterr().out
    assert f"| {CONTROL} | 8 | 0.0% | 100.0% |" in page
    assert "| still named | captions |" in page
    assert invariance.main(["--json", "--photos", str(photos), *arguments[:2]]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(one["perturbation"], one["images"]) for one in found["changes"]] == [(name, 2) for name in PERTURBATIONS]
    assert invariance.main([*arguments, "--photos", "nowhere"]) == 2
    assert "There are no pictures in nowhere." in capsys.readouterr().err
    assert invariance.main(["--model", "no-such-model", "--images", "1"]) == 2
    assert "no-such-model" in capsys.readouterr().err
