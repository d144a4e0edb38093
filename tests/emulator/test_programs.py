"""Which program a container image stands for, and the digest that it is described by."""

import sys
from pathlib import Path

import pytest

from captioner.emulator.programs import command, parse_programs, resolve
from captioner.errors import BadData, BadParams


@pytest.mark.parametrize(
    "image",
    ["local/captioner:latest", "1.dkr.ecr.eu-west-1.amazonaws.com/a/captioner:1", "captioner", "x/captioner@sha256:ab"],
)
def test_our_image_is_captioner_serve(image: str, tmp_path: Path) -> None:
    program = command(image, tmp_path, local_exec=False, programs={})
    assert program[:4] == [sys.executable, "-m", "captioner", "serve"]


@pytest.mark.parametrize("image", ["local-exec:/bin/sh", "tensorflow/serving:2", "notcaptioner:1", "x/captioner-gpu:1"])
def test_no_other_image_runs(image: str, tmp_path: Path) -> None:
    with pytest.raises(BadData, match="cannot run here"):
        command(image, tmp_path, local_exec=False, programs={})


@pytest.mark.parametrize("image", ["a.b/tiny", "a.b/tiny:1", "a.b/tiny@sha256:ab", "a.b/tiny:1@sha256:ab"])
def test_a_mapped_name_stands_for_all_its_tags(image: str, tmp_path: Path) -> None:
    programs = {"a.b/tiny": "/bin/tiny"}
    assert command(image, tmp_path, False, programs) == ["/bin/tiny", "serve", "--model-dir", str(tmp_path)]
    assert command("captioner:2", tmp_path, False, {"captioner:2": "/bin/x"})[0] == "/bin/x"
    with pytest.raises(BadData, match="only knows"):
        command(f"other/{image}", tmp_path, False, programs)


def test_an_image_is_resolved_to_the_digest_of_what_runs(tmp_path: Path) -> None:
    program = tmp_path / "tiny"
    program.write_text("one")
    named = {"a.b:5000/tiny": str(program)}
    first = resolve("a.b:5000/tiny:latest", False, named)
    assert first.startswith("a.b:5000/tiny@sha256:")
    assert resolve("a.b:5000/tiny:2", False, named) == first
    program.write_text("two")
    assert resolve("a.b:5000/tiny:latest", False, named) != first
    assert resolve("x/captioner:1", False, {}) == resolve("x/captioner:2", False, {})
    assert resolve("x/captioner@sha256:ab", False, {}) == "x/captioner@sha256:ab"


def test_options_that_name_no_program_are_refused(tmp_path: Path) -> None:
    assert parse_programs([f"x/y:1={sys.executable}"]) == {"x/y:1": sys.executable}
    for bad in ("x", "=/bin/sh", f"x={tmp_path}/none"):
        with pytest.raises(BadParams, match="NAME=PROGRAM"):
            parse_programs([bad])
