"""The REST API before an endpoint with two variants: what it costs, and that it loses nothing.

Three questions: how much longer a request takes by way of the API than asked of the endpoint itself (taking turns, one
client); how long the assignment of a user takes; and whether every caption that 16 clients get in a minute is in the
log of exposures, once. The endpoint is the local SageMaker's, with a real model behind each variant.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import machine, material
from benchmarks.api_stack import NAME, PATIENCE_S, api, deploy, emulator, experiment, exposures, start_experiment
from benchmarks.results import Result
from benchmarks.rounds import ROUNDS, Ratio

CLIENTS = 16
SECONDS = 60.0
TURNS = 60  # requests of each way in a round
OVERHEAD_MS, ASSIGNMENT_US = 15.0, 50.0
ASSIGNMENTS = 20_000


@dataclass
class Load:
    """What clients got: answers by status, the ids of captions, how long each took, what broke."""

    statuses: Counter[int] = field(default_factory=Counter)
    ids: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def run(clients: int = CLIENTS, seconds: float = SECONDS, rounds: int = ROUNDS, turns: int = TURNS) -> list[Result]:
    pictures = [picture.data for picture in material.pictures(64)]
    archive = material.artifact("attention")
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="captioner-bench-")))
        aws = stack.enter_context(emulator(home))
        deploy(aws, archive)
        url = stack.enter_context(api(aws, home))
        start_experiment(aws)
        direct, through = asked_directly(aws), asked_through(url)
        assert [direct(one) for one in pictures[:8]] == [through(one) for one in pictures[:8]], "captions differ"
        overheads = [overhead(direct, through, pictures, turns) for _ in range(rounds + 1)][1:]
        before = set(exposures(aws, 8 + (rounds + 1) * turns))
        load = loaded(url, pictures, clients, seconds)
        directly = directly_loaded(aws, pictures, clients, min(seconds, 20.0))
        lines = [id for id in exposures(aws, len(before) + len(load.ids)) if id not in before]
    assert not load.broken, load.broken[:3]
    assert load.statuses.keys() == {200}, load.statuses
    lost = set(load.ids) - set(lines)
    assert not lost, f"{len(lost)} captions have no exposure"
    assert len(lines) == len(set(lines)) == len(load.ids), f"{len(lines)} exposures of {len(load.ids)} captions"
    took = [assignment() for _ in range(rounds + 1)][1:]
    under_load = {
        "clients": clients,
        "seconds": seconds,
        "requests_per_s": len(load.ids) / seconds,
        "p50_ms": 1000 * statistics.median(load.seconds),
        "p99_ms": 1000 * statistics.quantiles(load.seconds, n=100)[98],
        "directly": {
            "requests_per_s": len(directly.seconds) / min(seconds, 20.0),
            "p50_ms": 1000 * statistics.median(directly.seconds),
        },
    }
    material.start()
    details = {"under_load": under_load, "limit": machine.limits()}
    return [
        Result(
            name="REST API over the endpoint itself, p50 of a request",
            peer=f"{OVERHEAD_MS:.0f} ms",
            ratio=Ratio.of([one[0] for one in overheads], [OVERHEAD_MS] * rounds),
            goal=1.0,
            unit="ms",
            ours=statistics.median(one[0] for one in overheads),
            peers=OVERHEAD_MS,
            equal="captions of the same pictures",
            details={**details, "endpoint_p50_ms": statistics.median(one[1] for one in overheads)},
        ),
        Result(
            name="REST API, assigning a user to a variant",
            peer=f"{ASSIGNMENT_US:.0f} µs",
            ratio=Ratio.of(took, [ASSIGNMENT_US] * rounds),
            goal=1.0,
            unit="µs",
            ours=statistics.median(took),
            peers=ASSIGNMENT_US,
            equal="the same user meets the same variant",
        ),
        Result(
            name=f"REST API, {clients} clients for {seconds:.0f} s: exposures in the log",
            peer="captions that were answered",
            ratio=Ratio(*[len(lines) / len(load.ids)] * 3),
            goal=1.0,
            unit="lines",
            ours=float(len(lines)),
            peers=float(len(load.ids)),
            equal="no request failed, no id twice",
            details=under_load,
        ),
    ]


def overhead(direct: Any, through: Any, pictures: Sequence[bytes], turns: int) -> tuple[float, float]:
    """Milliseconds by which the API's median is above the endpoint's, and the endpoint's, taking turns."""
    found: dict[str, list[float]] = {"direct": [], "through": []}
    for turn in range(turns):
        for name, ask in (("direct", direct), ("through", through)):
            started = time.perf_counter()
            ask(pictures[turn % len(pictures)])
            found[name].append(1000 * (time.perf_counter() - started))
    directly = statistics.median(found["direct"])
    return max(1e-3, statistics.median(found["through"]) - directly), directly


def assignment() -> float:
    """Microseconds for one user."""
    from captioner.experiment.assignment import assigned

    one = experiment()
    users = [f"{number:032x}" for number in range(ASSIGNMENTS)]
    started = time.perf_counter()
    met = [assigned(one, user) for user in users]
    took = time.perf_counter() - started
    assert met[:100] == [assigned(one, user) for user in users[:100]]
    return 1e6 * took / ASSIGNMENTS


def loaded(url: str, pictures: Sequence[bytes], clients: int, seconds: float) -> Load:
    """`clients` at once by way of the API, each asks again when it has its answer."""
    import httpx

    load = Load()

    def client(number: int) -> None:
        headers = {"x-user-id": f"user {number}"}
        with httpx.Client(base_url=url, headers=headers, timeout=PATIENCE_S, trust_env=False) as line:
            until, turn = time.monotonic() + seconds, 0
            while time.monotonic() < until:
                started = time.perf_counter()
                try:
                    answer = line.post("/v1/captions", content=pictures[(number + turn) % len(pictures)])
                except httpx.TransportError as error:
                    load.broken.append(repr(error))
                    return
                load.seconds.append(time.perf_counter() - started)
                load.statuses[answer.status_code] += 1
                load.ids += [answer.headers["x-inference-id"]] if answer.status_code == 200 else []
                turn += 1

    at_once(client, clients)
    return load


def directly_loaded(aws: Any, pictures: Sequence[bytes], clients: int, seconds: float) -> Load:
    """The same without the API, for comparison."""
    load, asks = Load(), [asked_directly(aws) for _ in range(clients)]

    def client(number: int) -> None:
        until, turn = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            started = time.perf_counter()
            asks[number](pictures[(number + turn) % len(pictures)])
            load.seconds.append(time.perf_counter() - started)
            turn += 1

    at_once(client, clients)
    return load


def at_once(client: Any, count: int) -> None:
    threads = [threading.Thread(target=client, args=(number,)) for number in range(count)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()


def asked_directly(aws: Any) -> Any:
    """A function from a picture to the caption of the endpoint itself."""
    runtime = aws.client("sagemaker-runtime")

    def ask(picture: bytes) -> str:
        answer = runtime.invoke_endpoint(EndpointName=NAME, Body=picture, ContentType="image/jpeg")
        return str(json.loads(answer["Body"].read())["caption"])

    return ask


def asked_through(url: str) -> Any:
    """The same by way of the API."""
    import httpx

    line = httpx.Client(base_url=url, headers={"x-user-id": "one"}, timeout=PATIENCE_S, trust_env=False)

    def ask(picture: bytes) -> str:
        answer = line.post("/v1/captions", content=picture)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["caption"])

    return ask
