"""What evaluation shows of its report: the data of the plots, and the gallery page.

Knows nothing of models; scores nothing.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from captioner.evaluation import EvaluateReport, EvaluationSet, Quoted
from captioner.gallery import Bars, Entry, Page, Section, Table
from captioner.params import EvaluateParams
from captioner.records import Prediction, write_text
from captioner.wording import LONGEST, histogram

SHOWN: Mapping[str, str] = {
    "bleu_1": "BLEU-1",
    "bleu_2": "BLEU-2",
    "bleu_3": "BLEU-3",
    "bleu_4": "BLEU-4",
    "cider": "CIDEr",
    "rouge_l": "ROUGE-L",
}


def write_plots(folder: Path, report: EvaluateReport, hypotheses: Sequence[str], test: EvaluationSet) -> None:
    """scores.csv, slices.csv, lengths.csv and faults.csv, for dvc plots and for the figures."""
    columns = {"model": report.scores, "nearest_neighbour": report.baseline}
    if report.dev:
        columns["dev"] = report.dev
    if report.human:
        columns["person"] = report.human
    rows = [",".join([text, *(repr(getattr(one, name)) for one in columns.values())]) for name, text in SHOWN.items()]
    write_text(folder / "scores.csv", "\n".join([",".join(["score", *columns]), *rows]) + "\n")
    rows = [f"{name},{one.images},{one.cider!r},{one.bleu_4!r}" for name, one in report.slices.items()]
    write_text(folder / "slices.csv", "\n".join(["slice,images,cider,bleu_4", *rows]) + "\n")
    rows = [f"{name},{one.captions!r},{one.people!r}" for name, one in report.faults.items()]
    write_text(folder / "faults.csv", "\n".join(["fault,captions,people", *rows]) + "\n")
    said, meant = lengths_of(hypotheses, test)
    rows = [f"{words},{said[words]!r},{meant[words]!r}" for words in range(LONGEST + 1)]
    write_text(folder / "lengths.csv", "\n".join(["words,predicted,references", *rows]) + "\n")


def lengths_of(hypotheses: Sequence[str], test: EvaluationSet) -> tuple[list[float], list[float]]:
    """The shares of captions with 0, 1, … LONGEST (or more) words: of the model's, and of all references."""
    return histogram(hypotheses), histogram([caption for of_image in test.references for caption in of_image])


def gallery_page(
    params: EvaluateParams,
    report: EvaluateReport,
    test: EvaluationSet,
    predictions: Sequence[Prediction],
    cider: npt.NDArray[np.float64],
) -> Page:
    """What the gallery shows, with the scores above: the captions that the report quotes, by index and the worst, then
    the best and some random ones. No image stands among the worst, the best and the random ones twice."""
    entries = {
        p.id: Entry(p.id, p.captions[0].caption, float(value), r.captions, tuple(c.caption for c in p.captions[1:]))
        for p, r, value in zip(predictions, test.records, cider, strict=True)
    }
    count = min(params.gallery, max(1, len(entries) // 3))
    worst = report.worst[: max(count, 1)] if len(entries) < 3 * len(report.worst) else report.worst
    low = {one.id for one in worst}
    ranked = sorted((e for e in entries.values() if e.id not in low), key=lambda entry: (-entry.score, entry.id))
    best, rest = ranked[:count], ranked[count:]
    some = sorted(random.Random(params.seed).sample(rest, min(count, len(rest))), key=lambda entry: entry.id)
    sections = (
        Section(
            "Worst",
            f"The {len(worst)} lowest CIDEr, with what the rules say is wrong, the main fault first. The rules compare "
            "words with the references and see no picture.",
            tuple(_explained(entries[one.id], one) for one in worst),
        ),
        Section("Best", "The highest CIDEr.", tuple(best)),
        Section(
            "By index",
            f"{len(report.shown)} images, evenly spaced over the sorted ids: which ones depends on nothing but the "
            "number of images.",
            tuple(replace(entries[one.id], label=f"{one.index}") for one in report.shown),
        ),
        Section("Random", "Drawn by a seed from what is neither among the best nor among the worst.", tuple(some)),
    )
    said, people = report.wording["captions"], report.wording["people"]
    lengths = lengths_of([entry.caption for entry in entries.values()], test)
    return Page(
        title=f"Captions by {report.candidate}",
        facts=(
            ("split", f"{report.split}, {report.images:,} images"),
            ("artifact", report.digest[:16]),
            ("test set", report.test_set[:16]),
            ("words a caption", f"{said.mean_words:.1f} (people {people.mean_words:.1f})"),
            ("distinct captions", f"{report.scores.distinct:.0%}"),
            ("copied from training", f"{report.copied:.0%}"),
            ("repeat three words", f"{said.repeated_trigram:.1%} (people {people.repeated_trigram:.1%})"),
        ),
        tables=(_score_table(report), _wording_table(report), _fault_table(report), _slice_table(report)),
        sections=tuple(section for section in sections if section.entries),
        bars=(
            Bars(
                "Words a caption",
                f"words ({LONGEST}: or more)",
                (("people", tuple(lengths[1])), ("model", tuple(lengths[0]))),
                note=f"Share of captions by their number of words. {report.length_distance:.0%} of the captions would "
                "have to change their length for the two to be equal.",
            ),
        ),
    )


def _explained(entry: Entry, quoted: Quoted) -> Entry:
    return replace(entry, notes=quoted.faults)


def _score_table(report: EvaluateReport) -> Table:
    rows = [("this model", report.scores)]
    if report.dev:
        rows.append(("the same on dev", report.dev))
    rows.append(("nearest neighbour", report.baseline))
    if report.human:
        rows.append(("a person", report.human))
    return Table(
        "Scores (x100)",
        ("", *SHOWN.values()),
        tuple((who, *(f"{getattr(scores, name):.1f}" for name in SHOWN)) for who, scores in rows),
        note="Nearest neighbour: the caption of the training image that looks most alike. A person: one caption of "
        "each image against its others, so with one reference less.",
    )


def _slice_table(report: EvaluateReport) -> Table:
    rows = ((name, f"{one.images:,}", f"{one.cider:.1f}", f"{one.bleu_4:.1f}") for name, one in report.slices.items())
    return Table("Slices", ("", "images", "CIDEr", "BLEU-4"), tuple(rows))


def _wording_table(report: EvaluateReport) -> Table:
    said, people = report.wording["captions"], report.wording["people"]
    rows = (
        ("mean words", f"{said.mean_words:.1f}", f"{people.mean_words:.1f}"),
        ("their deviation", f"{said.deviation:.1f}", f"{people.deviation:.1f}"),
        ("different words", f"{said.different_words:,}", f"{people.different_words:,}"),
        ("two words twice", f"{said.repeated_bigram:.1%}", f"{people.repeated_bigram:.1%}"),
        ("three words twice", f"{said.repeated_trigram:.1%}", f"{people.repeated_trigram:.1%}"),
    )
    return Table("Wording", ("", "model", "people"), rows, note="Different words: in one caption of each image.")


def _fault_table(report: EvaluateReport) -> Table:
    found = {name: one for name, one in report.faults.items() if one.captions or one.people}
    return Table(
        "Faults",
        ("", "model", "people"),
        tuple((name, f"{one.captions:.1%}", f"{one.people:.1%}") for name, one in found.items()),
        note="Share of captions to which a rule applies; one can have several faults. People: one caption of each "
        "image against its others, so the rate of false alarms. docs/evaluation.md says what each rule looks at.",
    )
