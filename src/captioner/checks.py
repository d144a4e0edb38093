"""What a dataset must be: the rules, and the frames that they look at.

Pure: values in, frames and decisions out. Knows nothing of files, of packs or of how a rule is run; the names of the
expectations are Great Expectations', because ``expectations.py`` runs them with it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from captioner.images import ImageInfo
from captioner.params import ValidateParams
from captioner.records import ImageRecord, Quarantined, Split
from captioner.text import tokenize

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "I", "I;16", "I;16B", "F")
"""Pillow's channel modes that ``images.normalise`` turns into 8-bit RGB or grey."""

PROTECTED: tuple[Split, ...] = ("test", "dev", "train", "none")
"""Of the same picture in two splits, the one in the split that comes first here stays."""

NOT_TEXT = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd]"
"""Control characters, and the sign that a decoder leaves where bytes were not of its encoding."""


@dataclass(frozen=True)
class Rule:
    """One expectation over one table.

    `reason` says what is wrong when it is not met. A rule over rows sets the bad rows aside; the others (`table_level`)
    fail the stage. `where` restricts it to the rows that hold a value in a column. `keep_first`: of rows that are equal
    in these columns, the first is not a bad one.
    """

    reason: str
    expectation: str
    options: Mapping[str, Any]
    table_level: bool = False
    where: tuple[str, str] | None = None
    keep_first: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of a rule: met or not, the bad rows' positions, what was observed. `problem`: it did not run."""

    rule: Rule
    met: bool
    rows: tuple[int, ...] = ()
    observed: float | None = None
    problem: str = ""


@dataclass(frozen=True)
class Look:
    """What reading one image found: its header, or why there is none."""

    info: ImageInfo | None
    problem: str = ""


def caption_rules(params: ValidateParams) -> tuple[Rule, ...]:
    """Rules over `captions_frame`, the first that a row breaks names its reason."""
    text = {"column": "caption", "regex": NOT_TEXT}
    return (
        Rule("caption without image", "expect_column_values_to_be_in_set", _in("has_image", [True])),
        Rule("empty caption", "expect_column_values_to_match_regex", {"column": "caption", "regex": r"\S"}),
        Rule("caption is not text", "expect_column_values_to_not_match_regex", text),
        Rule("caption without words", "expect_column_values_to_match_regex", {"column": "tokens", "regex": "[a-z]"}),
        Rule("caption too long", "expect_column_values_to_be_between", _upto("words", params.max_words)),
        Rule(
            "duplicate caption",
            "expect_compound_columns_to_be_unique",
            {"column_list": ["image", "tokens"]},
            # The references of dev and test stay as they were published: scores are compared with other people's.
            where=("split", "train"),
            keep_first=("image", "tokens"),
        ),
        Rule("caption too many", "expect_column_values_to_be_between", _upto("number", params.captions_per_image)),
    )


def image_rules(params: ValidateParams) -> tuple[Rule, ...]:
    """Rules over the rows of `images_frame`, the first that a row breaks names its reason."""
    captions = {
        "column": "captions",
        "min_value": params.captions_per_image_min,
        "max_value": params.captions_per_image,
    }
    return (
        Rule("image without an id", "expect_column_values_to_match_regex", {"column": "id", "regex": r"\S"}),
        Rule("image id not unique", "expect_column_values_to_be_unique", {"column": "id"}),
        Rule("split unknown", "expect_column_values_to_be_in_set", _in("split", list(PROTECTED))),
        Rule("image cannot be decoded", "expect_column_values_to_be_in_set", _in("decodable", [True])),
        Rule("channel mode unknown", "expect_column_values_to_be_in_set", _in("mode", list(MODES))),
        Rule("image too small", "expect_column_values_to_be_between", _atleast("shortest", params.min_pixels)),
        Rule("image too large", "expect_column_values_to_be_between", _upto("longest", params.max_pixels)),
        Rule("image too long or too wide", "expect_column_values_to_be_between", _upto("aspect", params.max_aspect)),
        Rule("image with too few captions", "expect_column_values_to_be_between", captions),
        Rule("same image in another split", "expect_column_values_to_be_null", {"column": "same_as"}),
    )


def split_rules(params: ValidateParams) -> tuple[Rule, ...]:
    """Rules over `images_frame` as a whole: how many images each split must have."""
    return tuple(
        Rule(
            f"{split} split too small",
            "expect_table_row_count_to_be_between",
            {"min_value": least},
            table_level=True,
            where=("split", split),
        )
        for split, least in sorted(params.min_images.items())
    )


def word_rules(params: ValidateParams) -> tuple[Rule, ...]:
    """Rules over `words_frame`: the vocabulary of the training split."""
    least = {"min_value": params.min_vocabulary}
    return (
        Rule("vocabulary too small", "expect_table_row_count_to_be_between", least, table_level=True),
        Rule("word not unique", "expect_column_values_to_be_unique", {"column": "word"}, table_level=True),
        Rule("word without use", "expect_column_values_to_be_between", _atleast("count", 1), table_level=True),
    )


def captions_frame(records: Sequence[ImageRecord], orphans: Sequence[Quarantined] = ()) -> pd.DataFrame:
    """One row per caption: of every record in order, then those that have no image.

    `image` is the record's position (-1: none), `number` counts an image's captions from 1, `tokens` is the caption as
    training sees it, joined by spaces, `words` how many they are.
    """
    rows = [
        (record.id, image, number, caption, record.split, True)
        for image, record in enumerate(records)
        for number, caption in enumerate(record.captions, start=1)
    ]
    # A number of its own keeps an orphan from being a duplicate or one too many: it has one fault, not three.
    rows += [(orphan.id, -1, 1, orphan.caption or "", "none", False) for orphan in orphans]
    frame = pd.DataFrame(rows, columns=["id", "image", "number", "caption", "split", "has_image"])
    tokens = [tokenize(caption) for caption in frame["caption"]]
    frame["tokens"] = pd.Series([" ".join(one) for one in tokens], dtype="str")
    frame["words"] = [len(one) for one in tokens]
    return _positioned(frame)


def images_frame(records: Sequence[ImageRecord], looks: Sequence[Look]) -> pd.DataFrame:
    """One row per image, in the order of `records`: what the manifest and the header say.

    Sizes are pixels; they and the mode are missing where the image cannot be decoded. `same_as` names the image of the
    same content that stays when this one is in a less protected split.
    """
    same = _same_in_more_protected_split(records)
    rows = [
        {
            "id": record.id,
            "split": record.split,
            "digest": record.digest,
            "captions": len(record.captions),
            "decodable": look.info is not None,
            "problem": look.problem or None,
            "format": look.info and look.info.format,
            "mode": look.info and look.info.mode,
            "shortest": look.info and min(look.info.width, look.info.height),
            "longest": look.info and max(look.info.width, look.info.height),
            "aspect": look.info and max(look.info.width, look.info.height) / min(look.info.width, look.info.height),
            "same_as": same[position],
        }
        for position, (record, look) in enumerate(zip(records, looks, strict=True))
    ]
    columns = ["id", "split", "digest", "captions", "decodable", "problem", "format", "mode"]
    columns += ["shortest", "longest", "aspect", "same_as"]
    return _positioned(pd.DataFrame(rows, columns=columns))


def words_frame(records: Iterable[ImageRecord]) -> pd.DataFrame:
    """The training split's words and how often each is used, the most frequent first."""
    captions = [caption for record in records if record.split == "train" for caption in record.captions]
    counts = Counter(token for caption in captions for token in tokenize(caption))
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return _positioned(pd.DataFrame(ordered, columns=["word", "count"]))


def first_reasons(frame: pd.DataFrame, outcomes: Iterable[Outcome]) -> dict[int, str]:
    """Position of each bad row → the reason of the first rule that it breaks."""
    reasons: dict[int, str] = {}
    for outcome in outcomes:
        rows = list(outcome.rows)
        if outcome.rule.keep_first:
            flagged = frame.iloc[sorted(rows)]
            rows = flagged.index[flagged.duplicated(list(outcome.rule.keep_first))].tolist()
        for row in rows:
            reasons.setdefault(row, outcome.rule.reason)
    return reasons


@dataclass(frozen=True)
class Sorted:
    """Records divided in two: `kept` (with positions in the input) and what was set aside."""

    kept: tuple[ImageRecord, ...]
    positions: tuple[int, ...]
    quarantined: tuple[Quarantined, ...] = field(default=())


def without_captions(
    records: Sequence[ImageRecord], orphans: Sequence[Quarantined], frame: pd.DataFrame, reasons: Mapping[int, str]
) -> Sorted:
    """Take the bad captions of `captions_frame(records, orphans)` out of their images."""
    bad: defaultdict[int, set[int]] = defaultdict(set)
    quarantined = []
    known = len(frame) - len(orphans)
    images, numbers = frame["image"].tolist(), frame["number"].tolist()
    for row in sorted(reasons):
        if row >= known:
            quarantined.append(orphans[row - known])
            continue
        image, number = images[row], numbers[row]
        bad[image].add(number)
        record = records[image]
        quarantined.append(Quarantined(record.id, reasons[row], record.captions[number - 1], f"caption {number}"))
    kept = [
        replace(record, captions=tuple(c for n, c in enumerate(record.captions, start=1) if n not in bad[image]))
        if image in bad
        else record
        for image, record in enumerate(records)
    ]
    return Sorted(tuple(kept), tuple(range(len(records))), tuple(quarantined))


def without_images(records: Sequence[ImageRecord], frame: pd.DataFrame, reasons: Mapping[int, str]) -> Sorted:
    """Take the bad images of `images_frame(records, …)` out, with all their captions."""
    good = [position for position in range(len(records)) if position not in reasons]
    quarantined = tuple(
        Quarantined(str(records[row].id), reason, detail=_detail(frame, row, reason))
        for row, reason in sorted(reasons.items())
    )
    return Sorted(tuple(records[position] for position in good), tuple(good), quarantined)


def _detail(frame: pd.DataFrame, row: int, reason: str) -> str:
    """What a person needs to see beside the reason."""
    of = frame.iloc[row]
    return {
        "image cannot be decoded": f"{of['problem']}",
        "channel mode unknown": f"mode {of['mode']}",
        "image with too few captions": f"{of['captions']} left",
        "same image in another split": f"{of['same_as']}",
        "split unknown": f"{of['split']}",
    }.get(reason, f"{of['longest']:.0f} x {of['shortest']:.0f} pixels" if of["decodable"] else "")


def _same_in_more_protected_split(records: Sequence[ImageRecord]) -> list[str | None]:
    rank = {split: position for position, split in enumerate(PROTECTED)}
    stays: dict[str, ImageRecord] = {}
    for record in records:
        best = stays.get(record.digest)
        if best is None or rank.get(record.split, len(rank)) < rank.get(best.split, len(rank)):
            stays[record.digest] = record
    found = [stays[record.digest] for record in records]
    return [
        None if best.split == own.split else f"{best.split}: {best.id}"
        for own, best in zip(records, found, strict=True)
    ]


def _positioned(frame: pd.DataFrame) -> pd.DataFrame:
    """With each row's position as a column: what leads from an unexpected row back to its record."""
    frame.insert(0, "row", range(len(frame)))
    return frame


def _in(column: str, values: list[Any]) -> dict[str, Any]:
    return {"column": column, "value_set": values}


def _upto(column: str, most: float) -> dict[str, Any]:
    return {"column": column, "max_value": most}


def _atleast(column: str, least: float) -> dict[str, Any]:
    return {"column": column, "min_value": least}
