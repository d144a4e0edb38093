"""Captions from a small grammar, deterministic by seed: several of one scene differ and share words, as people's do."""

from __future__ import annotations

import random
from collections.abc import Sequence

SUBJECTS = ("man", "woman", "boy", "girl", "dog", "black dog", "brown dog", "child in a red shirt", "group of people")
PLACES = ("on the beach", "in the snow", "in front of a building", "through the grass", "on a rock", "near the water")
ACTIONS = ("is running", "jumps", "plays with a ball", "sits", "is standing", "climbs a wall", "looks at the camera")
ENDINGS = ("", "", " while others watch", " at night", ", holding its owner 's hand", " and a child 's toy")


def caption(dice: random.Random, scene: Sequence[str] | None = None) -> str:
    """One caption; with a scene it keeps to it, with another word here and there."""
    subject, action, place = scene or (dice.choice(SUBJECTS), dice.choice(ACTIONS), dice.choice(PLACES))
    if dice.random() < 0.25:
        subject = dice.choice(SUBJECTS)
    if dice.random() < 0.25:
        action = dice.choice(ACTIONS)
    text = f"{dice.choice(('A', 'The', 'A', 'One'))} {subject} {action} {place}{dice.choice(ENDINGS)}"
    return text + dice.choice((".", " .", ""))


def corpus(images: int, references: int = 5, seed: int = 0) -> tuple[list[str], list[list[str]]]:
    """One hypothesis and up to `references` references (at least two) for each image."""
    dice = random.Random(seed)
    hypotheses, all_references = [], []
    for _ in range(images):
        scene = (dice.choice(SUBJECTS), dice.choice(ACTIONS), dice.choice(PLACES))
        hypotheses.append(caption(dice, scene))
        all_references.append([caption(dice, scene) for _ in range(dice.randint(2, references))])
    return hypotheses, all_references
