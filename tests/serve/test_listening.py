"""SIGTERM: what was begun is answered, whoever comes after it is refused at once, and the process ends."""

from __future__ import annotations

import http.client
import io
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioner.emulator.children import free_port
from captioner.errors import BadEnvironment
from captioner.serve.listening import listen
from tests.local_aws import until

CLIENTS = 16
PROGRAM = """
import json, signal, sys, time
from pathlib import Path
from captioner.serve.listening import listen
folder = Path(sys.argv[1])

def application(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        (folder / "begun").touch()
        while not (folder / "go").exists():
            time.sleep(0.02)
    if environ["PATH_INFO"] == "/twice":
        # What Python calls when a second signal comes before the first call has got far.
        for _ in range(2):
            signal.getsignal(signal.SIGTERM)(signal.SIGTERM, None)
    body = environ["wsgi.input"].read() or b"done"
    time.sleep(0.005)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

def said(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)

raise SystemExit(listen(application, "127.0.0.1", int(sys.argv[2]), threads=20, said=said))
"""

# All of the server but the model.
CAPTIONER = """
import sys, time
from captioner.records import Caption
from captioner.serve.application import QUEUE, Application
from captioner.serve.journal import Journal
from captioner.serve.listening import listen

class Model:
    def caption(self, images, beam=None, top=None):
        time.sleep(0.005 + 0.001 * len(images))
        return [(Caption(f"{len(image)} bytes", -1.0),) for image in images]

journal = Journal("7", "abc")
application = Application(Model(), "7", "abc", journal=journal)
raise SystemExit(listen(application, "127.0.0.1", int(sys.argv[2]), threads=QUEUE + 3, said=journal.write))
"""


class Server:
    """A real process that listens."""

    def __init__(self, folder: Path, program: str) -> None:
        self.folder, self.port = folder, free_port()
        self.out = folder / "out"
        with self.out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, str(folder), str(self.port)], stdout=out, stderr=out
            )
        until(lambda: self.said("listening"), "the server to listen")

    def connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.connect()
        return connection

    def said(self, event: str) -> list[dict[str, object]]:
        text = self.out.read_text()
        assert "Traceback" not in text, text
        lines = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
        return [line for line in lines if line["event"] == event]

    def term(self) -> None:
        self.process.send_signal(signal.SIGTERM)


@contextmanager
def running(folder: Path, program: str = PROGRAM) -> Iterator[Server]:
    server = Server(folder, program)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait()


def test_sigterm_answers_what_was_begun_and_then_ends(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        answers: list[tuple[int, bytes, str | None]] = []

        def ask() -> None:
            connection = server.connect()
            connection.request("GET", "/slow")
            answer = connection.getresponse()
            answers.append((answer.status, answer.read(), answer.getheader("Connection")))

        asking = threading.Thread(target=ask)
        asking.start()
        until((tmp_path / "begun").exists, "the request to begin")
        server.term()
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(0.3)
        with pytest.raises(ConnectionRefusedError):  # whoever comes now can ask another server at once
            server.connect()
        (tmp_path / "go").touch()
        assert server.process.wait(30) == 0
        asking.join(30)
        assert answers == [(200, b"done", "close")]
        assert server.said("drained")[0]["lost"] == 0


def test_a_picture_that_is_still_being_sent_is_received_and_answered(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        raw = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        raw.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\nhalf a ")
        until(lambda: answered(server), "the server to have read that")
        server.term()
        until(lambda: server.said("draining"), "the server to drain")
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(1)
        raw.sendall(b"photo")
        answer = http.client.HTTPResponse(raw)
        answer.begin()
        assert (answer.status, answer.read()) == (200, b"half a photo")
        assert server.process.wait(30) == 0


def answered(server: Server) -> bool:
    connection = server.connect()
    connection.request("GET", "/")
    return connection.getresponse().status == 200


def picture(number: int) -> bytes:
    """A PNG of about 100 kB, of another size for each number."""
    pixels = np.random.default_rng(number).integers(0, 255, (180 + number, 180, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_under_load_no_request_that_a_connection_took_is_lost(tmp_path: Path) -> None:
    with running(tmp_path, CAPTIONER) as server:
        done, lost, started = [0] * CLIENTS, [], threading.Barrier(CLIENTS + 1)

        def client(number: int) -> None:
            connection: http.client.HTTPConnection | None = None
            body = picture(number)
            started.wait(30)
            while True:
                if connection is None:
                    try:
                        connection = server.connect()
                    except (ConnectionRefusedError, ConnectionResetError):
                        return  # the door is closed: nothing was sent
                try:
                    connection.request("POST", "/invocations", body, {"Content-Type": "image/png"})
                    answer = connection.getresponse()
                    content = answer.read()
                    assert answer.status == 200, content
                    assert json.loads(content)["caption"] == f"{len(body)} bytes"
                except (OSError, http.client.HTTPException, AssertionError) as error:
                    lost.append(f"client {number} after {done[number]}: {error!r}")
                    return
                done[number] += 1
                if answer.getheader("Connection") == "close":
                    connection = None

        threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        started.wait(30)
        until(lambda: min(done) >= 5, "every client to have had answers")
        server.term()
        assert server.process.wait(60) == 0
        for thread in threads:
            thread.join(30)
        assert not lost
        assert server.said("drained")[0]["lost"] == 0
        # What the server says that it answered is what the clients have.
        assert [line["status"] for line in server.said("invocation")] == [200] * sum(done)


def test_connections_that_are_idle_hold_nobody_up(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        idle = server.connect()
        idle.request("GET", "/")
        assert idle.getresponse().read() == b"done"
        server.term()
        server.term()  # twice is like once
        assert server.process.wait(30) == 0
        assert float(str(server.said("drained")[0]["seconds"])) < 10


def test_two_signals_at_once_are_one(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        connection = server.connect()
        connection.request("GET", "/twice")
        assert connection.getresponse().read() == b"done"
        assert server.process.wait(30) == 0
        assert [len(server.said(event)) for event in ("draining", "drained")] == [1, 1]


def test_a_taken_port_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(BadEnvironment, match="cannot be used"):
            listen(lambda environ, start: [], "127.0.0.1", taken.getsockname()[1], threads=1)
