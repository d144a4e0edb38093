"""Goal 5: the served model with 16 clients, against itself without batching and against MLflow's scoring server.

"One request at a time" is what TensorFlow alone would do with them, all cores on each; "unbatched" is a request on each
core, so that what is left is what batching brings.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import machine, material
from benchmarks.processes import PATIENCE_S, free_port, process
from benchmarks.results import Result
from benchmarks.rounds import Ratio, take_turns

CLIENTS = 16
REQUESTS = 6  # of each client in a round
ONE_AT_A_TIME = {"CAPTIONER_WORKERS": "1", "CAPTIONER_THREADS": str(os.cpu_count() or 1)}


@dataclass(frozen=True)
class Server:
    """One that listens, and how to ask it about a JPEG."""

    port: int
    headers: dict[str, str]
    body: Callable[[bytes], bytes]
    caption: Callable[[dict[str, object]], str]


@dataclass(frozen=True)
class Load:
    """One round: seconds for a request, all clients together, and the 99th percentile of how long one waited."""

    per_request_s: float
    p99_s: float


def run(requests: int = REQUESTS) -> list[Result]:
    pictures = [picture.data for picture in material.pictures(CLIENTS * requests)]
    archive = material.artifact("attention")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="captioner-bench-")))
        started = {
            "ours": lambda: ours(archive, folder / "ours", {}),
            "alone": lambda: ours(archive, folder / "alone", {**ONE_AT_A_TIME, "CAPTIONER_BATCH": "1"}),
            "unbatched": lambda: ours(archive, folder / "unbatched", {"CAPTIONER_BATCH": "1"}),
            "mlflow": lambda: mlflow_server(archive, folder / "mlflow"),
        }
        cold, servers = {}, {}
        for name, start in started.items():
            begun = time.monotonic()
            servers[name] = stack.enter_context(start())
            cold[name] = time.monotonic() - begun
        said = {name: [ask(server, data)[1] for data in pictures[:CLIENTS]] for name, server in servers.items()}
        assert all(captions == said["ours"] for captions in said.values()), "the servers' captions differ"
        assert [caption for _, caption in load(servers["ours"], pictures, requests)][:CLIENTS] == said["ours"]
        contestants = {
            name: (lambda server=server: measured(server, pictures, requests)) for name, server in servers.items()
        }
        take_turns(contestants, 1)
        found = take_turns(contestants)
        single = {name: float(np.median([ask(s, pictures[0])[0] for _ in range(20)])) for name, s in servers.items()}
    material.start()
    details = {
        "clients": CLIENTS,
        "requests_a_round": CLIENTS * requests,
        "cold_start_s": cold,
        "one_client_s": single,
        "limit": machine.limits(),
        "p99_s": {name: float(np.median([one.p99_s for one in rounds])) for name, rounds in found.items()},
    }

    def result(name: str, peer: str, other: str, of: Callable[[Load], float], goal: float, unit: str) -> Result:
        mine, theirs = ([of(one) for one in found[who]] for who in ("ours", other))
        absolute = [float(np.median(costs)) for costs in (mine, theirs)]
        if unit == "requests/s":
            absolute = [1 / cost for cost in absolute]
        return Result(
            name=name,
            peer=peer,
            ratio=Ratio.of(mine, theirs),
            goal=goal,
            unit=unit,
            ours=absolute[0],
            peers=absolute[1],
            equal="captions of the same pictures by all four servers, also under load",
            details=details,
        )

    def rate(one: Load) -> float:
        return one.per_request_s

    def slowest(one: Load) -> float:
        return one.p99_s

    alone, unbatched = "the same server, one request at a time", "the same server unbatched, a request on each core"
    return [
        result("serving 16 clients, requests/s", alone, "alone", rate, 2.5, "requests/s"),
        result("serving 16 clients, 99th percentile", alone, "alone", slowest, 2.0, "s"),
        result("serving 16 clients, requests/s", unbatched, "unbatched", rate, 1.0, "requests/s"),
        result("serving 16 clients, requests/s", "MLflow's scoring server", "mlflow", rate, 2.0, "requests/s"),
        result("serving 16 clients, 99th percentile", "MLflow's scoring server", "mlflow", slowest, 2.0, "s"),
    ]


def measured(server: Server, pictures: Sequence[bytes], requests: int) -> Load:
    started = time.perf_counter()
    answers = load(server, pictures, requests)
    took = time.perf_counter() - started
    return Load(took / len(answers), float(np.percentile([seconds for seconds, _ in answers], 99)))


def load(server: Server, pictures: Sequence[bytes], requests: int) -> list[tuple[float, str]]:
    """CLIENTS at once, each asks `requests` times, the next when it has its answer. (seconds, caption) by picture."""

    def client(number: int) -> list[tuple[float, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
        try:
            return [ask(server, pictures[number + CLIENTS * turn], connection) for turn in range(requests)]
        finally:
            connection.close()

    with ThreadPoolExecutor(CLIENTS) as pool:
        by_client = list(pool.map(client, range(CLIENTS)))
    return [by_client[number][turn] for turn in range(requests) for number in range(CLIENTS)]


def ask(server: Server, data: bytes, connection: http.client.HTTPConnection | None = None) -> tuple[float, str]:
    """(seconds, caption). Raises AssertionError for any answer but 200."""
    line = connection or http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
    body = server.body(data)
    started = time.perf_counter()
    line.request("POST", "/invocations", body, server.headers)
    answer = line.getresponse()
    content = answer.read()
    took = time.perf_counter() - started
    if connection is None:
        line.close()
    assert answer.status == 200, f"{answer.status}: {content[:200]!r}"
    return took, server.caption(json.loads(content))


@contextmanager
def ours(archive: Path, folder: Path, environ: dict[str, str]) -> Iterator[Server]:
    """`python -m captioner.serve` on an unpacked artifact."""
    from captioner.model.captioner import unpack

    unpack(archive, folder)
    port = free_port()
    command = [sys.executable, "-m", "captioner.serve", "--model-dir", str(folder), "--host", "127.0.0.1"]
    with process([*command, "--port", str(port)], f"http://127.0.0.1:{port}/ping", environ):
        yield Server(port, {"Content-Type": "image/jpeg"}, bytes, lambda answer: str(answer["caption"]))


@contextmanager
def mlflow_server(archive: Path, folder: Path) -> Iterator[Server]:
    """`mlflow models serve` on the pyfunc that we register."""
    import mlflow

    from captioner.adapters import mlflow_registry, pyfunc_model
    from captioner.adapters.mlflow_store import QUIET

    mlflow.pyfunc.save_model(
        str(folder),
        python_model=str(pyfunc_model.__file__),
        artifacts={"model": str(archive)},
        signature=mlflow_registry.signature(),
        pip_requirements=mlflow_registry.requirements(),
    )
    port = free_port()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # it starts uvicorn by name
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder), "--env-manager", "local"]
    command += ["--host", "127.0.0.1", "--port", str(port)]

    def body(data: bytes) -> bytes:
        return json.dumps({"dataframe_records": [{"image": base64.b64encode(data).decode()}]}).encode()

    with process(command, f"http://127.0.0.1:{port}/ping", {**QUIET, "PATH": path}):
        yield Server(
            port, {"Content-Type": "application/json"}, body, lambda answer: answer["predictions"][0]["caption"]
        )
