"""Folders are walked in order and while they are read; bad sources are one sentence."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from captioner.errors import BadInput
from captioner.inputs import SUFFIXES, expand, read_image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    names = ("b/2.JPG", "b/10.png", "a.jpg", "b.png", "a/deep/er/x.webp", "a/notes.txt", "Z.tiff", "b/empty/readme.md")
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"x")
    return tmp_path / "in"


def test_a_folder_gives_its_images_sorted_by_their_paths_parts(folder: Path) -> None:
    expected = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    assert list(expand([str(folder)])) == [str(path) for path in expected]
    assert len(expected) == 6


def test_sources_keep_their_order(folder: Path) -> None:
    found = list(expand(["https://host/x.png", str(folder / "b"), "nowhere.jpg"]))
    assert found == ["https://host/x.png", str(folder / "b" / "10.png"), str(folder / "b" / "2.JPG"), "nowhere.jpg"]


def test_a_folder_is_walked_while_its_images_are_taken(folder: Path) -> None:
    names = expand([str(folder)])
    assert len(list(itertools.islice(names, 3))) == 3
    (folder / "b" / "3.png").write_bytes(b"x")  # not looked into yet
    assert str(folder / "b" / "3.png") in list(names)


def test_links_to_folders_are_not_followed_and_links_to_images_are(folder: Path) -> None:
    before = len(list(expand([str(folder)])))
    os.symlink(folder, folder / "ring")
    os.symlink(folder / "a.jpg", folder / "link.jpg")
    assert len(list(expand([str(folder)]))) == before + 1


def test_an_empty_folder_is_refused_before_anything_else(folder: Path) -> None:
    with pytest.raises(BadInput, match=r"no images in .*empty \(looked for \.bmp, "):
        expand([str(folder), str(folder / "b" / "empty")])


def test_what_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"There is no file .*x\.jpg"):
        read_image(str(tmp_path / "x.jpg"))
    with pytest.raises(BadInput, match="cannot be read: Is a directory"):
        read_image(str(tmp_path))
