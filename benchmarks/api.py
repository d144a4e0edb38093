"""The REST API before an endpoint with two variants: what it costs, and that it loses nothing.

How much longer a request takes by way of the API than asked of the endpoint itself (taking turns, one client), and
whether every caption that 16 clients get in a minute is in the log of exposures, once, when the API has been told to
end. The endpoint is the local SageMaker's, with a real model behind each variant. What an assignment takes is in
``experiments.py``.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import machine, material
from benchmarks.api_stack import NAME, api, deploy, emulator, exposures, start_experiment
from benchmarks.processes import PATIENCE_S
from benchmarks.results import Result
from benchmarks.rounds import ROUNDS, Ratio

CLIENTS = 16
SECONDS = 60.0
TURNS = 60  # requests of each way in a round
OVERHEAD_MS = 15.0

Ask = Callable[[bytes], dict[str, Any]]


@dataclass
class Load:
    """What clients got: the ids of captions, how long each took, and what else was answered or broke, by its name."""

    ids: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Account:
    """Captions that were answered, held against exposures that were logged; all of the last three should be 0."""

    answered: int
    logged: int
    lost: int  # answered and not logged
    strange: int  # logged as answered, and no client had the answer
    twice: int  # lines too many


def account(answered: Sequence[str], logged: Sequence[str]) -> Account:
    """Inference ids that clients were told, and those of the log's lines with status 200."""
    told, kept = set(answered), set(logged)
    return Account(len(told), len(kept), len(told - kept), len(kept - told), len(logged) - len(kept))


def run(clients: int = CLIENTS, seconds: float = SECONDS, rounds: int = ROUNDS, turns: int = TURNS) -> list[Result]:
    pictures = [picture.data for picture in material.pictures(64)]
    archive = material.artifact("attention")
    answered: list[str] = []
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="captioner-bench-")))
        aws = stack.enter_context(emulator(home))
        deploy(aws, archive)
        start_experiment(aws)
        direct = asked_directly(aws)
        with api(aws, home) as url:
            through = remembered(asked_through(url, "one"), answered)
            said = [[ask(one)["caption"] for one in pictures[:8]] for ask in (direct, through)]
            assert said[0] == said[1], "captions differ"
            overheads = [overhead(direct, through, pictures, turns) for _ in range(rounds + 1)][1:]
            load = loaded([asked_through(url, f"user {number}") for number in range(clients)], pictures, seconds)
        # The API has been told to end, and has ended: what it logged is all that there will be.
        kept = account([*answered, *load.ids], exposures(aws))
        beside = loaded([asked_directly(aws) for _ in range(clients)], pictures, min(seconds, 20.0))
    under_load = {
        "clients": clients,
        "seconds": seconds,
        "faults": dict(load.faults),
        "account": vars(kept),
        **figures(load, seconds),
        "endpoint_alone": figures(beside, min(seconds, 20.0)),
    }
    material.start()
    limit = {"limit": machine.limits()}
    return [
        Result(
            name="REST API over the endpoint itself, p50 of a request",
            peer=f"{OVERHEAD_MS:.0f} ms",
            ratio=_below([one[0] for one in overheads]),
            goal=1.0,
            unit="ms",
            ours=statistics.median(one[0] for one in overheads),
            peers=OVERHEAD_MS,
            equal="captions of the same pictures",
            details={**limit, "endpoint_p50_ms": statistics.median(one[1] for one in overheads)},
        ),
        Result(
            name=f"REST API, {clients} clients for {seconds:.0f} s: captions in the log of exposures",
            peer="captions that were answered",
            ratio=Ratio(*[0.0 if load.faults or kept.strange or kept.twice else 1.0 - kept.lost / kept.answered] * 3),
            goal=1.0,
            unit="captions",
            ours=float(kept.logged),
            peers=float(kept.answered),
            equal="no request failed, no caption twice",
            details={**limit, "under_load": under_load},
        ),
    ]


def _below(overheads: Sequence[float]) -> Ratio:
    """The limit over what it costs; what costs nothing that could be measured counts as 0.1 ms."""
    return Ratio.of([max(one, 0.1) for one in overheads], [OVERHEAD_MS] * len(overheads))


def figures(load: Load, seconds: float) -> dict[str, float]:
    cuts = statistics.quantiles(load.seconds, n=100)
    return {"requests_per_s": len(load.seconds) / seconds, "p50_ms": 1000 * cuts[49], "p99_ms": 1000 * cuts[98]}


def overhead(direct: Ask, through: Ask, pictures: Sequence[bytes], turns: int) -> tuple[float, float]:
    """Milliseconds by which the API's median is above the endpoint's, and the endpoint's, taking turns."""
    took: dict[Ask, list[float]] = {direct: [], through: []}
    for turn in range(turns):
        for ask in (direct, through):
            started = time.perf_counter()
            ask(pictures[turn % len(pictures)])
            took[ask].append(1000 * (time.perf_counter() - started))
    directly = statistics.median(took[direct])
    return statistics.median(took[through]) - directly, directly


def loaded(asks: Sequence[Ask], pictures: Sequence[bytes], seconds: float) -> Load:
    """One client for each of `asks`, at once; each asks again when it has its answer, or its fault."""
    load = Load()

    def client(number: int) -> None:
        until, turn = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            started = time.perf_counter()
            try:
                answer = asks[number](pictures[(number + turn) % len(pictures)])
            except Exception as error:
                load.faults[f"{type(error).__name__}: {error}"] += 1
            else:
                load.seconds.append(time.perf_counter() - started)
                load.ids.append(answer.get("inference_id", ""))
            turn += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(len(asks))]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return load


def remembered(ask: Ask, ids: list[str]) -> Ask:
    """`ask`, whose answers' ids are kept."""

    def asked(picture: bytes) -> dict[str, Any]:
        answer = ask(picture)
        ids.append(answer["inference_id"])
        return answer

    return asked


def asked_directly(aws: Any) -> Ask:
    """From a picture to what the endpoint itself says."""
    runtime = aws.client("sagemaker-runtime")

    def ask(picture: bytes) -> dict[str, Any]:
        answer = runtime.invoke_endpoint(EndpointName=NAME, Body=picture, ContentType="image/jpeg")
        return dict(json.loads(answer["Body"].read()))

    return ask


def asked_through(url: str, user: str) -> Ask:
    """The same by way of the API, as `user`."""
    import httpx

    headers = {"x-user-id": user, "content-type": "image/jpeg"}
    line = httpx.Client(base_url=url, headers=headers, timeout=PATIENCE_S, trust_env=False)

    def ask(picture: bytes) -> dict[str, Any]:
        answer = line.post("/v1/captions", content=picture)
        if answer.status_code != 200:
            raise AssertionError(f"{answer.status_code} {answer.text[:200]}")
        return dict(answer.json())

    return ask
