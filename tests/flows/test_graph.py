"""The graph as DVC sees it: order, what depends on what, what is stale."""

from __future__ import annotations

from pathlib import Path

import pytest

from captioner.errors import BadData, BadEnvironment, BadParams
from flows.graph import Graph, Stage, is_stale, read_graph
from tests.flows.projects import make_project


def test_the_projects_own_graph_runs_in_the_designs_order(root: Path) -> None:
    names = [stage.name for stage in read_graph(root).stages]
    assert names == [
        *("acquire", "validate", "features"),
        *("train@merge", "train@attention"),
        *("export@merge", "export@attention"),
        *("evaluate@merge", "evaluate@attention"),
    ]


def test_a_stage_knows_its_verb_its_candidate_and_all_upstream(tmp_path: Path) -> None:
    one, a, b = read_graph(make_project(tmp_path / "project")).stages
    assert (one.name, one.verb, one.candidate, one.key, one.upstream) == ("one", "one", None, "one", frozenset())
    assert (a.name, a.verb, a.candidate, a.key) == ("two@a", "two", "a", "two-a")
    assert a.upstream == b.upstream == {"one"}


def test_stale_is_what_dvc_would_run_first(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    assert read_graph(project).stale >= {"one"}
    assert is_stale(project, "one")


GRAPH = Graph(
    stages=(
        Stage("features", frozenset()),
        Stage("train@a", frozenset({"features"})),
        Stage("train@b", frozenset({"features"})),
        Stage("export@a", frozenset({"features", "train@a"})),
    ),
    stale=frozenset(),
)


@pytest.mark.parametrize(
    ("targets", "chosen"),
    [
        (None, ["features", "train@a", "train@b", "export@a"]),
        ([], ["features", "train@a", "train@b", "export@a"]),
        (["features"], ["features"]),
        (["train"], ["features", "train@a", "train@b"]),
        (["train@b"], ["features", "train@b"]),
        (["export@a"], ["features", "train@a", "export@a"]),
    ],
)
def test_select_takes_what_the_targets_depend_on(targets: list[str] | None, chosen: list[str]) -> None:
    assert [stage.name for stage in GRAPH.select(targets)] == chosen


@pytest.mark.parametrize("target", ["tarin", "train@c", ""])
def test_select_refuses_an_unknown_stage_and_names_the_valid_ones(target: str) -> None:
    with pytest.raises(BadParams, match=r"dvc\.yaml has: features, train@a, train@b, export@a"):
        GRAPH.select(["train", target])


def test_a_folder_without_dvc_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadEnvironment, match="dvc init"):
        read_graph(tmp_path)


def test_a_broken_graph_is_a_sentence(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project", graph="stages: {one: {comd: true}}")
    with pytest.raises(BadData, match="DVC cannot read the graph"):
        read_graph(project)
