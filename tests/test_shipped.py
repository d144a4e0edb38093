"""A shipped model on disk: whole or refused, rebuilt once, and held against what the evaluated one said."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from captioner.digests import sha256_file
from captioner.errors import BadData
from captioner.model.captioner import Captioner
from captioner.paths import Paths
from captioner.records import read_json, write_json
from captioner.shipped import FILES, read_shipped, rebuild, repeats, shipped_candidate


@pytest.fixture
def own(shipped_project: Path, tmp_path: Path) -> Paths:
    """A project with nothing but the shipped model in it."""
    shutil.copytree(shipped_project / "models" / "shipped", tmp_path / "clone" / "models" / "shipped")
    return Paths(tmp_path / "clone", tmp_path / "clone" / ".captioner")


@pytest.fixture
def again(rebuilt: Path) -> Path:
    """Its artifact, rebuilt for the tests that only read it."""
    (packed,) = rebuilt.glob("*/model.tar.gz")
    return packed


def test_it_says_what_it_is(own: Paths) -> None:
    shipped = read_shipped(own.shipped)
    assert shipped.candidate == "attention"
    assert shipped.title.startswith("attention on flickr8k, CIDEr ")
    assert shipped.title.endswith(" on its test split")


def test_what_is_rebuilt_is_what_was_evaluated_byte_for_byte(own: Paths, shipped_project: Path, rebuilt: Path) -> None:
    shipped, said = read_shipped(own.shipped), []
    shutil.copytree(rebuilt, own.rebuilt)
    (there,) = own.rebuilt.glob("*/model.tar.gz")
    written = there.stat().st_mtime_ns
    packed = rebuild(shipped, own, threads=1, say=said.append)
    evaluated = Paths(shipped_project, own.home).exported("attention") / "model.tar.gz"
    assert sha256_file(packed) == shipped.digest == sha256_file(evaluated)
    assert (packed, packed.stat().st_mtime_ns) == (there, written)
    assert not said  # what is there already is not worth a word


def test_another_model_is_not_taken_for_this_one(own: Paths, rebuilt: Path) -> None:
    shutil.copytree(rebuilt, own.rebuilt)
    card, said = read_json(own.shipped / "card.json"), []
    shipped = read_shipped(own.shipped)
    write_json(own.shipped / "card.json", {**card, "export": {**card["export"], "beam": 2, "top": 2}})
    first, second = (rebuild(one, own, threads=1, say=said.append) for one in (shipped, read_shipped(own.shipped)))
    assert first != second
    assert len(said) == 1  # only the second was not there
    assert Captioner.card_of(second)["beam"] == 2


def test_the_model_in_git_still_says_what_it_said(from_git: Path, tmp_path: Path) -> None:
    """Whatever has changed in the code since: a photo gets the caption that the evaluated artifact gave."""
    paths = Paths(from_git, from_git / ".captioner")
    shipped = read_shipped(paths.shipped)
    assert repeats(Captioner.load(rebuild(shipped, paths, threads=1), tmp_path), shipped.card["golden"])


def test_without_one_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        BadData, match=r"no shipped model in .*: restore it \(git checkout -- models/shipped\), or train"
    ):
        read_shipped(tmp_path / "models" / "shipped")


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_not_the_cards_are_refused(own: Paths, name: str) -> None:
    (own.shipped / name).write_bytes(b"another")
    with pytest.raises(BadData, match=rf"{name} is not the file that card.json names: restore it"):
        read_shipped(own.shipped)
    (own.shipped / name).unlink()
    with pytest.raises(BadData, match=rf"{name} is not the file that card.json names"):
        read_shipped(own.shipped)


@pytest.mark.parametrize(
    ("card", "says"),
    [
        ({"format": 99}, "is of format 99, this captioner reads 1"),
        ({"format": 1}, "is not the card of a model"),
        ([], "is not the card of a model"),
    ],
)
def test_a_card_that_is_none_is_refused(own: Paths, card: object, says: str) -> None:
    write_json(own.shipped / "card.json", card)
    with pytest.raises(BadData, match=says):
        read_shipped(own.shipped)


def test_the_evaluated_artifact_keeps_its_parity(own: Paths, again: Path) -> None:
    shipped = read_shipped(own.shipped)
    found = shipped_candidate(shipped, again)
    assert found.name == "shipped"
    assert found.digest == shipped.digest
    assert found.export["parity"] == shipped.card["reports"]["export"]["parity"]
    assert found.predictions == own.shipped / "predictions.jsonl"


def test_an_artifact_of_another_digest_has_to_say_the_same(own: Paths, again: Path) -> None:
    card = read_json(own.shipped / "card.json")
    other = {**card, "artifact": {**card["artifact"], "digest": "0" * 64}}
    write_json(own.shipped / "card.json", other)
    found = shipped_candidate(read_shipped(own.shipped), again)
    assert found.digest == sha256_file(again)
    assert found.export["parity"] == {"golden_images_equal": True}

    golden = {name: {**said, "caption": "a yellow car"} for name, said in card["golden"].items()}
    write_json(own.shipped / "card.json", {**other, "golden": golden})
    assert shipped_candidate(read_shipped(own.shipped), again).export["parity"] == {"golden_images_equal": False}


def test_the_same_words_with_another_probability_are_not_the_same(own: Paths, again: Path) -> None:
    model, golden = Captioner.load(again), read_json(own.shipped / "card.json")["golden"]
    assert repeats(model, golden)
    first = next(iter(golden))
    off = golden[first]["log_probability"] + 0.1
    assert not repeats(model, {**golden, first: {**golden[first], "log_probability": off}})
