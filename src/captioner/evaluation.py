"""What is measured on a test set: scores, a baseline, what a person would score, and what a score does not say.

Pure: records, features and captions in, numbers out. Knows nothing of models or files. docs/evaluation.md explains
every figure.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from captioner.digests import sha256_text
from captioner.errors import BadData
from captioner.faults import FAULTS, explain, shares
from captioner.metrics import Scores, nltk_bleu, score
from captioner.neighbours import Features, nearest
from captioner.records import ImageRecord
from captioner.slices import SliceScore
from captioner.wording import Wording, distance, histogram, wording

PROTOCOL = (
    "free decoding; text.tokenize on both sides; BLEU: nltk corpus_bleu, no smoothing, x100; "
    "CIDEr and ROUGE-L: pycocoevalcap's definition, x100"
)
SHOWN, WORST = 24, 10
"""Captions that every report quotes: so many by their index, and so many of the lowest CIDEr."""
COMPARED = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "cider", "rouge_l")
"""The scores of which the gap between two splits is told."""


@dataclass(frozen=True)
class FaultShare:
    """How often a rule of `faults` applies to the model's captions, and to a person's against the other references."""

    captions: float
    people: float


@dataclass(frozen=True)
class Quoted:
    """One caption of the report. `index` is its image's place among the sorted ids, `faults` the rules that apply."""

    index: int
    id: str
    caption: str
    cider: float
    fault: str  # the main one's name
    faults: tuple[str, ...]  # "name: the words that made it apply"
    references: tuple[str, ...]


@dataclass(frozen=True)
class EvaluateReport:
    """What evaluation found. Scores are x100; `human` is None where no image has two references."""

    candidate: str
    digest: str
    split: str
    test_set: str  # SHA-256 over the ids and references: figures of another one cannot be compared
    images: int
    without_references: int  # images of the split that could not be scored
    scores: Scores
    copied: float  # share of captions that stand word for word in the training captions
    slices: dict[str, SliceScore]
    baseline: Scores
    human: Scores | None
    dev: Scores | None  # the same artifact on dev; None where dev is what was evaluated, or has no references
    gap: dict[str, float]  # dev minus test; empty without dev
    wording: dict[str, Wording]  # of the captions, and of people's
    length_distance: float  # between the histograms of caption lengths: 0 equal, 1 disjoint
    faults: dict[str, FaultShare]
    shown: list[Quoted]  # by index, evenly spaced
    worst: list[Quoted]  # by CIDEr
    protocol: str = PROTOCOL

    def render(self) -> str:
        """The report for people."""
        columns = {"this model": self.scores, "on dev": self.dev, "nearest": self.baseline, "a person": self.human}
        told = {name: scores for name, scores in columns.items() if scores}
        said, people = self.wording["captions"], self.wording["people"]
        lines = [
            f"{self.candidate} on {self.images:,} images of {self.split}",
            f"{'':<12}" + "".join(f"{name:>12}" for name in told),
            *(f"{name:<12}" + "".join(f"{getattr(s, name):>12.1f}" for s in told.values()) for name in COMPARED),
            f"{self.scores.distinct:.0%} of the captions are distinct, {self.copied:.0%} stand in training's; "
            f"{said.mean_words:.1f} words a caption (people {people.mean_words:.1f}), "
            f"{said.repeated_trigram:.1%} repeat three words in a row (people {people.repeated_trigram:.1%})",
            "slice                    images   CIDEr  BLEU-4",
            *(f"{n:<24}{one.images:>7,}{one.cider:>8.1f}{one.bleu_4:>8.1f}" for n, one in self.slices.items()),
            "fault                    captions  people",
            *(f"{name:<24}{one.captions:>9.1%}{one.people:>8.1%}" for name, one in self.faults.items()),
            f"the {len(self.worst)} lowest CIDEr, with the main fault",
            *(f"{one.cider:>6.1f}  {one.id}: {one.caption} ({one.faults[0]})" for one in self.worst),
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class EvaluationSet:
    """A split with references, and the training images beside it; `rows` are those of the features."""

    records: tuple[ImageRecord, ...]
    rows: tuple[int, ...]
    training: tuple[ImageRecord, ...]
    training_rows: tuple[int, ...]
    without_references: int

    @property
    def references(self) -> list[tuple[str, ...]]:
        return [record.captions for record in self.records]

    @property
    def digest(self) -> str:
        """SHA-256 over the ids, sorted, each with its references in their order."""
        rows = sorted([record.id, list(record.captions)] for record in self.records)
        return sha256_text(json.dumps(rows, ensure_ascii=False, separators=(",", ":")))


def select(manifest: Sequence[ImageRecord], feature_ids: Sequence[str], split: str) -> EvaluationSet:
    """The images of `split` that have references. Raises BadData when there are none, or when
    the features are of other images."""
    if tuple(record.id for record in manifest) != tuple(feature_ids):
        raise BadData("data/features does not belong to data/validated: run the features stage again.")
    rows = [row for row, record in enumerate(manifest) if record.split == split]
    if not rows:
        raise BadData(f"The split {split!r} has no images to evaluate: choose another one in evaluate.split.")
    scored = [row for row in rows if manifest[row].captions]
    if not scored:
        raise BadData(f"None of the {len(rows)} images in the split {split!r} has a caption to be scored against.")
    training = [row for row, record in enumerate(manifest) if record.split == "train" and record.captions]
    return EvaluationSet(
        records=tuple(manifest[row] for row in scored),
        rows=tuple(scored),
        training=tuple(manifest[row] for row in training),
        training_rows=tuple(training),
        without_references=len(rows) - len(scored),
    )


def as_nltk_says(scores: Scores, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Scores:
    """`scores` with BLEU from nltk itself, for the figures that are quoted."""
    one, two, three, four = nltk_bleu(hypotheses, references)
    return replace(scores, bleu_1=one, bleu_2=two, bleu_3=three, bleu_4=four)


def nearest_training(features: Features, test: EvaluationSet) -> list[int]:
    """For each image of the test set, the number in `test.training` of the one that looks most alike."""
    place = {row: number for number, row in enumerate(test.training_rows)}
    return [place[int(row)] for row in nearest(features, test.rows, test.training_rows)]


def one_person(references: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """One caption of each image, the first, second, … in turn, and the image's others; images with one are left out."""
    several = [of_image for of_image in references if len(of_image) > 1]
    chosen = [number % len(of_image) for number, of_image in enumerate(several)]
    said = [of_image[which] for of_image, which in zip(several, chosen, strict=True)]
    others = [[*of_image[:which], *of_image[which + 1 :]] for of_image, which in zip(several, chosen, strict=True)]
    return said, others


def human_scores(references: Sequence[Sequence[str]]) -> Scores | None:
    """`one_person`'s captions against the image's others; None when no image has two."""
    said, others = one_person(references)
    return score(said, others) if said else None


def gap(dev: Scores | None, test: Scores) -> dict[str, float]:
    """What dev scores above test, by score; empty without dev."""
    return {name: getattr(dev, name) - getattr(test, name) for name in COMPARED} if dev else {}


def wordings(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[dict[str, Wording], float]:
    """The wording of the captions and of all references, and the distance between their lengths."""
    all_of_them = [caption for of_image in references for caption in of_image]
    one_each = [of_image[number % len(of_image)] for number, of_image in enumerate(references)]
    found = {"captions": wording(hypotheses), "people": wording(all_of_them, one_each)}
    return found, distance(histogram(hypotheses), histogram(all_of_them))


def fault_shares(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, FaultShare]:
    """How often each rule applies, and how often it blames a person: the rate of its false alarms."""
    said, others = one_person(references)
    model, people = shares(hypotheses, references), shares(said, others) if said else dict.fromkeys(FAULTS, 0.0)
    return {name: FaultShare(model[name], people[name]) for name in FAULTS}


def fixed_indices(images: int, count: int = SHOWN) -> list[int]:
    """`count` places, evenly spaced from the first on; all of them where there are no more. Only the number decides."""
    return [place * images // count for place in range(count)] if images > count else list(range(images))


def quote(
    hypotheses: Sequence[str], cider: npt.NDArray[np.float64], records: Sequence[ImageRecord], places: Sequence[int]
) -> list[Quoted]:
    """The captions at `places`, each with what is wrong with it. The index is that among the sorted ids."""
    order = {record: index for index, record in enumerate(sorted(one.id for one in records))}
    found = []
    for place in places:
        record, caption = records[place], hypotheses[place]
        faults = explain(caption, record.captions)
        told = tuple(f"{fault.kind}: {fault.text}" if fault.text else fault.kind for fault in faults)
        found.append(
            Quoted(
                index=order[record.id],
                id=record.id,
                caption=caption,
                cider=float(cider[place]),
                fault=faults[0].kind,
                faults=told,
                references=record.captions,
            )
        )
    return found


def by_index(records: Sequence[ImageRecord]) -> list[int]:
    """The places of the SHOWN images: evenly spaced over the sorted ids."""
    ranked = sorted(range(len(records)), key=lambda place: records[place].id)
    return [ranked[index] for index in fixed_indices(len(records))]


def by_score(cider: npt.NDArray[np.float64], records: Sequence[ImageRecord]) -> list[int]:
    """The places of the WORST captions, the lowest CIDEr first; of equal ones by id."""
    ranked = sorted(range(len(records)), key=lambda place: (float(cider[place]), records[place].id))
    return ranked[:WORST]
