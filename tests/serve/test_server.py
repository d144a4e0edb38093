"""The served process: SIGTERM lets what was begun end; the environment and the folder are checked before anything."""

import http.client
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from captioner.emulator.children import free_port
from captioner.errors import BadData, BadEnvironment, BadParams
from captioner.serve import main
from captioner.serve.server import listen, load, number, warm_up_image
from tests.local_aws import until

SLOW = """
import sys, threading
from pathlib import Path
from captioner.serve.server import listen
folder = Path(sys.argv[1])

def application(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        (folder / "begun").touch()
        while not (folder / "go").exists():
            threading.Event().wait(0.02)
    start_response("200 OK", [("Content-Length", "4")])
    return [b"done"]

raise SystemExit(listen(application, "127.0.0.1", int(sys.argv[2]), threads=4))
"""


def get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_sigterm_answers_what_was_begun_and_then_ends(tmp_path: Path) -> None:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(tmp_path), str(port)], stdout=subprocess.DEVNULL)

    def listening() -> bool:
        try:
            return get(port, "/")[0] == 200
        except OSError:
            return False

    answers: list[tuple[int, bytes]] = []
    asking = threading.Thread(target=lambda: answers.append(get(port, "/slow")))
    try:
        until(listening, "the server to listen")
        asking.start()
        until((tmp_path / "begun").exists, "the request to begin")
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        (tmp_path / "go").touch()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    asking.join(30)
    assert answers == [(200, b"done")]


def test_a_taken_port_is_said() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(BadEnvironment, match="cannot be used"):
            listen(lambda environ, start: [], "127.0.0.1", taken.getsockname()[1], threads=1)


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
