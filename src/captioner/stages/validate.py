"""validate: Great Expectations over images and captions; bad rows to quarantine, the good ones on.

Reads ``data/raw`` (the manifest, the packs and the captions that have no image); writes ``data/validated``
(``manifest.jsonl``, ``quarantine.jsonl``), the report and Data Docs. Rules over rows run on the data as it came and set
the bad rows aside; then the whole suite runs once more on what is left, and must be met. What the rules are is in
``checks.py``.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.errors import BadData, BadEnvironment, BadImage, GateFailed
from captioner.images import inspect, normalise
from captioner.packs import PackReader
from captioner.params import ValidateParams
from captioner.paths import Paths
from captioner.progress import track
from captioner.records import (
    SPLITS,
    ImageRecord,
    Quarantined,
    read_jsonl,
    read_manifest,
    write_json,
    write_jsonl,
    write_manifest,
)

if TYPE_CHECKING:
    from captioner.checks import Look, Outcome, Rule, Sorted
    from captioner.expectations import Expectations


@dataclass(frozen=True)
class ValidateReport:
    """What came in, what was set aside and why, and what is left. Shares are of the rows that came in."""

    images: int
    captions: int
    splits: dict[str, int]
    vocabulary: int
    captions_per_image: dict[str, int]
    quarantined: dict[str, int]
    quarantined_images: int
    quarantined_captions: int
    share_quarantined_images: float
    share_quarantined_captions: float
    expectations: dict[str, int]


def run(params: ValidateParams, paths: Paths) -> ValidateReport:
    """Check the dataset in ``data/raw``. Raises GateFailed when it must not be used, BadData when it is damaged.

    Quarantine, report and Data Docs are written either way; the manifest of good rows only when the gate says yes.
    """
    records = read_manifest(paths.raw / "manifest.jsonl")
    unpaired = _unpaired(paths.raw / "orphans.jsonl")
    orphans = [row for row in unpaired if row.caption is not None]
    lost = [row for row in unpaired if row.caption is None]
    looks = look_at(records, paths.raw)
    _empty(paths.validated)

    from captioner import checks
    from captioner.expectations import Expectations

    suite = Suite(Expectations())
    captions, images = suite.sort_out(params, records, orphans, looks)
    suite.verify(params, images.kept, [looks[position] for position in images.positions])
    suite.expectations.build_docs(paths.data_docs)

    bad = (*captions.quarantined, *images.quarantined, *lost)
    quarantined = sorted(bad, key=lambda row: (row.id, row.reason, row.detail, row.caption or ""))
    vocabulary = len(checks.words_frame(images.kept))
    report = _report(records, unpaired, images.kept, quarantined, suite.outcomes, vocabulary)
    write_jsonl(paths.validated / "quarantine.jsonl", (asdict(row) for row in quarantined))
    write_json(paths.report("validate"), asdict(report))
    _gate(params, report, suite)
    write_manifest(paths.validated / "manifest.jsonl", images.kept)
    return report


class Suite:
    """The two passes over the frames, and what came of each rule."""

    def __init__(self, expectations: Expectations) -> None:
        self.expectations = expectations
        self.held = 0
        self.outcomes: dict[str, list[Outcome]] = {"raw": [], "validated": []}

    def sort_out(
        self,
        params: ValidateParams,
        records: Sequence[ImageRecord],
        orphans: Sequence[Quarantined],
        looks: Sequence[Look],
    ) -> tuple[Sorted, Sorted]:
        """First pass: find the bad rows. Captions come first, because an image may lose too many of them."""
        from captioner import checks

        frame = checks.captions_frame(records, orphans)
        outcomes = self._check("captions", "raw", frame, checks.caption_rules(params))
        captions = checks.without_captions(records, orphans, frame, checks.first_reasons(frame, outcomes))

        frame = checks.images_frame(captions.kept, looks)
        outcomes = self._check("images", "raw", frame, checks.image_rules(params))
        return captions, checks.without_images(captions.kept, frame, checks.first_reasons(frame, outcomes))

    def verify(self, params: ValidateParams, records: Sequence[ImageRecord], looks: Sequence[Look]) -> None:
        """Second pass: every rule over what is left, and the rules over whole tables."""
        from captioner import checks

        image_rules = checks.image_rules(params) + checks.split_rules(params)
        self._check("captions", "validated", checks.captions_frame(records), checks.caption_rules(params))
        self._check("images", "validated", checks.images_frame(records, looks), image_rules)
        self._check("words", "validated", checks.words_frame(records), checks.word_rules(params))

    def _check(self, table: str, stage: str, frame: object, rules: Sequence[Rule]) -> list[Outcome]:
        outcomes = self.expectations.check(table, stage, frame, rules)  # type: ignore[arg-type]
        self.held += len(rules)
        self.outcomes[stage] += outcomes
        return outcomes


def look_at(records: Sequence[ImageRecord], folder: Path) -> list[Look]:
    """Read and decode each image. Raises BadData when a pack is damaged; a bad image is a `Look` with a problem."""
    from captioner.checks import Look

    def look(record: ImageRecord) -> Look:
        data = packs.read(record)
        try:
            info = inspect(data, source=record.id)
            normalise(data, source=record.id)
        except BadImage as error:
            found = Look(None, str(error))
        else:
            found = Look(info)
        progress.advance()
        return found

    with (
        PackReader(folder) as packs,
        track("validate", total=len(records), unit="images") as progress,
        ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool,
    ):
        return list(pool.map(look, records))


def _unpaired(path: Path) -> list[Quarantined]:
    """What acquire could not join: captions without image; what has no `caption` is an image without captions."""
    if not path.exists():
        return []
    try:
        return [Quarantined(**row) for row in read_jsonl(path)]
    except TypeError as error:
        raise BadData(f"{path.name} holds a row that is not a quarantined one ({error}): run acquire again.") from None


def _empty(folder: Path) -> None:
    """So that a run that fails leaves no manifest of an earlier one."""
    try:
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise BadEnvironment(f"{folder} cannot be cleared: {error.strerror or error}.") from None


def _report(
    records: Sequence[ImageRecord],
    unpaired: Sequence[Quarantined],
    kept: Sequence[ImageRecord],
    quarantined: Sequence[Quarantined],
    outcomes: dict[str, list[Outcome]],
    vocabulary: int,
) -> ValidateReport:
    images = sum(row.caption is None for row in quarantined)
    captions = len(quarantined) - images
    all_images = len(records) + sum(row.caption is None for row in unpaired)
    all_captions = sum(len(record.captions) for record in records) + sum(row.caption is not None for row in unpaired)
    per_image = Counter(len(record.captions) for record in kept)
    splits = Counter(record.split for record in kept)
    expectations = {}
    for stage, ran in outcomes.items():
        expectations[f"{stage}_run"] = sum(not outcome.problem for outcome in ran)
        expectations[f"{stage}_met"] = sum(outcome.met for outcome in ran)
    return ValidateReport(
        images=len(kept),
        captions=sum(len(record.captions) for record in kept),
        splits={split: splits[split] for split in SPLITS},
        vocabulary=vocabulary,
        captions_per_image={str(count): per_image[count] for count in sorted(per_image)},
        quarantined=dict(sorted(Counter(row.reason for row in quarantined).items())),
        quarantined_images=images,
        quarantined_captions=captions,
        share_quarantined_images=round(images / max(all_images, 1), 6),
        share_quarantined_captions=round(captions / max(all_captions, 1), 6),
        expectations=expectations,
    )


def _gate(params: ValidateParams, report: ValidateReport, suite: Suite) -> None:
    ran = report.expectations["raw_run"] + report.expectations["validated_run"]
    if ran < suite.held:
        silent = next((o for stage in suite.outcomes.values() for o in stage if o.problem), None)
        why = f"; {silent.rule.reason!r} could not: {' '.join(silent.problem.split())[:200]}" if silent else ""
        raise GateFailed(f"Only {ran} of the {suite.held} expectations ran, so the data is not known to be good{why}.")
    for table, share in (("images", report.share_quarantined_images), ("captions", report.share_quarantined_captions)):
        if share > params.max_quarantined:
            reasons = ", ".join(f"{count} × {reason}" for reason, count in report.quarantined.items())
            raise GateFailed(
                f"{share:.1%} of the {table} are bad and validate.max_quarantined allows {params.max_quarantined:.1%} "
                f"({reasons}): see data/validated/quarantine.jsonl, mend the data or raise the limit."
            )
    failed = [outcome for outcome in suite.outcomes["validated"] if not outcome.met]
    if failed:
        raise GateFailed(f"The data is not good enough: {'; '.join(_explain(outcome) for outcome in failed)}.")


def _explain(outcome: Outcome) -> str:
    least = outcome.rule.options.get("min_value")
    if outcome.observed is not None and least is not None:
        return f"{outcome.rule.reason} ({outcome.observed:g} instead of at least {least:g})"
    return f"{outcome.rule.reason} ({len(outcome.rows)} rows)"
