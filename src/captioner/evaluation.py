"""What is measured on a test set: scores, a baseline, what a person would score, and how much was copied.

Pure: records, features and captions in, numbers out. Knows nothing of models or files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from captioner.digests import sha256_text
from captioner.errors import BadData
from captioner.metrics import Scores, nltk_bleu, score
from captioner.neighbours import Features, nearest
from captioner.records import ImageRecord
from captioner.slices import SliceScore
from captioner.text import tokenize

PROTOCOL = (
    "free decoding; text.tokenize on both sides; BLEU: nltk corpus_bleu, no smoothing, x100; "
    "CIDEr and ROUGE-L: pycocoevalcap's definition, x100"
)
LONGEST = 30
"""The last bar of the histogram of caption lengths holds everything that is as long or longer."""


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
    protocol: str = PROTOCOL


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


def human_scores(references: Sequence[Sequence[str]]) -> Scores | None:
    """One caption of each image, the first, second, … in turn, against the image's others; None when none has two."""
    several = [of_image for of_image in references if len(of_image) > 1]
    if not several:
        return None
    chosen = [number % len(of_image) for number, of_image in enumerate(several)]
    said = [of_image[which] for of_image, which in zip(several, chosen, strict=True)]
    others = [[*of_image[:which], *of_image[which + 1 :]] for of_image, which in zip(several, chosen, strict=True)]
    return score(said, others)


def share_copied(hypotheses: Sequence[str], training: Sequence[ImageRecord]) -> float:
    """The share of captions whose tokens are those of a training caption."""
    known = {tuple(tokenize(caption)) for record in training for caption in record.captions}
    return sum(tuple(tokenize(caption)) in known for caption in hypotheses) / len(hypotheses)


def histogram(captions: Sequence[str]) -> list[float]:
    """The share of captions with 0, 1, … LONGEST (or more) words."""
    counts = np.bincount([min(len(tokenize(caption)), LONGEST) for caption in captions], minlength=LONGEST + 1)
    return [float(share) for share in counts / len(captions)]
