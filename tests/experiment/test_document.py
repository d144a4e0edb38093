"""The experiment's document: read as it was written, refused when it is something else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from captioner.errors import BadData
from captioner.experiment.document import as_document, experiment_of
from captioner.release.ramp import with_shares
from tests.experiment.worlds import running


def test_a_document_is_read_as_it_was_written() -> None:
    written = json.loads(json.dumps(as_document(running(0.25))))
    assert experiment_of(written) == running(0.25)


def test_a_ramp_changes_the_shares_and_nothing_else() -> None:
    assert experiment_of(with_shares(as_document(running(0.05)), 0.1)) == running(0.1)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"arms": None},
        {"shares": {"champion": 1.0}},
        {"shares": {"champion": -0.5, "challenger": 1.5}},
        {"surprise": 1},
    ],
)
def test_what_is_no_experiment_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadData):
        experiment_of({**as_document(running(0.5)), **change})


@pytest.mark.parametrize("value", [None, 1, "text", [], {}])
def test_any_json_is_refused_in_one_sentence(value: Any) -> None:
    with pytest.raises(BadData, match="not the document of an experiment"):
        experiment_of(value)
