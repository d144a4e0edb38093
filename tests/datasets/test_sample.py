"""The rendered scenes: the same by seed, all different, true captions, honest splits."""

from __future__ import annotations

import hashlib
import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from captioner.datasets.dataset import Item
from captioner.datasets.sample import MAX_IMAGES, captions, open_sample
from captioner.datasets.scenes import COLOURS, KINDS, OPPOSITE, RELATIONS, Dice, Group, Scene, draw
from captioner.errors import BadParams
from captioner.images import inspect, normalise
from captioner.params import SampleParams
from captioner.text import tokenize

GOLDEN = "b513ab63a30a1a8a21f8822862dbb873263ec2c5cd6d0c9a17813c5cc6d311d7"
PARAMS = SampleParams(images=600, size=64, seed=7)


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return list(open_sample(PARAMS).items)


def test_the_same_seed_gives_the_same_bytes(items: list[Item]) -> None:
    assert list(open_sample(PARAMS).items) == items


def test_another_seed_gives_other_scenes(items: list[Item]) -> None:
    other = list(open_sample(PARAMS.model_copy(update={"seed": 8})).items)
    assert len({item.data for item in items} & {item.data for item in other}) == 0


def test_as_many_as_asked_for_sorted_by_id(items: list[Item]) -> None:
    assert len(items) == open_sample(PARAMS).total == PARAMS.images
    assert [item.id for item in items] == sorted({item.id for item in items})


def test_splits_have_their_shares(items: list[Item]) -> None:
    assert Counter(item.split for item in items) == {"train": 420, "dev": 90, "test": 90}


def test_pictures_pass_through_untouched_and_have_their_size(items: list[Item]) -> None:
    for item in items[:50]:
        assert normalise(item.data) is item.data
        assert (inspect(item.data).width, inspect(item.data).height) == (64, 64)


def test_no_two_pictures_and_no_two_scenes_are_the_same(items: list[Item]) -> None:
    assert len({hashlib.sha256(item.data).digest() for item in items}) == len(items)
    told = [frozenset(item.captions) for item in items]
    assert len(set(told)) == len(items)


def test_five_captions_each_all_different(items: list[Item]) -> None:
    for item in items:
        assert len({tuple(tokenize(caption)) for caption in item.captions}) == 5


def test_every_word_of_the_family_is_seen_in_training(items: list[Item]) -> None:
    words: dict[str, set[str]] = {"train": set(), "dev": set(), "test": set()}
    for item in items:
        words[item.split].update(word for caption in item.captions for word in tokenize(caption))
    assert words["test"] | words["dev"] <= words["train"]
    assert {*KINDS, *COLOURS} <= words["train"]


def test_unseen_means_never_seen_in_training() -> None:
    """Told by the captions alone: what is tagged unseen has a kind, colour and relation that never meet in training."""
    dataset = open_sample(SampleParams(images=900, size=64, seed=7))
    items = list(dataset.items)
    trained = set().union(*(facts(item) for item in items if item.split == "train"))
    unseen = [item for item in items if item.tags["combination"] == "unseen" and item.split == "test"]
    assert len(unseen) >= 30
    for item in items:
        if item.split == "test":
            assert (item.tags["combination"] == "unseen") == bool(facts(item) - trained), item.captions
    assert dataset.facts["unseen_combinations"] == len(set().union(*map(facts, unseen)) - trained)


SINGULAR = {"crosses": "cross"} | {f"{kind}s": kind for kind in KINDS}
TELLING = ("left", "right", "above", "below")


def facts(item: Item) -> set[tuple[str, str, str]]:
    """(kind, colour, place or relation) of each group, read from one of the captions."""
    caption = max(item.captions, key=lambda text: (" and " not in text, text))
    words = [SINGULAR.get(word, word) for word in tokenize(caption)]
    groups = [(word, words[i - 1]) for i, word in enumerate(words) if word in KINDS]
    if len(groups) == 1:
        place = next(place for place in ("left", "right", "top", "bottom", "middle") if place in words)
        return {(*groups[0], place)}
    relation = next(f"{word} of" if f"{word} of" in OPPOSITE else word for word in words if word in TELLING)
    return {(*groups[0], relation), (*groups[1], OPPOSITE[relation])}


@pytest.mark.parametrize("relation", RELATIONS)
def test_captions_are_true(relation: str) -> None:
    """The centre of each colour in the picture lies where every caption says."""
    scene = Scene(Group(2, "", "red", "circle"), relation, Group(1, "", "blue", "square"))
    for roll in range(5):
        dice = Dice(f"{relation}/{roll}")
        red, blue = centres(draw(scene, 128, dice))
        across, down = blue[0] - red[0], blue[1] - red[1]
        assert {"left of": across, "right of": -across, "above": down, "below": -down}[relation] > 25
        assert abs(down if "of" in relation else across) < 25
        for caption in captions(scene, dice):
            assert ("two red circles" in caption, "a blue square" in caption) == (True, True)
            first = "red" if caption.index("red") < caption.index("blue") else "blue"
            told = relation if first == "red" else OPPOSITE[relation]
            words = {
                "left of": ["left"],
                "right of": ["right"],
                "above": ["above", "top"],
                "below": ["below", "bottom"],
            }
            assert any(word in caption for word in words[told]), caption


@pytest.mark.parametrize(
    ("place", "where"),
    [("left", (32, 64)), ("right", (96, 64)), ("top", (64, 32)), ("bottom", (64, 96)), ("middle", (64, 64))],
)
def test_a_place_is_where_it_says(place: str, where: tuple[int, int]) -> None:
    for roll in range(5):
        red, _ = centres(draw(Scene(Group(1, "small", "red", "star"), place), 128, Dice(f"{place}/{roll}")))
        assert np.abs(red - where).max() <= 20


def centres(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """(x, y) of the middle of what is red, and of what is blue (zeros: nothing is)."""
    red, green, blue = channels(data)
    masks = ((red > 150) & (green < 90) & (blue < 90), (blue > 150) & (red < 90))
    one, other = (np.argwhere(mask).mean(0)[::-1] if mask.any() else np.zeros(2) for mask in masks)
    return one, other


def channels(data: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    red, green, blue = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int).transpose(2, 0, 1)
    return red, green, blue


@pytest.mark.parametrize("kind", KINDS)
def test_every_shape_of_a_group_is_drawn_apart(kind: str) -> None:
    """As many separate red patches as the caption says."""
    for count, size in ((1, "large"), (2, "large"), (3, "small"), (3, "large")):
        for place in ("left", "top", "middle"):
            data = draw(Scene(Group(count, size, "red", kind), place), 128, Dice(f"{kind}{count}{place}"))
            assert patches(data) == count, (count, size, place)


def patches(data: bytes) -> int:
    """Connected red patches of more than a few pixels."""
    from skimage.measure import label

    red, green, blue = channels(data)
    marks = label((red > 140) & (green < 110) & (blue < 110), connectivity=1)
    return sum(int((marks == mark).sum()) > 10 for mark in range(1, int(marks.max()) + 1))


def test_drawing_does_not_change_unnoticed() -> None:
    """Scores and cached features hang on these bytes. Where a new Pillow changes them, the digest changes too."""
    shapes = [Scene(Group(2, "large", "red", kind), "top") for kind in KINDS]
    data = b"".join(draw(scene, 64, Dice(scene.first.kind)) for scene in shapes)
    assert hashlib.sha256(data).hexdigest() == GOLDEN


def test_as_many_scenes_as_are_promised_can_be_found() -> None:
    """The search for new scenes ends, also where the simple ones have run out; beyond that it is not begun."""
    params = SampleParams(images=MAX_IMAGES, size=64, seed=1)
    assert open_sample(params).total == MAX_IMAGES
    with pytest.raises(BadParams, match=r"is 5,001; different scenes can be found for 5,000 at most"):
        open_sample(params.model_copy(update={"images": MAX_IMAGES + 1}))
