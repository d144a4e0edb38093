"""register: aliases, the gate's outcomes, what a run ends up with, and that doing it twice does nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from captioner.errors import BadData, GateFailed
from captioner.params import RegisterParams, load_params
from captioner.paths import Paths
from captioner.records import write_json
from captioner.shipped import Shipped, read_shipped
from captioner.stages import register
from captioner.stages.register import RegisterReport, report_path
from tests.evaluated import good, references, write_candidate, write_test_set
from tests.fakes import FakeRegistry, FakeTracker

NAME = "captioner-sample"
Register = Callable[..., RegisterReport]


@pytest.fixture
def tracker() -> FakeTracker:
    return FakeTracker()


@pytest.fixture
def registry(tracker: FakeTracker) -> FakeRegistry:
    return FakeRegistry(tracker)


@pytest.fixture
def params(paths: Paths) -> RegisterParams:
    """min_slice is small enough for the slices of 60 images to be judged."""
    return load_params(paths.params).register_.model_copy(update={"min_slice": 10, "resamples": 200})


@pytest.fixture
def registered(paths: Paths, params: RegisterParams, tracker: FakeTracker, registry: FakeRegistry) -> Register:
    """Run the stage on what lies in the project, whose test set is written."""
    write_test_set(paths)

    def run(*candidates: str, **changes: object) -> RegisterReport:
        changed = params.model_copy(update=changes)
        return register.run(changed, paths, tracker, registry, NAME, candidates)

    return run


def wrong_for(share: int) -> Callable[[int], str]:
    """Captions of which every `share`-th is wrong."""
    return lambda n: f"a yellow car {n % 7}" if n % share == 0 else good(n)


def other_words(n: int) -> str:
    """As good as `good`, in other words."""
    return references(n)[1]


def test_the_first_becomes_champion_and_the_second_challenger(
    paths: Paths, registered: Register, registry: FakeRegistry
) -> None:
    write_candidate(paths, "merge", wrong_for(6))
    digest = write_candidate(paths, "attention")
    report = registered("merge", "attention")
    assert [one.outcome for one in report.candidates] == ["champion", "challenger"]
    assert (report.champion, report.challenger) == ("1", "2")
    assert registry.by_alias(NAME, "challenger").digest == digest
    assert registry.by_alias(NAME, "challenger").tags["captioner.gate"] == "passed"


def test_a_second_run_on_the_same_changes_nothing_and_says_so(
    paths: Paths, registered: Register, registry: FakeRegistry, tracker: FakeTracker
) -> None:
    write_candidate(paths, "merge", wrong_for(6))
    write_candidate(paths, "attention")
    registered("merge", "attention")
    before = (dict(registry.versions), dict(registry.aliases), len(tracker.runs), len(tracker.runs[0].history))
    report = registered("merge", "attention")
    assert [one.outcome for one in report.candidates] == ["no news", "no news"]
    assert "no news: version 1 (champion)" in report.render()
    assert before == (registry.versions, registry.aliases, len(tracker.runs), len(tracker.runs[0].history))


def test_a_clearly_worse_model_is_refused_registered_without_alias_and_ends_the_stage(
    paths: Paths, registered: Register, registry: FakeRegistry
) -> None:
    write_candidate(paths, "merge")
    registered("merge")
    digest = write_candidate(paths, "attention", wrong_for(2))
    with pytest.raises(GateFailed, match=r"attention: refused.*version 2.*CIDEr differs.*interval -") as failure:
        registered("merge", "attention")
    assert failure.value.exit_code == 1
    refused = registry.by_digest(NAME, digest)
    assert refused.aliases == ()
    assert refused.tags["captioner.gate"].startswith("failed: Its CIDEr")
    assert registry.by_alias(NAME, "challenger") is None
    written = json.loads(report_path(paths).read_text())
    assert [one["outcome"] for one in written["candidates"]] == ["no news", "refused"]
    assert "| non-inferiority | **no** |" in written["markdown"]


def test_a_refusal_stands_until_the_gate_or_the_champion_changes(
    paths: Paths, registered: Register, registry: FakeRegistry
) -> None:
    write_candidate(paths, "merge")
    write_candidate(paths, "attention", wrong_for(5))
    with pytest.raises(GateFailed):
        registered("merge", "attention")
    with pytest.raises(GateFailed, match="refused before as version 2, and nothing has changed since"):
        registered("merge", "attention")
    report = registered("merge", "attention", margin=1000.0, max_slice_drop=1000.0)
    assert [one.outcome for one in report.candidates] == ["no news", "challenger"]
    assert len(registry.versions) == 2


def test_a_first_champion_must_reach_the_floor(paths: Paths, registered: Register, registry: FakeRegistry) -> None:
    write_candidate(paths, "merge", lambda n: f"nothing {n}")
    write_candidate(paths, "attention")
    with pytest.raises(GateFailed, match=r"merge: refused.*needs at least 50\.0"):
        registered("merge", "attention")
    assert registry.by_alias(NAME, "champion").tags["captioner.candidate"] == "attention"


def test_one_caption_for_all_is_a_collapse(paths: Paths, registered: Register) -> None:
    write_candidate(paths, "merge", lambda n: good(0))
    with pytest.raises(GateFailed, match=r"1\.7% of its captions are distinct"):
        registered("merge", min_score=0.0)


def test_an_artifact_without_parity_is_refused(paths: Paths, registered: Register) -> None:
    write_candidate(paths, "merge", parity=False)
    with pytest.raises(GateFailed, match="does not repeat what training says"):
        registered("merge")


def test_another_test_set_cannot_be_compared(paths: Paths, registered: Register, registry: FakeRegistry) -> None:
    write_candidate(paths, "merge")
    registered("merge")
    write_test_set(paths, images=59)
    write_candidate(paths, "attention", images=59)
    with pytest.raises(GateFailed, match="cannot be compared"):
        registered("attention")
    assert registry.by_alias(NAME, "champion").version == "1"


def test_a_champion_that_somebody_registered_by_hand_cannot_be_compared(
    paths: Paths, registered: Register, registry: FakeRegistry, tmp_path: Path
) -> None:
    (tmp_path / "foreign").write_bytes(b"foreign")
    registry.create(NAME, tmp_path / "foreign", "", {})
    registry.set_alias(NAME, "champion", "1")
    write_candidate(paths, "merge")
    with pytest.raises(GateFailed, match="on none that is known"):
        registered("merge")


def test_a_slice_that_drops_is_a_reason_even_when_the_whole_is_not_worse(paths: Paths, registered: Register) -> None:
    write_candidate(paths, "merge", other_words)
    registered("merge")
    write_candidate(paths, "attention", lambda n: f"a yellow car {n}" if n % 4 == 1 else good(n))
    with pytest.raises(GateFailed, match=r"Too much is lost in: cat -\d+\.\d \(15 images\)"):
        registered("attention", margin=1000.0)


def test_small_slices_are_shown_and_not_judged(paths: Paths, registered: Register) -> None:
    write_candidate(paths, "merge", other_words)
    registered("merge")
    write_candidate(paths, "attention", lambda n: f"a yellow car {n}" if n % 4 == 1 else good(n))
    report = registered("attention", margin=1000.0, min_slice=16)
    assert report.candidates[0].outcome == "challenger"
    assert "too small to judge" in report.markdown()


def test_a_retrained_candidate_of_the_champions_kind_becomes_challenger(
    paths: Paths, registered: Register, registry: FakeRegistry
) -> None:
    write_candidate(paths, "merge", wrong_for(6))
    registered("merge")
    write_candidate(paths, "merge")
    assert registered("merge").candidates[0].outcome == "challenger"
    assert registry.by_alias(NAME, "champion").version == "1"


def test_promotion_by_hand_is_respected(paths: Paths, registered: Register, registry: FakeRegistry) -> None:
    write_candidate(paths, "merge", wrong_for(6))
    write_candidate(paths, "attention")
    registered("merge", "attention")
    registry.set_alias(NAME, "champion", "2")
    registry.drop_alias(NAME, "challenger")
    report = registered("merge", "attention")
    assert [one.outcome for one in report.candidates] == ["no news", "no news"]
    assert (report.champion, report.challenger) == ("2", None)


def test_bleu_can_be_the_metric(paths: Paths, registered: Register) -> None:
    write_candidate(paths, "merge", wrong_for(6))
    write_candidate(paths, "attention")
    report = registered("merge", "attention", metric="bleu_4")
    assert report.candidates[1].verdict.interval.difference > 0
    assert "BLEU-4 differs" in report.render()


def test_a_registration_that_was_cut_short_is_finished(
    paths: Paths, registered: Register, registry: FakeRegistry, tracker: FakeTracker
) -> None:
    write_candidate(paths, "merge")

    class Cut(Exception):
        pass

    def cut(*_: object) -> None:
        raise Cut

    registry.set_alias, kept = cut, registry.set_alias  # type: ignore[method-assign]
    with pytest.raises(Cut):
        registered("merge")
    registry.set_alias = kept  # type: ignore[method-assign]
    assert registered("merge").candidates[0].outcome == "champion"
    assert len(registry.versions) == 1
    assert len(tracker.runs) == 1


# What a run ends up with


def test_the_training_run_is_found_by_its_weights_and_completed(
    paths: Paths, registered: Register, tracker: FakeTracker, registry: FakeRegistry
) -> None:
    digest = write_candidate(paths, "merge")
    weights = json.loads(paths.report("train", "merge").read_text())["weights_digest"]
    trained = tracker.start("train-merge", {"captioner.weights_digest": weights, "captioner.git_sha": "abc"})
    (paths.root / "dvc.lock").write_text("stages: {validate: {outs: [{path: data/validated, md5: f00.dir}]}}")
    docs = paths.data_docs
    docs.mkdir(parents=True)
    (docs / "index.html").write_text("docs")

    report = registered("merge")

    assert tracker.runs == [trained]
    assert report.candidates[0].run_id == trained.id
    assert trained.status == "finished"
    assert trained.kept_tags["captioner.digest"] == digest
    assert trained.kept_tags["captioner.dataset"] == "sample"
    assert registry.by_digest(NAME, digest).tags["captioner.git_sha"] == "abc"
    assert ("validated", "f00.dir", "data/validated", "captions") in trained.datasets
    assert trained.latest["test_cider"] > 50
    assert trained.latest["slice_cider/dog"] > 0
    assert 0 < trained.latest["baseline/cider"] < trained.latest["test_cider"]
    assert trained.latest["artifact_on_dev/cider"] > 50
    assert trained.latest["dev_gap/cider"] == 0
    assert trained.latest["wording/copied"] == 0.25
    assert trained.latest["wording_mean_words/captions"] > 5
    assert trained.latest["faults_captions/wrong subject"] == 0
    assert not [name for name in trained.latest if name.startswith("dev_") and not name.startswith("dev_gap/")]
    assert trained.kept_params["export"]["beam"] == 3
    assert "train" not in trained.kept_params  # the train stage logged them
    for file in ("evaluation/predictions.jsonl", "evaluation/gallery.html", "dvc.lock", "params.yaml"):
        assert file in trained.files
    assert trained.files["data_docs/index.html"] == b"docs"
    assert "plots/train-merge/epochs.csv" in trained.files
    for figure in ("learning", "scores", "slices", "faults"):
        assert trained.files[f"figures/{figure}.png"].startswith(b"\x89PNG")


def test_a_run_is_rebuilt_when_training_was_cached(paths: Paths, registered: Register, tracker: FakeTracker) -> None:
    write_candidate(paths, "merge")
    registered("merge")
    (run,) = tracker.runs
    assert run.history[0] == (1, {"loss": 3.0, "learning_rate": 0.001, "dev_cider": 20.0, "dev_bleu_4": 9.0})
    assert run.history[1][0] == 2
    assert run.kept_params["train"]["epochs"] == load_params(paths.params).train.epochs
    assert run.kept_params["decoder"]["kind"] == "merge"
    assert "captioner.rebuilt" in run.kept_tags


def test_the_same_weights_exported_anew_get_a_run_of_their_own(
    paths: Paths, registered: Register, tracker: FakeTracker
) -> None:
    write_candidate(paths, "merge", wrong_for(6), weights="the same")
    registered("merge")
    write_candidate(paths, "merge", weights="the same")
    registered("merge")
    first, second = tracker.runs
    assert first.kept_tags["captioner.weights_digest"] == second.kept_tags["captioner.weights_digest"]
    assert first.kept_tags["captioner.digest"] != second.kept_tags["captioner.digest"]


def test_a_version_carries_its_lineage(paths: Paths, registered: Register, registry: FakeRegistry) -> None:
    write_candidate(paths, "merge")
    (paths.root / "dvc.lock").write_text("stages: {features: {outs: [{path: data/features, md5: cafe.dir}]}}")
    registered("merge")
    tags = registry.by_alias(NAME, "champion").tags
    assert tags["captioner.git_sha"] == "unknown"  # of the training's run, which this tracker gave no commit
    assert tags["captioner.dvc.features"] == "cafe.dir"
    assert tags["captioner.dvc.validated"] == "unknown"
    assert float(tags["captioner.test.cider"]) > 50
    assert set(json.loads(tags["captioner.slices"])) == {"dog", "cat", "horse", "bird"}
    assert tags["captioner.candidate"] == "merge"
    assert len(tags["captioner.test_set"]) == 64


# The shipped model as the first champion


@pytest.fixture
def with_shipped(paths: Paths, shipped_project: Path, rebuilt: Path) -> Shipped:
    """The project has a shipped model that was evaluated on its test set and put together here before."""
    shutil.copytree(shipped_project / "models" / "shipped", paths.shipped)
    shutil.copytree(rebuilt, paths.rebuilt)
    return read_shipped(paths.shipped)


def test_the_shipped_model_is_the_first_champion_which_a_new_one_must_beat(
    paths: Paths, registered: Register, registry: FakeRegistry, with_shipped: Shipped
) -> None:
    write_candidate(paths, "merge", wrong_for(2))
    write_candidate(paths, "attention", other_words)
    with pytest.raises(GateFailed, match=r"^merge: refused.*CIDEr differs from that of version 1, the champion"):
        registered("merge", first_champion="shipped")
    report = registered("attention", first_champion="shipped", margin=1000.0, max_slice_drop=1000.0)
    assert report.champion == "1"
    assert [one.candidate for one in report.candidates] == ["attention"]  # once there is a champion, it is left alone
    assert report.candidates[0].outcome == "challenger"
    champion = registry.by_alias(NAME, "champion")
    assert champion.digest == with_shipped.digest
    assert champion.tags["captioner.candidate"] == "shipped"
    assert champion.tags["captioner.gate"] == "passed"


def test_the_shipped_models_lineage_is_its_cards(
    paths: Paths, registered: Register, registry: FakeRegistry, tracker: FakeTracker, with_shipped: Shipped
) -> None:
    card = {**with_shipped.card, "git": {"sha": "c0ffee", "dirty": False}}
    card["dataset"] = {**card["dataset"], "dvc": {"raw": "r.dir", "validated": "v.dir"}}
    write_json(paths.shipped / "card.json", card)
    (paths.root / "dvc.lock").write_text("stages: {validate: {outs: [{path: data/validated, md5: other.dir}]}}")
    write_candidate(paths, "attention", other_words)
    registered("attention", first_champion="shipped", margin=1000.0, max_slice_drop=1000.0)

    tags = registry.by_alias(NAME, "champion").tags
    assert tags["captioner.git_sha"] == "c0ffee"
    assert tags["captioner.dataset"] == "flickr8k"
    assert tags["captioner.shipped_digest"] == with_shipped.digest
    assert (tags["captioner.dvc.raw"], tags["captioner.dvc.validated"]) == ("r.dir", "v.dir")
    run = tracker.runs[0]
    assert run.kept_tags["captioner.git_sha"] == "c0ffee"
    assert ("validated", "v.dir", "data/validated", "captions") in run.datasets
    assert run.kept_params["decoder"]["units"] == 12
    assert run.files["evaluation/predictions.jsonl"] == (paths.shipped / "predictions.jsonl").read_bytes()
    assert run.files.keys() >= {"reports/card.json", "reports/README.md"}
    challenger = registry.by_alias(NAME, "challenger").tags
    assert challenger["captioner.dvc.validated"] == "other.dir"
    assert "captioner.shipped_digest" not in challenger


def test_a_shipped_model_of_another_test_set_is_not_used_and_that_is_said(
    paths: Paths, registered: Register, registry: FakeRegistry, with_shipped: Shipped
) -> None:
    write_test_set(paths, images=59)
    write_candidate(paths, "attention", images=59)
    report = registered("attention", first_champion="shipped")
    assert [one.candidate for one in report.candidates] == ["attention"]
    assert report.candidates[0].outcome == "champion"
    assert "The shipped model was evaluated on the test set" in report.render().splitlines()[0]
    assert "not registered as the first champion" in report.markdown()


def test_without_a_shipped_model_the_first_candidate_is_champion(paths: Paths, registered: Register) -> None:
    write_candidate(paths, "attention")
    report = registered("attention", first_champion="shipped")
    assert report.candidates[0].outcome == "champion"
    assert report.notes == ("There is no shipped model (models/shipped) to be the first champion.",)


def test_a_profile_that_does_not_ask_never_meets_it(paths: Paths, registered: Register, with_shipped: Shipped) -> None:
    write_candidate(paths, "attention")
    report = registered("attention")
    assert [one.candidate for one in report.candidates] == ["attention"]
    assert report.notes == ()
    assert load_params(paths.params).register_.first_champion is None
    assert load_params(paths.profiles / "folder.yaml").register_.first_champion is None
    assert load_params(paths.profiles / "flickr8k.yaml").register_.first_champion == "shipped"


def test_a_shipped_model_that_the_gate_refuses_is_in_nobodys_way(
    paths: Paths, registered: Register, registry: FakeRegistry, with_shipped: Shipped
) -> None:
    # Another artifact than the evaluated one, as another TensorFlow would build it, which says something else.
    card = dict(with_shipped.card)
    card["artifact"] = {**card["artifact"], "digest": "0" * 64}
    card["golden"] = {name: {**said, "caption": "a car"} for name, said in card["golden"].items()}
    write_json(paths.shipped / "card.json", card)
    write_candidate(paths, "attention")
    report = registered("attention", first_champion="shipped")
    assert [(one.candidate, one.outcome) for one in report.candidates] == [
        ("shipped", "refused"),
        ("attention", "champion"),
    ]
    assert registry.by_alias(NAME, "champion").tags["captioner.candidate"] == "attention"


# What is wrong is said in one sentence


def test_a_missing_report_names_the_file(paths: Paths, registered: Register) -> None:
    with pytest.raises(BadData, match=r"train-merge\.json is missing"):
        registered("merge")


def test_reports_of_different_artifacts_are_not_mixed(paths: Paths, registered: Register) -> None:
    write_candidate(paths, "merge")
    evaluated = paths.report("evaluate", "merge")
    evaluated.write_text(json.dumps({**json.loads(evaluated.read_text()), "digest": "0" * 64}))
    with pytest.raises(BadData, match="do not belong together"):
        registered("merge")


def test_a_report_without_scores_is_said(paths: Paths, registered: Register) -> None:
    write_candidate(paths, "merge")
    paths.report("evaluate", "merge").write_text(json.dumps({"digest": "x"}))
    with pytest.raises(BadData, match="lack what register needs"):
        registered("merge")


def test_an_evaluation_on_other_references_is_not_judged(paths: Paths, registered: Register) -> None:
    write_candidate(paths, "merge", images=59)
    with pytest.raises(BadData, match="merge was evaluated on another test set than data/validated has"):
        registered("merge")


def test_predictions_of_other_images_are_not_scored(paths: Paths, registered: Register) -> None:
    write_candidate(paths, "merge")
    predictions = paths.predictions("merge") / "predictions.jsonl"
    predictions.write_text("".join(predictions.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(BadData, match=r"predictions of merge \(59 rows\) are not those of the 60 test images"):
        registered("merge")
