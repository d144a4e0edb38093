"""What evaluation shows of its report: the data of the plots, and the gallery page.

Knows nothing of models; scores nothing.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from captioner.evaluation import LONGEST, EvaluateReport, EvaluationSet, histogram
from captioner.gallery import Entry, Page, Section, Table
from captioner.params import EvaluateParams
from captioner.records import Prediction, write_text

SHOWN: Mapping[str, str] = {
    "bleu_1": "BLEU-1",
    "bleu_2": "BLEU-2",
    "bleu_3": "BLEU-3",
    "bleu_4": "BLEU-4",
    "cider": "CIDEr",
    "rouge_l": "ROUGE-L",
}


def write_plots(folder: Path, report: EvaluateReport, hypotheses: Sequence[str], test: EvaluationSet) -> None:
    """scores.csv, slices.csv and lengths.csv, for dvc plots and for the figures."""
    columns = {"model": report.scores, "nearest_neighbour": report.baseline}
    if report.human:
        columns["person"] = report.human
    rows = [",".join([text, *(repr(getattr(one, name)) for one in columns.values())]) for name, text in SHOWN.items()]
    write_text(folder / "scores.csv", "\n".join([",".join(["score", *columns]), *rows]) + "\n")
    rows = [f"{name},{one.images},{one.cider!r},{one.bleu_4!r}" for name, one in report.slices.items()]
    write_text(folder / "slices.csv", "\n".join(["slice,images,cider,bleu_4", *rows]) + "\n")
    said = histogram(hypotheses)
    meant = histogram([caption for references in test.references for caption in references])
    rows = [f"{words},{said[words]!r},{meant[words]!r}" for words in range(LONGEST + 1)]
    write_text(folder / "lengths.csv", "\n".join(["words,predicted,references", *rows]) + "\n")


def gallery_page(
    params: EvaluateParams,
    report: EvaluateReport,
    test: EvaluationSet,
    predictions: Sequence[Prediction],
    cider: npt.NDArray[np.float64],
) -> Page:
    """What the gallery shows: best, worst and random captions by CIDEr, no image twice, with the scores above."""
    entries = [
        Entry(p.id, p.captions[0].caption, float(value), r.captions, tuple(c.caption for c in p.captions[1:]))
        for p, r, value in zip(predictions, test.records, cider, strict=True)
    ]
    ranked = sorted(entries, key=lambda entry: (-entry.score, entry.id))
    count = min(params.gallery, max(1, len(ranked) // 3))
    best, rest, worst = ranked[:count], ranked[count : max(count, len(ranked) - count)], ranked[count:][-count:][::-1]
    some = sorted(random.Random(params.seed).sample(rest, min(count, len(rest))), key=lambda entry: entry.id)
    sections = (
        Section("Random", "Drawn from what is neither among the best nor among the worst.", tuple(some)),
        Section("Best", "The highest CIDEr.", tuple(best)),
        Section("Worst", "The lowest CIDEr.", tuple(worst)),
    )
    return Page(
        title=f"Captions by {report.candidate}",
        facts=(
            ("split", f"{report.split}, {report.images:,} images"),
            ("artifact", report.digest[:16]),
            ("test set", report.test_set[:16]),
            ("words a caption", f"{report.scores.mean_words:.1f}"),
            ("distinct captions", f"{report.scores.distinct:.0%}"),
            ("copied from training", f"{report.copied:.0%}"),
        ),
        tables=(_score_table(report), _slice_table(report)),
        sections=tuple(section for section in sections if section.entries),
    )


def _score_table(report: EvaluateReport) -> Table:
    rows = [("this model", report.scores), ("nearest neighbour", report.baseline)]
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
