"""The gate: may this model stand beside, or in place of, the one that is in use? Numbers in, a verdict in words out.

Pure: reads no file, asks no server, and knows nothing of registries. A first champion has nobody to be compared with
and passes on its own checks; everybody else is held against the champion, image by image, on the same test set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from captioner.params import RegisterParams
from captioner.stats import Interval, bleu_from_statistics, mean_score, non_inferior, paired_bootstrap

# From the mean of an image's row in `Evidence.per_image` to the score of the whole.
STATISTICS: dict[str, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
    "cider": mean_score,
    "bleu_4": bleu_from_statistics,
}
METRIC_NAMES = {"cider": "CIDEr", "bleu_4": "BLEU-4"}
CheckName = Literal["parity", "collapse", "floor", "test set", "non-inferiority", "slices"]


@dataclass(frozen=True)
class Slice:
    """One slice of the test set: how many images, and the gate's metric on them (x100)."""

    images: int
    score: float


@dataclass(frozen=True)
class Evidence:
    """What is known of one model on one test set. `called` is how a sentence names it.

    `per_image` has a row for each test image, in the test set's order: CIDEr (x100), [images], or the statistics that
    BLEU is made of, [images, 10]. Empty for a champion whose test set is another one: nothing is compared then.
    """

    called: str
    test_set: str
    score: float
    per_image: npt.ArrayLike
    slices: Mapping[str, Slice] = field(default_factory=dict)
    distinct: float = 1.0
    parity: bool = True


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, its outcome, and why in one sentence."""

    name: CheckName
    passed: bool
    sentence: str


@dataclass(frozen=True)
class SliceResult:
    """One slice of both models. `judged` is false where the slice is too small to say anything."""

    name: str
    images: int
    champion: float
    challenger: float
    judged: bool
    passed: bool

    @property
    def difference(self) -> float:
        return self.challenger - self.champion


@dataclass(frozen=True)
class Verdict:
    """The gate's answer: passed when every check is. `interval` is challenger minus champion, None for a first one."""

    checks: tuple[Check, ...]
    interval: Interval | None = None
    margin: float | None = None
    slices: tuple[SliceResult, ...] = ()

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        """The sentences of what failed."""
        return tuple(check.sentence for check in self.checks if not check.passed)


def judge(params: RegisterParams, challenger: Evidence, champion: Evidence | None) -> Verdict:
    """Hold `challenger` against `champion`, or against the floor when there is none.

    Raises BadData when the two claim the same test set and yet have different numbers of images: then the evidence
    was put together wrongly, and no verdict would mean anything.
    """
    own = tuple(_own_checks(params, challenger))
    if champion is None:
        return Verdict((*own, _floor(params, challenger)))
    same = _same_test_set(challenger, champion)
    if not same.passed:
        return Verdict((*own, same))
    interval = compare(params, challenger, champion)
    slices = tuple(_compare_slices(params, challenger, champion))
    checks = (*own, same, _non_inferior(params, interval, champion), _no_slice_dropped(params, slices))
    return Verdict(checks, interval, params.margin, slices)


def compare(params: RegisterParams, challenger: Evidence, champion: Evidence) -> Interval:
    """The paired bootstrap over images (Koehn 2004), two-sided at `params.confidence`."""
    return paired_bootstrap(
        champion.per_image,
        challenger.per_image,
        statistic=STATISTICS[params.metric],
        resamples=params.resamples,
        confidence=params.confidence,
        seed=params.seed,
    )


def _own_checks(params: RegisterParams, model: Evidence) -> Iterator[Check]:
    said = "repeats" if model.parity else "does not repeat"
    yield Check("parity", model.parity, f"The exported artifact {said} what training says of the golden images.")
    yield Check(
        "collapse",
        model.distinct >= params.min_distinct,
        f"{model.distinct:.1%} of its captions are distinct, at least {params.min_distinct:.1%} are asked for.",
    )


def _floor(params: RegisterParams, model: Evidence) -> Check:
    metric = METRIC_NAMES[params.metric]
    return Check(
        "floor",
        model.score >= params.min_score,
        f"Its {metric} is {model.score:.1f}, a first champion needs at least {params.min_score:.1f}.",
    )


def _same_test_set(challenger: Evidence, champion: Evidence) -> Check:
    if challenger.test_set == champion.test_set:
        return Check("test set", True, f"Both were judged on the test set {challenger.test_set[:12]}.")
    other = f"on {champion.test_set[:12]}" if champion.test_set else "on none that is known"
    return Check(
        "test set",
        False,
        f"It was judged on the test set {challenger.test_set[:12]} and {champion.called}, the champion, {other}, so "
        "they cannot be compared: evaluate both on one test set, or make it champion by hand (its alias in MLflow).",
    )


def _non_inferior(params: RegisterParams, found: Interval, champion: Evidence) -> Check:
    metric = METRIC_NAMES[params.metric]
    return Check(
        "non-inferiority",
        non_inferior(found, params.margin),
        f"Its {metric} differs from that of {champion.called}, the champion, by {found.difference:+.1f} points "
        f"({found.confidence:.0%} interval {found.low:+.1f} to {found.high:+.1f}); "
        f"all of the interval must lie above {-params.margin:+.1f}.",
    )


def _compare_slices(params: RegisterParams, challenger: Evidence, champion: Evidence) -> Iterator[SliceResult]:
    for name in sorted(challenger.slices.keys() & champion.slices.keys()):
        new, old = challenger.slices[name], champion.slices[name]
        judged = min(new.images, old.images) >= params.min_slice
        passed = not judged or old.score - new.score <= params.max_slice_drop
        yield SliceResult(name, new.images, old.score, new.score, judged, passed)


def _no_slice_dropped(params: RegisterParams, slices: Sequence[SliceResult]) -> Check:
    metric = METRIC_NAMES[params.metric]
    judged = [one for one in slices if one.judged]
    if not judged:
        return Check("slices", True, f"No slice has the {params.min_slice} images that a judgement takes.")
    failed = [one for one in judged if not one.passed]
    shown = failed or [min(judged, key=lambda one: one.difference)]
    told = ", ".join(f"{one.name} {one.difference:+.1f} ({one.images} images)" for one in shown)
    what = "Too much is lost in" if failed else f"Of {len(judged)} slices the worst is"
    return Check(
        "slices", not failed, f"{what}: {told}; a slice may lose {params.max_slice_drop:.1f} points of {metric}."
    )
