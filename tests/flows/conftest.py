"""One stack for all flow tests: started once, by the flow itself, and stopped after the last of them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from captioner import stack
from captioner.paths import Paths
from captioner.settings import Settings
from tests.flows.projects import GRAPH, Api, Finished, Tiny, make_project


@dataclass(frozen=True)
class Standing:
    """The stack of all these tests, in a project of its own, and how it came up."""

    tiny: Tiny
    settings: Settings
    paths: Paths
    first: Finished
    api: Api


_shared = ExitStack()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> Generator[None, None, None]:
    """An idle stack takes a twelfth of a core: what these tests share ends with them, not with the session."""
    yield
    if nextitem is None or nextitem.path.parent != Path(__file__).parent:
        _shared.close()


@pytest.fixture(scope="session")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    """A whole stack, started by the flow itself because there is none."""
    yield _shared.enter_context(_stack(make_project(tmp_path_factory.mktemp("standing") / "project")))
    _shared.close()  # of a session that was interrupted before the last of these tests


@contextmanager
def _stack(root: Path) -> Iterator[Standing]:
    settings = Settings.from_env(root, {})
    paths = Paths.of(root, settings)
    try:
        first = Tiny(root, api=None).run("--no-release")
        assert first.code == 0, first.output
        api = f"{stack.status(settings, paths)['prefect']['url']}/api"
        yield Standing(Tiny(root, api), settings, paths, first, Api(api))
    finally:
        stack.down(settings, paths)
        left = [one.cmdline() for one in psutil.process_iter() if str(root) in " ".join(_words(one))]
        assert not left


@pytest.fixture
def api(standing: Standing) -> Api:
    return standing.api


@pytest.fixture
def tiny(tmp_path: Path, api: Api) -> Iterator[Callable[..., Tiny]]:
    """Makes a project for one test, whose flows talk to the standing server."""
    yield lambda graph=GRAPH: Tiny(make_project(tmp_path / "project", graph), api.url)
    for one in psutil.process_iter():  # what a failed test leaves waiting
        if str(tmp_path) in " ".join(_words(one)):
            one.kill()


def _words(process: psutil.Process) -> list[str]:
    """What could tie a process to a project: its command line, where it runs, and its environment."""
    try:
        return [*process.cmdline(), process.cwd(), *process.environ().values()]
    except (psutil.Error, OSError):
        return []
