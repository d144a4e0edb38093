from __future__ import annotations

from pathlib import Path

import pytest

from captioner import profiles
from captioner.cli import main
from captioner.errors import BadEnvironment, BadParams
from captioner.params import load_params
from captioner.paths import Paths


def test_every_profile_passes_and_is_named_after_itself(root: Path, paths: Paths) -> None:
    assert profiles.names(paths) == ("flickr8k", "flickr8k-best", "flickr8k-tuned", "folder", "sample")
    for name in profiles.names(paths):
        assert load_params(paths.profiles / f"{name}.yaml").profile == name


def test_the_checkout_holds_the_sample_profile(root: Path) -> None:
    assert (root / "params.yaml").read_text() == (root / "profiles" / "sample.yaml").read_text()


def test_use_rewrites_params_and_shows_the_difference(paths: Paths) -> None:
    shown = profiles.use(paths, "flickr8k")
    assert paths.params.read_bytes() == (paths.profiles / "flickr8k.yaml").read_bytes()
    assert "-profile: sample" in shown.splitlines()
    assert "+profile: flickr8k" in shown.splitlines()


def test_using_the_same_profile_again_touches_nothing(paths: Paths) -> None:
    profiles.use(paths, "flickr8k")
    before = paths.params.stat()
    assert "nothing changed" in profiles.use(paths, "flickr8k")
    after = paths.params.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("name", ["flickr30k", "", "../params", "sample.yaml"])
def test_an_unknown_profile_names_the_valid_ones(paths: Paths, name: str) -> None:
    with pytest.raises(BadParams, match="flickr8k, flickr8k-best, flickr8k-tuned, folder, sample"):
        profiles.use(paths, name)


def test_a_profile_that_does_not_pass_leaves_params_alone(paths: Paths) -> None:
    (paths.profiles / "mine.yaml").write_text("profile: mine\n")
    before = paths.params.read_bytes()
    with pytest.raises(BadParams, match=r"mine\.yaml"):
        profiles.use(paths, "mine")
    assert paths.params.read_bytes() == before


def test_a_profile_under_another_name_is_refused(paths: Paths) -> None:
    (paths.profiles / "mine.yaml").write_text((paths.profiles / "sample.yaml").read_text())
    with pytest.raises(BadParams, match="says profile: sample"):
        profiles.use(paths, "mine")


@pytest.mark.parametrize("broken", ["{not: [yaml", None, b"\xff\xfe"])
def test_a_broken_params_file_is_cured(paths: Paths, broken: str | bytes | None) -> None:
    paths.params.unlink()
    if broken is not None:
        paths.params.write_bytes(broken if isinstance(broken, bytes) else broken.encode())
    profiles.use(paths, "sample")
    assert load_params(paths.params).profile == "sample"


def test_a_failed_write_leaves_the_old_params(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = paths.params.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr("captioner.records.os.replace", full)
        with pytest.raises(BadEnvironment, match="No space left"):
            profiles.use(paths, "folder")
    assert paths.params.read_bytes() == before
    assert sorted(p.name for p in paths.root.iterdir()) == ["dvc.yaml", "params.yaml", "profiles"]


def test_the_verb(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(project)
    assert main(["profile", "use", "folder"]) == 0
    assert "+profile: folder" in capsys.readouterr().out
    assert main(["profile", "use", "nothing"]) == 2
    assert "flickr8k, flickr8k-best, flickr8k-tuned, folder, sample" in capsys.readouterr().err
