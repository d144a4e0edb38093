"""`up`, `down` and `status`, with tiny HTTP servers in the places of Prefect, MLflow and the rest."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from captioner import stack
from captioner.errors import BadEnvironment, BadParams
from captioner.paths import Paths
from captioner.records import read_json, write_json
from captioner.settings import Settings
from captioner.stack import processes
from captioner.stack.services import Service, base_environment, flow_environment, wanted

SERVER = """
import http.server, os, sys, time
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        while os.path.exists("hang"):
            time.sleep(0.02)
        self.send_response(200)
        self.end_headers()
    def log_message(self, *args):
        pass
print("serving", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Page).serve_forever()
"""
# Leaves the session and ignores SIGTERM, as far as a child can get.
ESCAPING_CHILD = """
import signal, subprocess, sys
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('born', flush=True); time.sleep(600)"
one = subprocess.Popen([sys.executable, "-c", child], start_new_session=True, stdout=subprocess.PIPE)
one.stdout.readline()
"""
SNATCHED = """
if int(sys.argv[1]) == {port}:
    sys.exit("[Errno 98] error while attempting to bind: Address already in use")
"""


@pytest.fixture
def first_port() -> int:
    with socket.socket() as probe:
        probe.bind((processes.HOST, 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def clean(settings: Settings, paths: Paths) -> Iterator[None]:
    yield
    stack.down(settings, paths)


def service(name: str, port: int, before: str = "", after: tuple[str, ...] = ()) -> Service:
    """A tiny server; `before` is Python code that it runs first."""
    code = "import sys\n" + before + SERVER
    return Service(name, port, "/", lambda at: [sys.executable, "-c", code, str(at)], after=after)


def of_this_project(paths: Paths) -> list[psutil.Process]:
    """All processes of the stack of `paths`, found apart from the code under test."""
    found = []
    for one in psutil.process_iter():
        try:
            if one.environ().get(processes.MARK, "").startswith(f"{paths.home}:"):
                found.append(one)
        except psutil.Error:
            continue
    return [one for one in found if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.usefixtures("clean")
class TestUp:
    def test_starts_everything_and_writes_down_where_it_is(
        self, settings: Settings, paths: Paths, first_port: int
    ) -> None:
        told = stack.up(settings, paths, [service("a", first_port), service("b", first_port, after=("a",))])

        assert told.started == ("a", "b")
        assert all(one.healthy for one in told.services.values())
        written = read_json(paths.services)
        assert written.keys() == {"a", "b"}
        assert written["a"]["url"] == f"http://127.0.0.1:{first_port}"
        assert written["b"]["port"] > first_port  # the first one was taken by a
        assert Path(written["a"]["log"]).read_text(encoding="utf-8") == "serving\n"
        assert psutil.Process(written["a"]["pid"]).cwd() == str(paths.root)

    def test_twice_changes_nothing_and_is_quick(self, settings: Settings, paths: Paths, first_port: int) -> None:
        both = [service("a", first_port), service("b", first_port)]
        first = stack.up(settings, paths, both)
        started = time.monotonic()
        second = stack.up(settings, paths, both)

        assert time.monotonic() - started < 2.0
        assert second.started == ()
        assert second.services == first.services
        assert "already up" in second.render()

    def test_two_at_once_start_one(self, settings: Settings, paths: Paths, first_port: int) -> None:
        told: list[stack.StackStatus] = []
        calls = [
            threading.Thread(target=lambda: told.append(stack.up(settings, paths, [service("a", first_port)])))
            for _ in range(2)
        ]
        for call in calls:
            call.start()
        for call in calls:
            call.join()

        assert sorted(one.started for one in told) == [(), ("a",)]
        assert told[0].services == told[1].services
        assert len(of_this_project(paths)) == 1

    def test_a_taken_port_means_the_next_free_one(self, settings: Settings, paths: Paths, first_port: int) -> None:
        with socket.create_server((processes.HOST, first_port)):
            told = stack.up(settings, paths, [service("a", first_port)])
        assert told.services["a"].healthy
        assert told.services["a"].url != f"http://127.0.0.1:{first_port}"

    def test_a_port_snatched_at_the_last_moment_means_the_next_one(
        self, settings: Settings, paths: Paths, first_port: int
    ) -> None:
        told = stack.up(settings, paths, [service("a", first_port, before=SNATCHED.format(port=first_port))])
        assert told.services["a"].healthy
        assert told.services["a"].url != f"http://127.0.0.1:{first_port}"

    def test_a_dead_service_is_shown_and_started_again(self, settings: Settings, paths: Paths, first_port: int) -> None:
        both = [service("a", first_port), service("b", first_port)]
        before = stack.up(settings, paths, both)
        pid = before.services["a"].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=5)

        seen = stack.status(settings, paths)
        assert (seen["a"]["healthy"], seen["a"]["pid"], seen["a"]["detail"]) == (False, None, "has ended")
        assert seen["b"]["healthy"]

        after = stack.up(settings, paths, both)
        assert after.started == ("a",)
        assert after.services["a"].pid != pid
        assert after.services["b"] == before.services["b"]

    def test_one_that_hangs_is_started_again(self, settings: Settings, paths: Paths, first_port: int) -> None:
        before = stack.up(settings, paths, [service("a", first_port)])
        (paths.root / "hang").touch()
        assert stack.status(settings, paths)["a"]["detail"] == "does not answer"

        cure = threading.Timer(4.0, (paths.root / "hang").unlink)  # or the new one would hang as well
        cure.start()
        after = stack.up(settings, paths, [service("a", first_port)], patience_s=0.0)
        cure.join()
        assert after.started == ("a",)
        assert after.services["a"].pid != before.services["a"].pid

    def test_one_that_is_only_slow_is_left_alone(self, settings: Settings, paths: Paths, first_port: int) -> None:
        before = stack.up(settings, paths, [service("a", first_port)])
        (paths.root / "hang").touch()
        cure = threading.Timer(3.5, (paths.root / "hang").unlink)  # longer than one question waits
        cure.start()
        after = stack.up(settings, paths, [service("a", first_port)])
        cure.join()
        assert after.started == ()
        assert after.services == before.services

    def test_one_that_dies_ends_in_a_sentence_with_its_last_words(
        self, settings: Settings, paths: Paths, first_port: int
    ) -> None:
        broken = service("b", first_port, before="print('noise')\nsys.exit('no such table: flow_run')\n")
        with pytest.raises(BadEnvironment) as caught:
            stack.up(settings, paths, [service("a", first_port), broken])

        assert str(caught.value) == (
            f"The service b ended at once: no such table: flow_run (log: {paths.logs / 'b.log'})."
        )
        # The other one is up: the next try has less to do.
        assert stack.status(settings, paths).keys() == {"a"}

    def test_nothing_starts_after_one_that_did_not_come_up_nor_after_that(
        self, settings: Settings, paths: Paths, first_port: int
    ) -> None:
        broken = Service("b", first_port, "/", lambda _: [sys.executable, "-c", "raise SystemExit('no weed')"])
        after = [service("d", first_port, after=("c",)), service("c", first_port, after=("b",))]
        with pytest.raises(BadEnvironment, match="The service b ended at once: no weed"):
            stack.up(settings, paths, [service("a", first_port), broken, *after])
        assert stack.status(settings, paths).keys() == {"a"}
        assert not [paths.logs / f"{name}.log" for name in "cd" if (paths.logs / f"{name}.log").exists()]

    def test_a_home_that_cannot_be_written_is_a_sentence(self, settings: Settings, paths: Paths) -> None:
        paths.home.parent.mkdir(parents=True, exist_ok=True)
        paths.home.write_text("a file where the folder should be", encoding="utf-8")
        with pytest.raises(BadEnvironment, match="cannot be written"):
            stack.up(settings, paths, [])
        paths.home.unlink()


@pytest.mark.usefixtures("clean")
class TestDown:
    def test_leaves_no_process_and_no_entry_but_the_state(
        self, settings: Settings, paths: Paths, first_port: int
    ) -> None:
        stack.up(settings, paths, [service("a", first_port, before=ESCAPING_CHILD), service("b", first_port)])
        assert len(of_this_project(paths)) == 3

        told = stack.down(settings, paths)

        assert set(told.stopped) == {"a", "b"}
        assert of_this_project(paths) == []
        assert read_json(paths.services) == {}
        assert (paths.logs / "a.log").exists()
        assert stack.down(settings, paths).render() == "nothing is up"

    def test_finds_the_processes_without_services_json(self, settings: Settings, paths: Paths, first_port: int) -> None:
        stack.up(settings, paths, [service("mlflow", first_port)])
        paths.services.write_text('{"mlflow": {"pid', encoding="utf-8")  # a full disk, say
        assert stack.down(settings, paths).stopped == ("mlflow",)
        assert of_this_project(paths) == []

    def test_never_touches_a_recycled_process_id(self, settings: Settings, paths: Paths) -> None:
        bystander = psutil.Popen(
            [sys.executable, "-c", "print(1, flush=True)\nimport time\ntime.sleep(600)"], stdout=-1
        )
        try:
            bystander.stdout.readline()
            entry = {"url": "http://127.0.0.1:1", "port": 1, "health": "http://127.0.0.1:1/", "pid": bystander.pid}
            write_json(
                paths.services, {"a": {**entry, "started": bystander.create_time() - 60, "log": "", "log_from": 0}}
            )
            assert not stack.status(settings, paths)["a"]["healthy"]
            stack.down(settings, paths)
            assert bystander.is_running()
            assert read_json(paths.services) == {}
        finally:
            bystander.kill()
            bystander.wait()
            bystander.stdout.close()


class TestWanted:
    def names(self, project: Path, **env: str) -> list[str]:
        settings = Settings.from_env(project, env)
        return [one.name for one in wanted(settings, Paths.of(project, settings))]

    def test_everything_by_default(self, project: Path) -> None:
        assert self.names(project) == ["prefect", "mlflow", "aws", "deployments", "api", "web"]

    def test_nothing_that_a_setting_points_elsewhere(self, project: Path) -> None:
        elsewhere = {"CAPTIONER_MLFLOW_URI": "http://there", "CAPTIONER_PREFECT_API": "http://there/api"}
        assert self.names(project, **elsewhere, CAPTIONER_AWS="real") == ["deployments"]

    @pytest.mark.parametrize("name", ["prefect", "mlflow", "aws", "deployments", "api", "web"])
    def test_binds_to_this_machine_only_and_phones_nowhere(self, settings: Settings, paths: Paths, name: str) -> None:
        one = next(one for one in wanted(settings, paths) if one.name == name)
        env = base_environment(paths) | dict(
            one.env(4321, {"prefect": "http://127.0.0.1:1", "api": "http://127.0.0.1:2"})
        )
        said = " ".join([*one.command(4321), *env.values()])
        assert "0.0.0.0" not in said
        assert "4321" in said
        assert (env["DO_NOT_TRACK"], env["PREFECT_SERVER_ANALYTICS_ENABLED"]) == ("true", "false")

    def test_the_local_aws_gets_its_clock(self, project: Path) -> None:
        settings = Settings.from_env(project, {"CAPTIONER_AWS_TIME_SCALE": "0.01"})
        one = next(one for one in wanted(settings, Paths.of(project, settings)) if one.name == "aws")
        assert one.command(4321)[-2:] == ["--time-scale", "0.01"]
        for bad in ("0", "2", "quick"):
            with pytest.raises(BadParams, match="larger than 0 and at most 1"):
                Settings.from_env(project, {"CAPTIONER_AWS_TIME_SCALE": bad})

    def test_the_users_own_prefect_is_left_alone(
        self, paths: Paths, monkeypatch: pytest.MonkeyPatch, settings: Settings
    ) -> None:
        monkeypatch.setenv("PREFECT_API_URL", "https://api.prefect.cloud/mine")
        monkeypatch.setenv("PREFECT_API_KEY", "secret")
        env = base_environment(paths)
        assert "secret" not in env.values()
        assert env.get("PREFECT_API_URL") is None
        assert env["PREFECT_HOME"] == str(paths.prefect)
        assert "secret" not in flow_environment(settings, paths, "http://127.0.0.1:1/api").values()

    def test_a_server_of_the_users_own_is_shown_the_users_key(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PREFECT_API_KEY", "secret")
        settings = Settings.from_env(project, {"CAPTIONER_PREFECT_API": "https://api.prefect.cloud/mine"})
        env = flow_environment(settings, Paths.of(project, settings), "https://api.prefect.cloud/mine")
        assert env["PREFECT_API_KEY"] == "secret"
        assert env["PREFECT_API_URL"] == "https://api.prefect.cloud/mine"

    def test_a_server_of_the_users_own_that_does_not_answer_is_a_sentence(
        self, project: Path, first_port: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
        api = f"http://127.0.0.1:{first_port}/api"
        env = {"CAPTIONER_PREFECT_API": api, "CAPTIONER_MLFLOW_URI": "http://there", "CAPTIONER_AWS": "real"}
        settings = Settings.from_env(project, env)
        with pytest.raises(BadEnvironment, match=f"deployments ended at once: .*Prefect does not answer at {api}: "):
            stack.up(settings, Paths.of(project, settings))


def test_last_words_skips_what_says_nothing(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("old line\n", encoding="utf-8")
    since = processes.size(log)
    with log.open("a", encoding="utf-8") as lines:
        lines.write("ValueError: no\n-----\n\n")
    assert processes.last_words(log, since) == "ValueError: no"
    assert processes.last_words(log, processes.size(log)) == ""


@pytest.mark.parametrize("taken", [set(), {0}, {0, 1}])
def test_free_port_passes_over_what_is_taken(first_port: int, taken: set[int]) -> None:
    assert processes.free_port(first_port, {first_port + one for one in taken}) >= first_port + len(taken)
