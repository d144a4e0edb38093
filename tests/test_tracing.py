"""Traces as they are shown, lines of a caption log, and the commands that make a model again."""

from __future__ import annotations

import json

import pytest

from captioner.errors import BadInput
from captioner.tracing import Link, Recipe, Told, Trace, commands, kind_of, told_by

DIGEST = "d" * 64
RECIPE = Recipe("https://example.org/captioner.git", "abc123", "merge", DIGEST)


def test_a_line_of_a_caption_log_names_its_model() -> None:
    line = {"image": "a.jpg", "caption": "a dog", "log_probability": -1.0, "model": {"version": "3", "digest": DIGEST}}
    assert told_by(json.dumps(line)) == Told("a.jpg", "a dog", "3", DIGEST)
    # What a serving container logs has the inference, and neither picture nor caption.
    log = {"time": "2026-01-02T03:04:05.678Z", "event": "invocation", "inference_id": "request-7", "images": 1}
    assert told_by(json.dumps({**log, "model": line["model"]})) == Told(
        "", "", "3", DIGEST, inference="request-7", at="2026-01-02T03:04:05.678Z"
    )
    # A model.tar.gz that no registry knows has no version.
    assert told_by(json.dumps({**line, "model": {"version": None, "digest": DIGEST}})).version == ""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{oops", "no line of a caption log"),
        ('{"image": "a.jpg", "error": "a.jpg is empty."}', "no caption was made: a.jpg is empty."),
        ('{"caption": "a dog"}', "names no model"),
        ('{"caption": "a dog", "model": "champion"}', "names no model"),
    ],
)
def test_a_line_without_a_model_is_refused_in_a_sentence(line: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        told_by(line)


def test_what_was_asked_for_is_told_apart() -> None:
    def kind(asked: str) -> str:
        return kind_of(asked, "captioner-sample", ["champion", "challenger"])

    assert kind("captioner-sample") == "endpoint"
    assert kind("challenger") == "variant"
    assert kind(' {"caption": "x"}') == "line"
    assert kind("request-7") == "inference"


def test_broken_links_are_named_where_they_are() -> None:
    links = (
        Link("artifact", {"sha256": DIGEST}),
        Link("run", {"id": "r1"}, "it was deleted"),
        Link("commit", {}, "it was not known"),
    )
    trace = Trace("champion", links, ("git checkout abc",))
    lines = trace.render().splitlines()
    assert lines[0] == f"artifact  sha256 {DIGEST}"
    assert lines[1:3] == ["run       id r1", "          BROKEN: it was deleted"]
    assert lines[3] == "commit    BROKEN: it was not known"
    assert lines[-1] == "  git checkout abc"
    assert trace.broken == ("run: it was deleted", "commit: it was not known")


def test_the_commands_end_with_the_check_that_it_is_the_one() -> None:
    lines = commands(RECIPE)
    assert lines[0] == "git clone https://example.org/captioner.git rebuild && cd rebuild"
    assert lines[1] == "git checkout abc123"
    assert lines[-2] == ".venv/bin/dvc repro export@merge"
    assert lines[-1] == f"echo '{DIGEST}  models/candidates/merge/exported/model.tar.gz' | sha256sum --check"
    assert not any("mlflow" in line for line in lines)


def test_what_the_commit_has_otherwise_comes_from_the_run() -> None:
    uri = "http://127.0.0.1:5000"
    recipe = Recipe("/a b/repo", "abc", "merge", DIGEST, "run-1", uri, ("dvc.lock", "params.yaml"))
    lines = commands(recipe)
    assert lines[0].startswith("git clone '/a b/repo' rebuild")
    assert [line for line in lines if "mlflow" in line] == [
        f"MLFLOW_TRACKING_URI={uri} .venv/bin/mlflow artifacts download "
        f"--run-id run-1 --artifact-path {file} --dst-path ."
        for file in ("dvc.lock", "params.yaml")
    ]


def test_a_shipped_model_is_checked_as_evaluated_and_as_packed() -> None:
    lines = commands(Recipe("r", "abc", "attention", DIGEST, profile="flickr8k", packed="e" * 64))
    assert ".venv/bin/captioner profile use flickr8k" in lines
    assert lines[-2:] == (
        ".venv/bin/captioner package --model shipped --out shipped.tar.gz",
        f"echo '{'e' * 64}  shipped.tar.gz' | sha256sum --check",
    )
