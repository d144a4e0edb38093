"""evaluate: with a captioner that says what it is told, and once with a real artifact."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captioner.errors import BadData
from captioner.evaluation import EvaluationSet, select
from captioner.featurestore.packed import PackedFeatures, write_packed
from captioner.metrics import score
from captioner.packs import PackReader, PackWriter, digest
from captioner.params import EvaluateParams
from captioner.paths import Paths
from captioner.records import (
    Caption,
    FeaturesMeta,
    ImageRecord,
    Prediction,
    Split,
    read_json,
    read_manifest,
    read_predictions,
    write_manifest,
)
from captioner.stages.evaluate import check_fit, judge, predict, run, score_dev

PARAMS = EvaluateParams(split="test", batch=4, gallery=3, seed=0)
META = FeaturesMeta("tiny", "grid", 8, 2, 4, "0" * 64, "test")
SPLITS: tuple[Split, ...] = ("train", "train", "test", "test", "dev")
THINGS = ("red ball", "blue box", "green hat", "white dog", "black cat", "old man", "tall girl")


def caption_of(number: int) -> str:
    return f"a {THINGS[number % len(THINGS)]} is number {number // len(THINGS)} on the table"


def write_images(paths: Paths, images: int = 60, meta: FeaturesMeta = META) -> list[ImageRecord]:
    """Raw packs, a manifest and features: an image's nearest training image is the one of the same thing."""
    records, rows = [], []
    with PackWriter(paths.raw) as packs:
        for number in range(images):
            name = f"{number:03d}.png"
            picture = io.BytesIO()
            Image.new("RGB", (12, 9), (number * 4 % 256, 90, 200)).save(picture, "PNG")
            data = picture.getvalue()
            split = SPLITS[number % len(SPLITS)]
            captions = (caption_of(number), f"there is a {THINGS[number % len(THINGS)]} here")
            tags = {"combination": "seen" if number % 4 else "unseen"}
            records.append(ImageRecord(name, packs.add(name, data), name, digest(data), split, captions, tags))
            row = np.random.default_rng(number % len(THINGS)).normal(size=(meta.cells, meta.channels))
            rows.append(row.astype(np.float16))
    write_manifest(paths.validated / "manifest.jsonl", records)
    ids = [record.id for record in records]
    write_packed(paths.features, meta, ids, ids, np.stack(rows).__getitem__)
    return records


class Told:
    """A captioner that gives the captions it was told, batch by batch, and remembers the batches."""

    digest = "d" * 64

    def __init__(self, captions: list[str]) -> None:
        self.card: dict[str, Any] = {"features": asdict(META)}
        self.left = list(captions)
        self.batches: list[int] = []

    def caption_features(self, grid: np.ndarray) -> list[tuple[Caption, ...]]:
        self.batches.append(len(grid))
        said = [self.left.pop(0) for _ in range(min(len(grid), len(self.left)))]
        return [(Caption(text, -1.5), Caption(f"{text} again", -3.0)) for text in said]


@pytest.fixture
def data(paths: Paths) -> tuple[PackedFeatures, EvaluationSet]:
    write_images(paths)
    features = PackedFeatures.open(paths.features)
    return features, select(read_manifest(paths.validated / "manifest.jsonl"), features.ids, "test")


def predictions_of(test: EvaluationSet, captions: list[str]) -> list[Prediction]:
    return [Prediction(record.id, (Caption(text, -1.0),)) for record, text in zip(test.records, captions, strict=True)]


def truth(test: EvaluationSet) -> list[str]:
    return [record.captions[0] for record in test.records]


def test_every_image_is_captioned_in_batches_and_in_order(data: tuple[PackedFeatures, EvaluationSet]) -> None:
    features, test = data
    captioner = Told(truth(test))
    found = predict(captioner, features, test, batch=7)
    assert [one.id for one in found] == [record.id for record in test.records]
    assert [one.captions[0].caption for one in found] == truth(test)
    assert captioner.batches == [7, 7, 7, 3]


def test_fewer_captions_than_images_are_refused(data: tuple[PackedFeatures, EvaluationSet]) -> None:
    """The predecessor's stray `break` left one image; here count in equals count out."""
    features, test = data
    with pytest.raises(BadData, match="2 captions for 7 images"):
        predict(Told(truth(test)[:9]), features, test, batch=7)


def test_features_of_another_encoder_are_refused_by_what_differs(data: tuple[PackedFeatures, EvaluationSet]) -> None:
    features, _ = data
    captioner = Told([])
    check_fit(captioner, features)
    captioner.card["features"] = asdict(replace(META, weights_digest="1" * 64, preprocessing="old"))
    with pytest.raises(BadData, match=r"\(weights_digest, preprocessing differ\): run export again"):
        check_fit(captioner, features)
    captioner.card = {}
    with pytest.raises(BadData, match="run export again"):
        check_fit(captioner, features)


def test_the_report_says_what_was_found(paths: Paths, data: tuple[PackedFeatures, EvaluationSet]) -> None:
    features, test = data
    said = [text if number % 2 else "a red ball" for number, text in enumerate(truth(test))]
    report = judge(PARAMS, paths, "merge", "d" * 64, test, features, predictions_of(test, said))
    ours = score(said, test.references)
    assert asdict(report.scores) == pytest.approx(asdict(ours), abs=1e-6)
    assert report.images == 24
    assert report.test_set == test.digest
    assert report.copied == 0.0
    assert report.human is not None
    assert report.slices["combination/unseen"].images == sum(r.tags["combination"] == "unseen" for r in test.records)
    assert report.slices["length/short"].images == 24
    assert report.slices["length/short"].cider == pytest.approx(report.scores.cider)
    assert report.wording["captions"].mean_words == pytest.approx(report.scores.mean_words)
    assert 0 < report.length_distance < 1
    assert report.dev is None
    assert report.gap == {}
    # The nearest training image shows the same thing under another number.
    assert 0 < report.baseline.bleu_4 < 100
    assert [one.index for one in report.shown] == list(range(24))
    assert [one.id for one in report.shown] == sorted(record.id for record in test.records)
    assert len(report.worst) == 10
    assert [one.cider for one in report.worst] == sorted(one.cider for one in report.worst)
    assert all(one.faults[0].startswith(one.fault) for one in report.worst)
    written = read_json(paths.report("evaluate", "merge"))
    assert written == json.loads(json.dumps(asdict(report)))
    assert written["digest"] == "d" * 64


def test_perfect_captions_are_better_than_the_baseline(
    paths: Paths, data: tuple[PackedFeatures, EvaluationSet]
) -> None:
    features, test = data
    report = judge(PARAMS, paths, "merge", "", test, features, predictions_of(test, truth(test)))
    assert report.scores.bleu_4 == pytest.approx(100.0)
    assert report.scores.cider > report.baseline.cider


def test_plots_and_gallery_lie_beside_the_report(paths: Paths, data: tuple[PackedFeatures, EvaluationSet]) -> None:
    features, test = data
    judge(PARAMS, paths, "merge", "d" * 64, test, features, predictions_of(test, truth(test)))
    folder = paths.plots("evaluate", "merge")
    assert sorted(file.name for file in folder.iterdir()) == ["faults.csv", "lengths.csv", "scores.csv", "slices.csv"]
    slices = (folder / "slices.csv").read_text().splitlines()
    assert slices[0] == "slice,images,cider,bleu_4"
    assert any(line.startswith("combination/seen,") for line in slices)
    scores = (folder / "scores.csv").read_text().splitlines()
    assert scores[0] == "score,model,nearest_neighbour,person"
    assert [line.split(",")[0] for line in scores[1:]] == ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "CIDEr", "ROUGE-L"]
    assert float(scores[1].split(",")[1]) == pytest.approx(100.0)
    assert len((folder / "lengths.csv").read_text().splitlines()) == 32
    html = (paths.predictions("merge") / "gallery.html").read_text()
    # Three of each kind (ten worst only where there are thirty images), and all 24 by index.
    assert html.count("<img ") == html.count("<figcaption>") == 3 + 3 + 3 + 24
    assert html.count('<ul class="notes">') == 3
    assert html.count("<svg ") == 1


@pytest.mark.parametrize(("images", "shown"), [(3, 2), (7, 4), (10, 7), (15, 12), (25, 19)])
def test_a_small_test_set_shows_each_image_once_at_most(paths: Paths, images: int, shown: int) -> None:
    write_images(paths, images)
    features = PackedFeatures.open(paths.features)
    test = select(read_manifest(paths.validated / "manifest.jsonl"), features.ids, "test")
    many = PARAMS.model_copy(update={"gallery": 50})
    judge(many, paths, "merge", "", test, features, predictions_of(test, truth(test)))
    html = (paths.predictions("merge") / "gallery.html").read_text()
    assert html.count("<img ") == shown
    by_score = [html.count(f">{record.id}<") for record in test.records]
    assert max(by_score) == 1, "among the worst, the best and the random ones no image stands twice"
    assert [html.count(f" · {record.id}<") for record in test.records] == [1] * len(test.records)
    assert 0 < html.count("<section ") <= 4
    assert html.count('<div class="cards"></div>') == 0


def test_outs_are_the_same_bytes_each_time(paths: Paths, data: tuple[PackedFeatures, EvaluationSet]) -> None:
    features, test = data

    def outs() -> dict[str, bytes]:
        judge(PARAMS, paths, "merge", "d" * 64, test, features, predictions_of(test, truth(test)))
        files = [*paths.predictions("merge").iterdir(), *paths.plots("evaluate", "merge").iterdir()]
        return {file.name: file.read_bytes() for file in [*files, paths.report("evaluate", "merge")]}

    first, second = outs(), outs()
    assert first == second
    assert len(first) == 6
    for name, content in first.items():
        assert str(paths.root).encode() not in content, name


def test_predictions_of_other_images_are_refused(paths: Paths, data: tuple[PackedFeatures, EvaluationSet]) -> None:
    features, test = data
    with pytest.raises(BadData, match="other images than the test set"):
        judge(PARAMS, paths, "merge", "", test, features, predictions_of(test, truth(test))[1:])


def test_without_an_artifact_it_says_which_stage_makes_one(paths: Paths) -> None:
    write_images(paths)
    with pytest.raises(BadData, match="run captioner export merge first"):
        run(PARAMS, paths, "merge")


def test_an_artifact_that_is_none_is_refused(paths: Paths) -> None:
    write_images(paths)
    artifact = paths.exported("merge") / "model.tar.gz"
    artifact.parent.mkdir(parents=True)
    artifact.write_bytes(b"not an archive")
    with pytest.raises(BadData, match="not a whole model archive"):
        run(PARAMS, paths, "merge")


def test_with_a_real_artifact(paths: Paths) -> None:
    from captioner.digests import sha256_file
    from captioner.model.captioner import Captioner
    from tests.tiny import write_tiny_model

    artifact = write_tiny_model(paths, "merge", "merge")
    meta = FeaturesMeta(**Captioner.load(artifact, paths.unpacked).card["features"])
    write_images(paths, 15, meta)
    report = run(PARAMS, paths, "merge")
    assert report.digest == sha256_file(artifact)
    assert report.images == 6
    saved = read_predictions(paths.predictions("merge") / "predictions.jsonl")
    assert len(saved) == 6
    assert all(len(one.captions) == 3 for one in saved)
    on_dev = read_predictions(paths.predictions("merge") / "predictions-dev.jsonl")
    assert report.dev is not None
    assert report.dev.images == len(on_dev) == 3
    assert {one.id for one in on_dev}.isdisjoint(one.id for one in saved)
    assert report.gap["bleu_1"] == pytest.approx(report.dev.bleu_1 - report.scores.bleu_1)
    assert all(one.captions[0].log_probability < 0 for one in saved)
    assert report.scores.mean_words == pytest.approx(
        np.mean([len(one.captions[0].caption.split()) for one in saved]), abs=1.0
    )
    before = (paths.predictions("merge") / "predictions.jsonl").read_bytes()
    run(PARAMS, paths, "merge")
    assert (paths.predictions("merge") / "predictions.jsonl").read_bytes() == before


def test_an_artifact_that_looks_at_mirror_images_is_shown_pictures(paths: Paths) -> None:
    from captioner.model.captioner import Captioner
    from tests.tiny import write_tiny_model

    captioner = Captioner.load(write_tiny_model(paths, "merge", "merge", flip=True), paths.unpacked)
    records = write_images(paths, 15, FeaturesMeta(**captioner.card["features"]))  # features of no picture
    run(PARAMS, paths, "merge")
    with PackReader(paths.raw) as packs:
        pictures = {r.id: packs.read(r) for r in records if r.split == "test"}
    wanted = captioner.caption(list(pictures.values()))
    saved = read_predictions(paths.predictions("merge") / "predictions.jsonl")
    assert [one.id for one in saved] == list(pictures)
    found = [[c.log_probability for c in one.captions] for one in saved]
    np.testing.assert_allclose(found, [[c.log_probability for c in row] for row in wanted], atol=1e-4)


def test_images_without_references_are_counted(paths: Paths) -> None:
    records = write_images(paths)
    bare = [replace(r, captions=()) if r.split == "test" and i % 10 == 2 else r for i, r in enumerate(records)]
    write_manifest(paths.validated / "manifest.jsonl", bare)
    features = PackedFeatures.open(paths.features)
    test = select(read_manifest(paths.validated / "manifest.jsonl"), features.ids, "test")
    report = judge(PARAMS, paths, "merge", "", test, features, predictions_of(test, truth(test)))
    assert (report.images, report.without_references) == (18, 6)


def test_tuning_on_dev_never_looks_at_test(paths: Paths, data: tuple[PackedFeatures, EvaluationSet]) -> None:
    features, _ = data
    manifest = read_manifest(paths.validated / "manifest.jsonl")
    nobody = Told([])  # would have nothing to say about any image
    tuning = PARAMS.model_copy(update={"split": "dev"})
    assert score_dev(tuning, paths, "merge", nobody, manifest, features) is None
    assert nobody.batches == []


def test_without_a_dev_split_there_is_no_gap(paths: Paths, data: tuple[PackedFeatures, EvaluationSet]) -> None:
    features, _ = data
    manifest = read_manifest(paths.validated / "manifest.jsonl")
    bare = [replace(record, captions=()) if record.split == "dev" else record for record in manifest]
    assert score_dev(PARAMS, paths, "merge", Told([]), bare, features) is None
    found = score_dev(PARAMS, paths, "merge", Told(["a red ball"] * 12), manifest, features)
    assert found is not None
    assert found.images == 12


def test_the_report_reads_as_text(paths: Paths, data: tuple[PackedFeatures, EvaluationSet]) -> None:
    features, test = data
    report = judge(
        PARAMS,
        paths,
        "merge",
        "",
        test,
        features,
        predictions_of(test, truth(test)),
        score(truth(test), test.references),
    )
    text = report.render()
    for words in (
        "merge on 24 images of test",
        "this model",
        "on dev",
        "a person",
        "length/short",
        "fault",
        "lowest CIDEr",
    ):
        assert words in text, words
