"""scripts/decoding.py: the scores that beam and length power are chosen by are those of what is exported then."""

from __future__ import annotations

from pathlib import Path

import pytest

from captioner.evaluation import select
from captioner.featurestore.packed import PackedFeatures
from captioner.metrics import score
from captioner.model.artifact import build_artifact
from captioner.model.captioner import Captioner
from captioner.packs import PackReader
from captioner.records import read_manifest
from captioner.stages.evaluate import predict
from tests.learned import CANDIDATE, Learned
from tests.loading import script

decoding = script("decoding")

pytestmark = pytest.mark.timeout(600)  # the first test waits for the training


def test_its_figures_are_the_artifacts_own(
    learned: Learned, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(learned.paths.root)
    export = learned.params.export
    assert decoding.main([CANDIDATE, "--beams", str(export.beam), "--powers", str(export.length_power)]) == 0
    row = capsys.readouterr().out.splitlines()[-1].split(" | ")
    features = PackedFeatures.open(learned.paths.features)
    dev = select(read_manifest(learned.paths.validated / "manifest.jsonl"), features.ids, "dev")
    said = predict(Captioner.load(learned.artifact), features, dev, 32)
    ours = score([one.captions[0].caption for one in said], dev.references)
    assert row[6:9] == [f"{ours.bleu_1:.2f}", f"{ours.bleu_4:.2f}", f"{ours.cider:.2f}"]


def test_shown_mirror_images_too_they_are_those_of_an_artifact_that_looks_at_them(
    learned: Learned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(learned.paths.root)
    export, artifact = learned.params.export.model_copy(update={"flip": True}), tmp_path / "model.tar.gz"
    arguments = [CANDIDATE, "--beams", str(export.beam), "--powers", str(export.length_power)]
    rows = []
    for more in ([], ["--flip"]):
        assert decoding.main([*arguments, *more]) == 0
        rows.append(capsys.readouterr().out.splitlines()[-1].split(" | ")[6:9])
    build_artifact(learned.paths.trained(CANDIDATE), export, CANDIDATE, artifact, None, learned.paths.home / "encoders")
    features = PackedFeatures.open(learned.paths.features)
    dev = select(read_manifest(learned.paths.validated / "manifest.jsonl"), features.ids, "dev")
    with PackReader(learned.paths.raw) as packs:
        said = predict(Captioner.load(artifact, tmp_path), features, dev, 32, packs)
    ours = score([one.captions[0].caption for one in said], dev.references)
    assert rows[1] == [f"{ours.bleu_1:.2f}", f"{ours.bleu_4:.2f}", f"{ours.cider:.2f}"]
    assert rows[0] != rows[1], "scenes that lie left and right of each other are not the same in a mirror"


def test_greedy_search_has_one_row_whatever_the_powers(
    learned: Learned, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(learned.paths.root)
    assert decoding.main([CANDIDATE, "--beams", "1", "2", "--no-repeat", "0", "2", "--images", "20"]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    ways = [["1", "–"], ["2", "0.5"], ["2", "0.8"], ["2", "1.1"]]
    assert [row.split(" | ")[1:3] for row in rows] == 2 * ways
    assert [row.split(" | ")[5] for row in rows] == 4 * ["–"] + 4 * ["2"]


@pytest.mark.parametrize(
    "arguments", [["--beams", "0"], ["--powers", "-1"], ["--images", "0"], ["--no-repeat", "-1"], ["nobody"]]
)
def test_what_cannot_be_is_one_sentence(
    arguments: list[str], project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    assert decoding.main(arguments) != 0
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.strip().splitlines()) == 1
    assert said.err.startswith("decoding: ")
