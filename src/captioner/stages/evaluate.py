"""evaluate@C: the exported artifact captions a split; what it said is saved, and the saved file is scored.

What is evaluated is what is released: the model is the packed artifact, and the report carries its digest. Beside the
scores stand what the same artifact scores on dev, a nearest-neighbour baseline, what one person's caption would score
against the others', slices, the wording, what is wrong with how many captions, and captions chosen by index and score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from captioner.errors import BadData
from captioner.evaluation import (
    EvaluateReport,
    EvaluationSet,
    as_nltk_says,
    by_index,
    by_score,
    fault_shares,
    gap,
    human_scores,
    nearest_training,
    quote,
    select,
    wordings,
)
from captioner.featurestore.packed import PackedFeatures
from captioner.gallery import render
from captioner.images import normalise
from captioner.metrics import Scorer, Scores, score
from captioner.packs import PackReader
from captioner.params import EvaluateParams
from captioner.paths import Paths
from captioner.progress import track
from captioner.records import (
    Caption,
    ImageRecord,
    Prediction,
    read_manifest,
    read_predictions,
    write_json,
    write_predictions,
    write_text,
)
from captioner.slices import luminance_of, score_slices, slices_of
from captioner.stages.presenting import gallery_page, write_plots
from captioner.wording import share_copied


class CaptionsFeatures(Protocol):
    """What evaluation needs of model.captioner.Captioner."""

    digest: str
    card: dict[str, Any]

    def caption(self, images: Sequence[bytes]) -> list[tuple[Caption, ...]]: ...
    def caption_features(self, grid: npt.NDArray[np.float16]) -> list[tuple[Caption, ...]]: ...


def run(params: EvaluateParams, paths: Paths, candidate: str) -> EvaluateReport:
    """Caption, save, score. Raises BadData when the artifact, the features and the manifest do not belong together."""
    from captioner.model.captioner import Captioner

    features = PackedFeatures.open(paths.features)
    manifest = read_manifest(paths.validated / "manifest.jsonl")
    test = select(manifest, features.ids, params.split)
    artifact = paths.exported(candidate) / "model.tar.gz"
    if not artifact.exists():
        raise BadData(f"{artifact} is missing: run captioner export {candidate} first.")
    captioner = Captioner.load(artifact, paths.unpacked)
    check_fit(captioner, features)
    saved = paths.predictions(candidate) / "predictions.jsonl"
    with PackReader(paths.raw) as packs:
        # An encoder that was tuned together with its decoder has features of its own, and so has a mirror image.
        pictures = packs if captioner.card.get("tuned") or captioner.card.get("flip") else None
        write_predictions(saved, predict(captioner, features, test, params.batch, pictures))
        dev = score_dev(params, paths, candidate, captioner, manifest, features, pictures)
    return judge(params, paths, candidate, captioner.digest, test, features, read_predictions(saved), dev)


def score_dev(
    params: EvaluateParams,
    paths: Paths,
    candidate: str,
    captioner: CaptionsFeatures,
    manifest: Sequence[ImageRecord],
    features: PackedFeatures,
    pictures: PackReader | None = None,
) -> Scores | None:
    """What the artifact scores on dev, where models are selected: how much it scores less on test is optimism.

    None when dev is what is evaluated, so that tuning never looks at test, and when dev has nothing to be scored.
    """
    if params.split == "dev" or not any(record.split == "dev" and record.captions for record in manifest):
        return None
    dev = select(manifest, features.ids, "dev")
    saved = paths.predictions(candidate) / "predictions-dev.jsonl"
    write_predictions(saved, predict(captioner, features, dev, params.batch, pictures))
    hypotheses = best_captions(read_predictions(saved), dev)
    return as_nltk_says(score(hypotheses, dev.references), hypotheses, dev.references)


def check_fit(captioner: CaptionsFeatures, features: PackedFeatures) -> None:
    """Raises BadData unless the artifact's encoder is the one that made `features`, or began as that one."""
    made_of, here = captioner.card.get("features"), asdict(features.meta)
    if captioner.card.get("tuned") and isinstance(made_of, dict):
        made_of = {**made_of, **{name: here[name] for name in ("weights_digest", "engine", "channels")}}
    if made_of != here:
        made = made_of if isinstance(made_of, dict) else {}
        other = ", ".join(name for name in here if made.get(name) != here[name])
        raise BadData(
            f"The artifact was made for other features than data/features ({other} differ): run export again."
        )


def predict(
    captioner: CaptionsFeatures,
    features: PackedFeatures,
    test: EvaluationSet,
    batch: int,
    pictures: PackReader | None = None,
) -> list[Prediction]:
    """The captions of every image, best first, in the test set's order; from `pictures`, where they are given.

    Raises BadData when an image comes back without a caption.
    """
    predictions: list[Prediction] = []
    with track(f"captions of {len(test.rows)} images", len(test.rows), "images") as progress:
        for start in range(0, len(test.rows), batch):
            records = test.records[start : start + batch]
            if pictures:
                answers = captioner.caption([normalise(pictures.read(r), r.id) for r in records])
            else:
                answers = captioner.caption_features(features.rows(test.rows[start : start + batch]))
            if len(answers) != len(records) or not all(answers):
                raise BadData(f"The artifact gave {len(answers)} captions for {len(records)} images: run export again.")
            predictions += [Prediction(r.id, tuple(a)) for r, a in zip(records, answers, strict=True)]
            progress.advance(len(records))
    return predictions


def judge(
    params: EvaluateParams,
    paths: Paths,
    candidate: str,
    digest: str,
    test: EvaluationSet,
    features: PackedFeatures,
    predictions: Sequence[Prediction],
    dev: Scores | None = None,
) -> EvaluateReport:
    """Score saved predictions; write the report, the plots and the gallery."""
    hypotheses = best_captions(predictions, test)
    scorer = Scorer(test.references)
    cider = scorer.cider_each(hypotheses)
    scores = as_nltk_says(scorer.score(hypotheses), hypotheses, test.references)
    worded, distance = wordings(hypotheses, test.references)
    neighbours = [test.training[i].captions[0] for i in nearest_training(features, test)]
    with PackReader(paths.raw) as packs:
        members = [slices_of(r.captions, r.tags, luminance_of(normalise(packs.read(r), r.id))) for r in test.records]
        report = EvaluateReport(
            candidate=candidate,
            digest=digest,
            split=params.split,
            test_set=test.digest,
            images=len(test.records),
            without_references=test.without_references,
            scores=scores,
            copied=share_copied(hypotheses, [caption for record in test.training for caption in record.captions]),
            slices=score_slices(members, cider, scorer.bleu_statistics(hypotheses)),
            baseline=scorer.score(neighbours),
            human=human_scores(test.references),
            dev=dev,
            gap=gap(dev, scores),
            wording=worded,
            length_distance=distance,
            faults=fault_shares(hypotheses, test.references),
            shown=quote(hypotheses, cider, test.records, by_index(test.records)),
            worst=quote(hypotheses, cider, test.records, by_score(cider, test.records)),
        )
        pictures = {record.id: record for record in test.records}
        page = gallery_page(params, report, test, predictions, cider)
        html = render(page, lambda name: normalise(packs.read(pictures[name]), name))
    write_text(paths.predictions(candidate) / "gallery.html", html)
    write_plots(paths.plots("evaluate", candidate), report, hypotheses, test)
    write_json(paths.report("evaluate", candidate), asdict(report))
    return report


def best_captions(predictions: Sequence[Prediction], test: EvaluationSet) -> list[str]:
    """The first caption of each image, in the test set's order. Raises BadData when they are of others."""
    if [prediction.id for prediction in predictions] != [record.id for record in test.records]:
        raise BadData("The saved predictions are of other images than the test set: run evaluate again.")
    return [prediction.captions[0].caption for prediction in predictions]
