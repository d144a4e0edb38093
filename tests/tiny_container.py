"""A program that keeps the container contract and nothing else, for tests of the local SageMaker's states.

Its environment chooses how it behaves: START=crash ends at once, START=never is never healthy, START_AFTER=5 is after
five seconds, START_FILE=path waits until that file exists, HANG_FILE=path makes /ping hang while that file exists,
STOP=ignore does not end on SIGTERM, ANSWER=500 is the status of every answer, CAPTION is what it says,
LOG_PROBABILITY how sure it is (else it does not say). The body of an
invocation chooses the answer: ``status 400 text``, ``hang``, ``sleep 5``, ``drip``, ``big``; else JSON about the
request and the model's identity. A model may bring its own: ``behaviour.json`` in its archive is read as more of the
environment, and FAIL_EVERY=20 answers each twentieth request with 500.
"""

import itertools
import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Server(ThreadingHTTPServer):
    request_queue_size = 128  # with the default, 5, a burst of callers is reset by some kernels


class Container(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        hang = os.environ.get("HANG_FILE")
        while hang and Path(hang).exists():
            time.sleep(0.05)
        waiting = os.environ.get("START_FILE")
        late = time.monotonic() < STARTED + float(os.environ.get("START_AFTER", "0"))
        ready = os.environ.get("START") != "never" and not late and (not waiting or Path(waiting).exists())
        self.reply(200 if ready else 503, b"")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if "FAIL_EVERY" in os.environ and next(REQUESTS) % int(os.environ["FAIL_EVERY"]) == 0:
            return self.reply(500, b"one of many")
        if "ANSWER" in os.environ:
            return self.reply(int(os.environ["ANSWER"]), b"on purpose")
        if body.startswith(b"status "):
            _, status, text = body.decode().split(" ", 2)
            return self.reply(int(status), text.encode())
        if body == b"big":
            return self.reply(200, b"x" * 6_291_457)
        if body == b"hang":
            time.sleep(1)
        if body.startswith(b"sleep "):
            time.sleep(float(body.split()[1]))
        if body == b"drip":
            return self.drip()
        answer = {
            "caption": os.environ.get("CAPTION", "a tiny answer"),
            "bytes": len(body),
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "files": sorted(str(p.relative_to(MODEL)) for p in MODEL.rglob("*") if p.is_file()),
            "pid": os.getpid(),
            "model": {
                "version": os.environ.get("CAPTIONER_MODEL_VERSION"),
                "digest": os.environ.get("CAPTIONER_MODEL_DIGEST"),
            },
        }
        if "LOG_PROBABILITY" in os.environ:
            answer["log_probability"] = float(os.environ["LOG_PROBABILITY"])
        self.reply(200, json.dumps(answer).encode(), {"X-Amzn-SageMaker-Custom-Attributes": "from the container"})

    def drip(self):
        """A byte every tenth of a second, for ten seconds: never silent, never done in time."""
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        for _ in range(100):
            self.wfile.write(b".")
            time.sleep(0.1)

    def reply(self, status, body, headers=None):
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def option(name, otherwise):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else otherwise


MODEL = Path(option("--model-dir", "/opt/ml/model"))
if (MODEL / "behaviour.json").is_file():
    os.environ.update(json.loads((MODEL / "behaviour.json").read_text()))
REQUESTS = itertools.count(1)
STARTED = time.monotonic()
# As the first process of a container nothing would end it otherwise.
signal.signal(signal.SIGTERM, signal.SIG_IGN if os.environ.get("STOP") == "ignore" else lambda *_: os._exit(0))
if os.environ.get("START") == "crash":
    sys.exit("the tiny container crashes on purpose")
# In Docker (no --port) the caller is outside; anywhere else nobody outside is meant to call.
HOST = "127.0.0.1" if "--port" in sys.argv else "0.0.0.0"
Server((HOST, int(option("--port", "8080"))), Container).serve_forever()
