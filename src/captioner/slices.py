"""Slices of a test set: the parts that a mean over everything hides.

Every image is put into slices by what is known of it without any model: how long its references are, whether they speak
of people or animals, how bright the picture is, and each tag of its manifest row. The limits are fixed, so that a slice
means the same for every model and dataset. Knows nothing of models or files.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from captioner.errors import BadImage
from captioner.metrics import bleu_from_statistics
from captioner.text import tokenize

SHORT_BELOW, LONG_FROM = 9.5, 12.0
"""Mean tokens of an image's references; on Flickr8k about a quarter each lies outside."""

DARK_BELOW, BRIGHT_FROM = 95.0, 135.0
"""Mean luminance, 0 to 255; on Flickr8k about a quarter each lies outside."""

_SIDE = 64  # pixels: a mean needs no more

_PEOPLE = """
adult adults artist athlete audience babies baby bicyclist biker bikers boy boys bride brother cheerleader
cheerleaders child children climber climbers clown coach couple cowboy crowd cyclist cyclists dancer dancers
daughter diver driver families family father female females fisherman friend friends gentleman girl girls goalie
groom guy guys hiker hikers human infant jockey kayaker kid kids ladies lady male males man men mom mother
motorcyclist musician musicians officer pedestrian pedestrians people performer performers person photographer
player players policeman racer racers referee rider riders runner runners singer skateboarder skateboarders
skater skier skiers snowboarder snowboarders soldier soldiers someone spectators student students surfer surfers
swimmer swimmers teenager teenagers toddler toddlers woman women worker workers wrestler wrestlers
"""
PEOPLE = frozenset(_PEOPLE.split())
_ANIMALS = """
animal animals beagle bear bears bird birds bull camel camels cat cats chicken collie cow cows dalmatian deer
doberman dog dogs duck ducks elephant elephants geese goat goats goose greyhound greyhounds horse horses husky
kitten labrador lion monkey pigeon pigeons pony poodle poodles pug puppies puppy rabbit retriever rottweiler
seagull seagulls sheep swan terrier tiger zebra
"""
ANIMALS = frozenset(_ANIMALS.split())


@dataclass(frozen=True)
class SliceScore:
    """Scores of one slice, x100. CIDEr is the mean over its images, weighed by the whole set's document frequencies."""

    images: int
    cider: float
    bleu_4: float


def slices_of(references: Sequence[str], tags: Mapping[str, str], luminance: float) -> list[str]:
    """The names of the slices that an image is in, such as ``length/short``. One may be of people and of animals."""
    return [
        f"length/{length_of(references)}",
        *(f"subject/{subject}" for subject in subjects_of(references)),
        f"light/{light_of(luminance)}",
        *(f"{name}/{value}" for name, value in sorted(tags.items())),
    ]


def length_of(references: Sequence[str]) -> str:
    """short, medium or long, by the mean tokens of the references."""
    mean = sum(len(tokenize(caption)) for caption in references) / len(references)
    return "short" if mean < SHORT_BELOW else "long" if mean >= LONG_FROM else "medium"


def subjects_of(references: Sequence[str]) -> list[str]:
    """people, animals, both, or other: what at least half of the references speak of."""
    words = [set(tokenize(caption)) for caption in references]
    found = [
        name
        for name, nouns in (("people", PEOPLE), ("animals", ANIMALS))
        if 2 * sum(not nouns.isdisjoint(said) for said in words) >= len(words)
    ]
    return found or ["other"]


def light_of(luminance: float) -> str:
    """dark, medium or bright."""
    return "dark" if luminance < DARK_BELOW else "bright" if luminance >= BRIGHT_FROM else "medium"


def luminance_of(data: bytes) -> float:
    """The mean luminance (ITU-R 601, 0 to 255) of a JPEG or PNG that went through images.normalise. Raises BadImage."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.draft("L", (_SIDE, _SIDE))
            return float(np.asarray(image.convert("L"), np.float64).mean())
    except (OSError, ValueError) as error:
        raise BadImage(f"A picture's brightness cannot be measured: {error}.") from None


def score_slices(
    members: Iterable[Sequence[str]], cider: npt.NDArray[np.float64], statistics: npt.NDArray[np.float64]
) -> dict[str, SliceScore]:
    """Scores by slice, sorted by name. `members` names each image's slices; `cider` [images] and `statistics`
    [images, 10] are those of the whole set, in the same order."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, names in enumerate(members):
        for name in names:
            rows[name].append(row)
    return {
        name: SliceScore(
            images=len(chosen),
            cider=float(cider[chosen].mean()),
            bleu_4=float(bleu_from_statistics(statistics[chosen].sum(axis=0))),
        )
        for name, chosen in sorted(rows.items())
    }
