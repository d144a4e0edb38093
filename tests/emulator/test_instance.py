"""One supervised process: which program an image is, what it sees, and what happens when it hangs or never starts."""

import os
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from captioner.emulator import instance
from captioner.emulator.children import Children
from captioner.emulator.instance import Container, Instance, Site
from captioner.errors import BadData
from tests.local_aws import TINY, until


class NoArtifacts:
    """Stands for S3 where a container has no model."""

    def acquire(self, url: str) -> Path:
        raise BadData(f"Could not find model data at {url}.")

    def release(self, target: Path) -> None: ...


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(Children(), NoArtifacts(), tmp_path / "logs", startup_s=20, local_exec=True)  # type: ignore[arg-type]


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    program = tmp_path / "tiny"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{TINY}" "$@"\n')
    program.chmod(0o755)
    return f"local-exec:{program}"


@pytest.fixture
def started(site: Site) -> Iterator[list[Instance]]:
    instances: list[Instance] = []
    yield instances
    for one in instances:
        one.stop(5)


def start(started: list[Instance], site: Site, container: Container, **more: float) -> Instance:
    one = Instance("one", container, site, **more)
    started.append(one)
    one.start()
    return one


def test_a_container_sees_no_settings_and_no_credentials(
    site: Site, started: list[Instance], tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPTIONER_HOME", "/somewhere")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    one = start(started, site, Container(tiny, {"CAPTIONER_MODEL_VERSION": "5"}, None))
    assert one.wait() is None
    environment = Path(f"/proc/{one.pid}/environ").read_bytes().decode().split("\0")
    ours = sorted(entry for entry in environment if entry.startswith(("CAPTIONER_", "AWS_")))
    assert ours == ["CAPTIONER_MODEL_VERSION=5", f"CAPTIONER_WORKERS={max(1, (os.cpu_count() or 1) // 2)}"]


def test_one_that_never_answers_fails_in_time(site: Site, started: list[Instance], tiny: str) -> None:
    one = start(started, site, Container(tiny, {"START": "never"}, None), startup_s=1)
    assert "did not answer within 1 s" in (one.wait() or "")


def test_one_without_its_model_fails_with_the_reason(site: Site, started: list[Instance], tiny: str) -> None:
    one = start(started, site, Container(tiny, {}, "s3://bucket/none"))
    assert one.wait() == "Could not find model data at s3://bucket/none."


def test_one_that_hangs_is_replaced(
    site: Site, started: list[Instance], tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instance, "WATCH_S", 0.1)
    monkeypatch.setattr(instance, "HANG_S", 1.5)
    hang = tmp_path / "hang"
    one = start(started, site, Container(tiny, {"HANG_FILE": str(hang)}, None))
    assert one.wait() is None
    first = one.pid
    with pytest.raises(AssertionError):  # it is not given up for nothing
        until(lambda: not one.healthy, "", seconds=2)
    hang.touch()
    until(lambda: not one.healthy, "the instance to be given up")
    hang.unlink()
    until(lambda: one.healthy and one.pid != first, "another process")
    assert one.restarts == 1


def test_stopping_waits_for_what_is_in_flight(site: Site, started: list[Instance], tiny: str) -> None:
    import threading

    one = start(started, site, Container(tiny, {}, None))
    assert one.wait() is None
    pid = one.pid
    with one.lease():
        stopping = threading.Thread(target=one.stop)
        stopping.start()
        until(lambda: not one.healthy, "no more requests to be given to it")
        assert Path(f"/proc/{pid}").exists()
    stopping.join(30)
    assert not Path(f"/proc/{pid}").exists()


def test_a_request_in_flight_is_answered_before_the_end(
    site: Site, started: list[Instance], tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the next look at the instance falls into its last seconds; and nobody is let in any more."""
    monkeypatch.setattr(instance, "WATCH_S", 0.05)
    one = start(started, site, Container(tiny, {}, None))
    assert one.wait() is None
    answered, asking = [], threading.Event()

    def ask() -> None:
        with one.lease() as port:
            asking.set()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/invocations", data=b"sleep 1", timeout=20) as answer:
                answered.append(answer.status)

    caller = threading.Thread(target=ask)
    caller.start()
    asking.wait()
    one.stop(20)
    caller.join()
    assert answered == [200]
    with pytest.raises(ConnectionRefusedError), one.lease():
        pass
