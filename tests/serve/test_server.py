"""The served process: its environment and its folder are checked before anything, and it is warm before it listens."""

from pathlib import Path

import pytest

from captioner.errors import BadData, BadParams
from captioner.serve import main
from captioner.serve.server import load, number, warm_up_image


def test_a_folder_without_a_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"no 1/saved_model\.pb"):
        load(tmp_path)


def test_a_bad_number_in_the_environment_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTIONER_WORKERS", "many")
    with pytest.raises(BadParams, match="CAPTIONER_WORKERS is 'many'"):
        main(tmp_path)
    assert number({"N": "3"}, "N", 1) == 3
    assert number({}, "N", 2) == 2


def test_the_warm_up_picture_is_a_plain_png() -> None:
    from captioner.images import normalise

    assert normalise(warm_up_image()) == warm_up_image()
