"""The artifact: packed, loaded, asked in every way, and the same each time."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioner.digests import sha256_file
from captioner.errors import BadData, BadImage, BadInput
from captioner.golden import golden_images
from captioner.images import normalise
from captioner.model.captioner import CARD, Captioner, unpack
from captioner.text import detokenize


@pytest.fixture(scope="module")
def captioner(tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Captioner:
    return Captioner.load(tiny_artifact, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def photos() -> list[bytes]:
    return [normalise(data, name) for name, data in golden_images().items()]


def test_an_image_gets_captions_best_first(captioner: Captioner, photos: list[bytes]) -> None:
    answers = captioner.caption(photos)
    assert len(answers) == len(photos) == 6
    for captions in answers:
        assert len(captions) == 3
        assert all(c.log_probability < 0 for c in captions)
        assert all("<" not in c.caption and "  " not in c.caption for c in captions)


def test_the_images_around_it_change_nothing(captioner: Captioner, photos: list[bytes]) -> None:
    together = captioner.caption(photos)
    for photo, among in zip(photos, together, strict=True):
        (alone,) = captioner.caption([photo])
        assert [c.caption for c in alone] == [c.caption for c in among]
        np.testing.assert_allclose([c.log_probability for c in alone], [c.log_probability for c in among], atol=1e-4)


def test_the_width_of_the_beam_is_the_callers_to_choose(captioner: Captioner, photos: list[bytes]) -> None:
    (wide,) = captioner.caption(photos[:1], beam=8, top=8)
    (usual,) = captioner.caption(photos[:1])
    (same,) = captioner.caption(photos[:1], beam=3, top=2)
    assert len({c.caption for c in wide}) == 8
    assert same == usual[:2]
    (greedy,) = captioner.caption(photos[:1], beam=1)
    assert len(greedy) == 1


@pytest.mark.parametrize(
    ("beam", "top", "says"), [(0, None, "beam of 0"), (50, None, "beam of 50"), (2, 3, "3 captions")]
)
def test_an_impossible_beam_is_refused(captioner: Captioner, photos: list[bytes], beam, top, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        captioner.caption(photos[:1], beam=beam, top=top)


def test_no_images_no_captions(captioner: Captioner) -> None:
    assert captioner.caption([]) == []


def test_bytes_that_are_no_image_are_refused(captioner: Captioner) -> None:
    with pytest.raises(BadImage, match="cannot be decoded"):
        captioner.caption([b"not an image"])


def test_features_of_another_shape_are_refused(captioner: Captioner) -> None:
    with pytest.raises(BadData, match="do not fit"):
        captioner.caption_features(np.zeros((1, 4, 6), np.float16))


def test_the_card_says_what_it_was_made_of(captioner: Captioner, tiny_artifact: Path) -> None:
    assert captioner.digest == sha256_file(tiny_artifact)
    assert captioner.card["features"]["encoder"] == "efficientnet-lite0"
    assert captioner.card["beam"] == captioner.card["top"] == 3
    assert len(captioner.card["weights_digest"]) == 64


def test_another_network_is_another_artifact(tiny_artifact: Path, tiny_merge: Path) -> None:
    assert sha256_file(tiny_merge) != sha256_file(tiny_artifact)


def test_the_archive_has_sagemakers_layout_and_no_pickle(tiny_artifact: Path) -> None:
    with tarfile.open(tiny_artifact) as archive:
        members = archive.getmembers()
    names = [m.name for m in members]
    assert {"1/saved_model.pb", "1/variables/variables.index", CARD} <= set(names)
    assert names == sorted(names)
    assert {(m.mtime, m.uid, m.uname) for m in members} == {(0, 0, "")}
    assert not [n for n in names if n.endswith((".pkl", ".pickle", "fingerprint.pb"))]


def test_an_archive_cut_short_is_refused(tiny_artifact: Path, tmp_path: Path) -> None:
    short = tmp_path / "model.tar.gz"
    short.write_bytes(tiny_artifact.read_bytes()[:100_000])
    with pytest.raises(BadData, match="not a whole model archive"):
        Captioner.load(short, tmp_path / "cache")
    assert not [p for p in (tmp_path / "cache").iterdir() if not p.name.startswith(".")]


@pytest.mark.parametrize("filters", [True, False])
@pytest.mark.parametrize(("name", "kind"), [("../outside", b"0"), ("/outside", b"0"), ("link", b"2")])
def test_an_archive_that_climbs_out_is_refused(
    name: str, kind: bytes, filters: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Pythons before 3.11.4 as well, whose tarfile knows no filters."""
    if not filters:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    evil = tmp_path / "model.tar.gz"
    with tarfile.open(evil, "w:gz") as archive:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, "/etc/passwd" if kind == b"2" else ""
        entry.size = 4 if kind == b"0" else 0
        archive.addfile(entry, io.BytesIO(b"evil"))
    with pytest.raises(BadData, match="which is not a plain file inside it"):
        unpack(evil, tmp_path / "cache" / "model")
    assert not (tmp_path / "outside").exists()
    assert not list((tmp_path / "cache").iterdir())


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="does not hold a captioner model"):
        Captioner.load(tmp_path)


def test_a_one_pixel_image_is_captioned(captioner: Captioner) -> None:
    pixel = io.BytesIO()
    Image.new("RGB", (1, 1), (200, 30, 30)).save(pixel, "PNG")
    assert captioner.caption([pixel.getvalue()])[0]


def test_it_tells_where_it_looked_for_each_word_of_what_it_says(captioner: Captioner, photos: list[bytes]) -> None:
    for beam in (None, 1, 5):
        found = captioner.explain(photos[0], beam)
        assert found.caption == captioner.caption(photos[:1], beam)[0][0].caption
        assert detokenize(list(found.words)) == found.caption
        assert found.attention.shape == (len(found.words), captioner.card["features"]["cells"])
        np.testing.assert_allclose(found.attention.sum(axis=1) + found.sentinel, 1.0, atol=1e-5)


def test_a_model_that_cannot_tell_says_why(
    tiny_merge: Path, tmp_path: Path, photos: list[bytes], captioner: Captioner
) -> None:
    merge = Captioner.load(tiny_merge, tmp_path)
    with pytest.raises(BadInput, match=r"network \(merge\) does not look at parts of the picture"):
        merge.explain(photos[0])
    assert merge.card["explains"] is False
    del merge.card["explains"]  # as in artifacts that were exported before
    with pytest.raises(BadInput, match="exported before there was --explain"):
        merge.explain(photos[0])
    with pytest.raises(BadImage, match="cannot be decoded"):
        captioner.explain(b"not an image")


def test_the_card_is_read_without_loading_the_model(captioner: Captioner, tiny_artifact: Path, tmp_path: Path) -> None:
    assert Captioner.card_of(tiny_artifact) == captioner.card
    (tmp_path / "model.tar.gz").write_bytes(b"no archive")
    with pytest.raises(BadData, match="not a whole model archive"):
        Captioner.card_of(tmp_path / "model.tar.gz")
