"""The command line of `captioner deploy`: what its words mean, and what it does not do unasked."""

from __future__ import annotations

from pathlib import Path

import pytest

from captioner.cli import main, parser
from captioner.commands import deploy


def test_plain_deploy_is_apply() -> None:
    plain, apply = parser().parse_args(["deploy"]), parser().parse_args(["deploy", "apply"])
    assert plain.handler is apply.handler is deploy._apply
    assert parser().parse_args(["deploy", "plan"]).handler is deploy._plan


@pytest.mark.parametrize("words", [["deploy", "--json", "plan"], ["deploy", "plan", "--json"], ["deploy", "--json"]])
def test_json_may_be_said_before_or_after_the_action(words: list[str]) -> None:
    assert parser().parse_args(words).json
    assert not parser().parse_args([word for word in words if word != "--json"]).json


def test_the_steps_of_a_ramp_are_percentages_and_its_wait_the_params_own() -> None:
    options = parser().parse_args(["deploy", "ramp", "10", "25", "50"])
    assert (options.percents, options.wait) == ([10.0, 25.0, 50.0], None)
    assert parser().parse_args(["deploy", "ramp", "5", "--wait", "60"]).wait == 60


def test_nothing_is_deleted_where_nobody_can_be_asked(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    with open("/dev/null") as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        assert main(["deploy", "down"]) == 2
    assert "say --yes" in capsys.readouterr().err


def test_a_stack_that_is_not_up_is_said(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    assert main(["deploy", "down", "--yes"]) == 2
    assert "run `captioner up`" in capsys.readouterr().err
    assert main(["deploy", "ramp", "10"]) == 2
    assert "run `captioner up`" in capsys.readouterr().err


def test_a_param_that_does_not_exist_is_refused_with_those_that_do(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    file = project / "params.yaml"
    file.write_text(file.read_text().replace("max_wait_s: 300}", "max_wait_s: 300, canary: {size: 10}}"))
    assert main(["deploy", "plan"]) == 2
    said = capsys.readouterr().err
    assert "deploy.canary" in said
    assert "size_percent" in said
