"""The sample dataset: rendered scenes with five true, differently built captions each.

Some combinations of kind, colour and relation are kept out of training and dev; the pictures in test that show one
carry the tag ``combination: unseen``, so that evaluation can report them apart. No two pictures show the same scene.
Deterministic by seed. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Iterator

from captioner.datasets.dataset import Dataset, Item
from captioner.datasets.scenes import (
    COLOURS,
    COUNTS,
    KINDS,
    OPPOSITE,
    PLACES,
    RELATIONS,
    SIZES,
    Dice,
    Group,
    Scene,
    draw,
)
from captioner.errors import BadParams
from captioner.params import SampleParams
from captioner.records import Split

CAPTIONS = 5
MAX_IMAGES = 5000
"""There are about 8,000 different scenes; well below that number, new ones are found at once."""

_DEV_SHARE = _TEST_SHARE = 0.15
_UNSEEN_SHARE = 0.3  # of test
_HELD_OUT_SHARE = 0.08  # of all combinations

Combination = tuple[str, str, str]
# Averaged features hardly tell left from right, so that a network without attention can only guess: not too often.
_OFTEN_PLACES = (*PLACES, "top", "bottom", "middle")
_OFTEN_RELATIONS = (*RELATIONS, "above", "below")

_NUMBERS = {1: "a", 2: "two", 3: "three"}
_SIDES = {
    "left of": ("left", "right"),
    "right of": ("right", "left"),
    "above": ("top", "bottom"),
    "below": ("bottom", "top"),
}
_PREPOSITIONS = {"left of": "to the left of", "right of": "to the right of", "above": "above", "below": "below"}
_AT = {
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
    "middle": "in the middle",
}


def open_sample(params: SampleParams) -> Dataset:
    """`params.images` scenes, about 70 % of them for training, 15 % each for dev and test.

    Raises BadParams when that is more than there are different scenes for.
    """
    if params.images > MAX_IMAGES:
        raise BadParams(
            f"acquire.sample.images is {params.images:,}; different scenes can be found for {MAX_IMAGES:,} at most."
        )
    plan = _plan(params)
    trained = frozenset(c for split, scene in plan if split == "train" for c in scene.combinations())
    unseen = {c for split, scene in plan if split == "test" for c in scene.combinations() - trained}
    return Dataset(total=len(plan), items=_items(params, plan, trained), facts={"unseen_combinations": len(unseen)})


def _items(params: SampleParams, plan: list[tuple[Split, Scene]], trained: frozenset[Combination]) -> Iterator[Item]:
    for index, (split, scene) in enumerate(plan):
        dice = Dice(f"{params.seed}/picture/{index}")
        known = scene.combinations() <= trained
        tags = {"combination": "seen" if known else "unseen", "groups": "one" if scene.second is None else "two"}
        yield Item(f"scene-{index:05d}.jpg", draw(scene, params.size, dice), split, captions(scene, dice), tags)


def _plan(params: SampleParams) -> list[tuple[Split, Scene]]:
    """A scene and a split for every picture. Held-out combinations occur in test only."""
    dice = Dice(f"{params.seed}/plan")
    everything = [(k, c, r) for k in KINDS for c in COLOURS for r in (*PLACES, *RELATIONS)]
    held_out = set(dice.order(everything)[: round(len(everything) * _HELD_OUT_SHARE)])
    dev = test = round(params.images * _DEV_SHARE)
    unseen = round(test * _UNSEEN_SHARE)
    roles = ["train"] * (params.images - dev - test) + ["dev"] * dev + ["test"] * (test - unseen) + ["unseen"] * unseen
    plan: list[tuple[Split, Scene]] = []
    taken: set[Scene] = set()
    for role in dice.order(roles):
        scene = _new_scene(dice, held_out, role == "unseen", taken)
        taken.add(scene.canonical())
        plan.append(("dev" if role == "dev" else "train" if role == "train" else "test", scene))
    return plan


def _new_scene(dice: Dice, held_out: set[Combination], unseen: bool, taken: set[Scene]) -> Scene:
    """A scene that no other picture shows, with a held-out combination or without one."""
    while True:
        scene = _any_scene(dice)
        if scene.canonical() not in taken and bool(scene.combinations() & held_out) == unseen:
            return scene


def _any_scene(dice: Dice) -> Scene:
    colours, kinds = dice.order(list(COLOURS)), dice.order(KINDS)
    first = Group(dice.pick(COUNTS), dice.pick(SIZES), colours[0], kinds[0])
    if dice.between(0, 1) < 0.5:
        return Scene(first, dice.pick(_OFTEN_PLACES))
    first = Group(min(first.count, 2), "", first.colour, first.kind)
    second = Group(dice.pick(COUNTS[:2]), "", colours[1], kinds[1])
    return Scene(first, dice.pick(_OFTEN_RELATIONS), second)


def captions(scene: Scene, dice: Dice) -> tuple[str, ...]:
    """Five captions of `scene`, all true, each with the same facts in another order or form."""
    return tuple(dice.order(_two_groups(scene) if scene.second else _one_group(scene))[:CAPTIONS])


def _one_group(scene: Scene) -> list[str]:
    group, at = _noun_phrase(scene.first), _AT[scene.where]
    verb = "is" if scene.first.count == 1 else "are"
    return [
        f"{group} {at} of the picture",
        f"{group} {verb} {at} of the picture",
        f"there {verb} {group} {at} of the picture",
        f"the picture shows {group} {at}",
        f"{at} of the picture there {verb} {group}",
        f"{group} and nothing else {at}",
    ]


def _two_groups(scene: Scene) -> list[str]:
    """Mostly told from the group that is left or above; the templates vary which group comes first."""
    scene = scene.canonical()
    assert scene.second is not None
    one, other = _noun_phrase(scene.first), _noun_phrase(scene.second)
    here, there = (_AT[side] for side in _SIDES[scene.where])
    to, back = _PREPOSITIONS[scene.where], _PREPOSITIONS[OPPOSITE[scene.where]]
    verb = "is" if scene.first.count == 1 else "are"
    return [
        f"{one} {to} {other}",
        f"{one} {verb} {to} {other}",
        f"there {verb} {one} {to} {other}",
        f"the picture shows {one} {to} {other}",
        f"{one} {here} and {other} {there}",
        f"{other} {back} {one}",
    ]


def _noun_phrase(group: Group) -> str:
    noun = group.kind if group.count == 1 else {"cross": "crosses"}.get(group.kind, f"{group.kind}s")
    return " ".join(filter(None, (_NUMBERS[group.count], group.size, group.colour, noun)))
