"""Fixtures that every test may use: the shared data, and a small project of its own."""

from __future__ import annotations

import fcntl
import os
import pickle
import shutil
import signal
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

import pytest
from xdist.scheduler import LoadScopeScheduling

from captioner.bootstrap import run_stage
from captioner.paths import Paths
from captioner.settings import VARIABLES, Settings
from captioner.shipped import read_shipped, rebuild
from tests.clones import begin
from tests.learned import Learned, learn
from tests.local_aws import local_aws as local_aws
from tests.tiny import make_tiny_artifact
from tests.tiny_shipped import make_evaluated

ROOT = Path(__file__).resolve().parents[1]
T = TypeVar("T")

# It runs in a process of its own, where nothing of ours is imported: tests/test_conformance.py, `make conformance`.
collect_ignore = ["conformance"]

# A shell that starts us in the background has us ignore Ctrl-C, and our children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A developer's own settings must not decide what a test sees.
for _name in VARIABLES:
    os.environ.pop(_name, None)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("DO_NOT_TRACK", "true")
SHARED = Path(os.environ.pop("TEST_SHARED", "") or ROOT.parent / "shared")


# Folders that one test process runs as a whole, under one name: their tests share servers, or each start a whole stack,
# of which two at once are too many for two cores.
TOGETHER = {"tests/adapters": "adapters", "tests/emulator": "emulator", "tests/flows": "stack", "tests/demo": "stack"}


def unit_of(nodeid: str) -> str:
    """What one of several test processes runs as a whole: a file, or the folders of one name in `TOGETHER`."""
    file = nodeid.split("::", 1)[0]
    return TOGETHER.get(file.rpartition("/")[0], file)


class _Units(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Units | None:
    return _Units(config, log) if config.getvalue("dist") == "loadscope" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Units whose tests may take long come first: with several processes, none is left alone with one at the end."""

    def longest(item: pytest.Item) -> float:
        mark = item.get_closest_marker("timeout")
        return max(float(mark.args[0]) if mark else 0.0, 300.0)

    patience: dict[str, float] = {}
    for item in items:
        unit = unit_of(item.nodeid)
        patience[unit] = max(patience.get(unit, 0.0), longest(item))

    items.sort(key=lambda item: -patience[unit_of(item.nodeid)])


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout that these tests belong to. Read it; never write into it."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data that is not ours to ship (Flickr8k, GloVe). Skips where there is none."""
    if not SHARED.is_dir():
        pytest.skip(f"no {SHARED.name}/ folder beside the checkout (TEST_SHARED names another)")
    return SHARED


@pytest.fixture(scope="session")
def flickr8k(shared: Path) -> Path:
    """The folder with Flickr8k's two archives. Skips where there is none."""
    folder = shared / "flickr8k"
    if not (folder / "Flickr8k_text.zip").is_file():
        pytest.skip(f"no flickr8k/Flickr8k_text.zip in {shared.name}/")
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An empty project: params.yaml, profiles/ and dvc.yaml, no data and no repository."""
    return begin(tmp_path / "project")


@pytest.fixture
def settings(project: Path) -> Settings:
    return Settings.from_env(project, {"CAPTIONER_PROGRESS": "none"})


@pytest.fixture
def paths(project: Path, settings: Settings) -> Paths:
    return Paths.of(project, settings)


Once = Callable[[str, Callable[[Path], T]], T]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once[Any]:
    """``once(name, make)``: what `make` makes of an empty folder, made by the first of the test processes that asks.

    The others wait for it. All get a result of their own and share the folder: read it, never write into it.
    """
    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent

    def get(name: str, make: Callable[[Path], T]) -> T:
        result = place / f"once-{name}.pickle"
        with (place / f"once-{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not result.exists():
                (folder := place / f"once-{name}").mkdir()
                result.write_bytes(pickle.dumps(make(folder)))
        return pickle.loads(result.read_bytes())  # type: ignore[no-any-return]

    return get


@pytest.fixture(scope="session")
def tiny_artifact(once: Once[Path]) -> Path:
    """A real model.tar.gz: the real encoder, an untrained attention decoder of eight words."""
    return once("tiny", make_tiny_artifact)


@pytest.fixture(scope="session")
def tiny_merge(once: Once[Path]) -> Path:
    """The same with a merge decoder, which does not look at parts of the picture."""
    return once("tiny-merge", lambda folder: make_tiny_artifact(folder, "merge"))


@pytest.fixture(scope="session")
def evaluated_project(once: Once[Path], tiny_artifact: Path) -> Path:
    """A project of the profile flickr8k whose candidate `attention` can be shipped. Copy it; never write into it."""
    return once("evaluated", lambda folder: make_evaluated(folder / "project", tiny_artifact))


@pytest.fixture(scope="session")
def shipped_project(once: Once[Path], evaluated_project: Path) -> Path:
    """The same with `attention` shipped. Copy it, or its models/shipped; never write into it."""

    def ship(folder: Path) -> Path:
        shutil.copytree(evaluated_project, folder / "project")
        run_stage("ship", "attention", folder / "project")
        return folder / "project"

    return once("shipped", ship)


@pytest.fixture(scope="session")
def rebuilt(once: Once[Path], shipped_project: Path) -> Path:
    """What is in ``Paths.rebuilt`` once that project's shipped model was put together. Copy it, or only read it."""

    def build(folder: Path) -> Path:
        paths = Paths(shipped_project, folder)
        rebuild(read_shipped(paths.shipped), paths, threads=1)
        return paths.rebuilt

    return once("rebuilt", build)


@pytest.fixture(scope="session")
def from_git(once: Once[Path]) -> Path:
    """A project with the model that is in git, which is put together already. Copy it; never write into it."""

    def build(folder: Path) -> Path:
        paths = Paths(begin(folder, "models/shipped"), folder / ".captioner")
        rebuild(read_shipped(paths.shipped), paths, threads=1)
        return folder

    return once("from-git", build)


@pytest.fixture(scope="session")
def learned(once: Once[Learned]) -> Learned:
    """A model trained on the sample's scenes, exported and evaluated."""
    return once("learned", learn)


@pytest.fixture
def serve_folder() -> Iterator[Callable[[Path], str]]:
    """Serves a folder over HTTP on a free port: call it with the folder, it returns the URL."""
    servers: list[ThreadingHTTPServer] = []

    def serve(folder: Path) -> str:
        handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()
