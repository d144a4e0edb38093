"""Which variant answers: the assigned one, the one that a tester asks for, the champion when either is down.

Every question ends as exactly one exposure, whatever becomes of it. Retries have full jitter and end with the time that
the request has. Knows nothing of HTTP, and of S3 only that the running experiment comes from somewhere.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from captioner.api.bodies import Wanted
from captioner.api.cached import Cached
from captioner.api.exposures import Exposures
from captioner.api.faults import ApiError, fault_of
from captioner.api.journal import Say, timestamp
from captioner.api.pictures import Picture
from captioner.errors import CaptionerError, ModelUnavailable
from captioner.experiment.assignment import assigned
from captioner.experiment.document import Experiment
from captioner.experiment.events import Exposure
from captioner.ledger import CHAMPION
from captioner.ports import Answer, Inference, Question

DEADLINE_S = 25.0  # less than the 29 s after which API Gateway gives up
RESERVE_S = 10.0  # of that, for the champion when the other one does not answer
TRIES = {True: 4, False: 2}  # of the champion, which nobody replaces, and of any other
FIRST_S, LONGEST_S = 0.05, 2.0  # what a retry waits: up to this, twice that, …
THREADS = 64


@dataclass(frozen=True)
class Asked:
    """One request: `user` is a pseudonym, `until` by time.monotonic(), `override` the variant that a tester wants."""

    id: str
    user: str
    picture: Picture
    wanted: Wanted
    until: float
    override: str | None = None
    facts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Routed:
    """The endpoint's answer, and how it came about."""

    answer: Answer
    experiment: Experiment | None
    assigned: str
    fallback: bool
    endpoint_ms: float


class Router:
    """Asks the endpoint `name`. `jitter` draws from [0, 1)."""

    def __init__(
        self,
        inference: Inference,
        name: str,
        running: Cached[Experiment | None],
        exposures: Exposures,
        say: Say,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.name, self._inference, self._running = name, inference, running
        self._exposures, self._say, self._jitter = exposures, say, jitter
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="ask")

    async def route(self, asked: Asked) -> Routed:
        """The answer to `asked`. Raises ApiError; either way there is an exposure of it then."""
        experiment = await self._experiment()
        arm = assigned(experiment, asked.user) if experiment else ""
        target = asked.override or arm or None
        began, at = time.monotonic(), timestamp()
        status, answer, fallback = 500, None, False
        try:
            answer, fallback = await self._answered(asked, target)
            status = 200
        except ApiError as error:
            status = error.status
            raise
        finally:
            took = round((time.monotonic() - began) * 1000, 2)
            shown = _shown(asked, experiment, arm, answer, fallback)
            self._exposures.add(Exposure(asked.id, at, asked.user, status=status, latency_ms=took, **shown))
        return Routed(answer, experiment, arm, fallback, took)

    async def _experiment(self) -> Experiment | None:
        found = await self._in_thread(self._running.get) if self._running.waits else self._running.get()
        return found if found is not None and found.running else None

    async def _answered(self, asked: Asked, target: str | None) -> tuple[Answer, bool]:
        """The answer, and whether the champion gave it in place of `target`. Raises ApiError."""
        if target == CHAMPION:
            return await self._ask(asked, CHAMPION, asked.until), False
        try:
            return await self._ask(asked, target, asked.until - min(RESERVE_S, self._left(asked.until) / 2)), False
        except ApiError as error:
            if error.code not in _DOWN:
                raise
            self._say("fallback", inference_id=asked.id, variant=target, error=str(error))
        return await self._ask(asked, CHAMPION, asked.until), True

    async def _ask(self, asked: Asked, variant: str | None, until: float) -> Answer:
        """One variant, again where that may help. Raises ApiError."""
        question = self._question(asked, variant)
        for wait in self._waits(TRIES[variant == CHAMPION]):
            try:
                return await asyncio.wait_for(
                    self._in_thread(self._inference.ask, self.name, question), max(0.0, self._left(until))
                )
            except TimeoutError:
                raise ApiError(504, "deadline", "The model did not answer in time; try again.") from None
            except ModelUnavailable as error:
                if not error.again or wait is None or wait >= self._left(until):
                    raise ApiError(503, "model_unavailable", str(error)) from None
                await asyncio.sleep(wait)
            except CaptionerError as error:
                fault = fault_of(error)
                if not asked.wanted.plain and fault.code == "bad_image":  # or the options are what it refuses
                    fault = ApiError(fault.status, "bad_request", str(fault))
                raise fault from None
        raise AssertionError("the last wait is None")

    def _waits(self, tries: int) -> Iterator[float | None]:
        """What to wait after each try, None after the last: full jitter.

        (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.)
        """
        for number in range(tries - 1):
            yield self._jitter() * min(LONGEST_S, FIRST_S * 2**number)
        yield None

    def _question(self, asked: Asked, variant: str | None) -> Question:
        picture, wanted = asked.picture, asked.wanted
        trace = f"captioner-api;variant={variant or 'any'};override={'yes' if asked.override else 'no'}"
        if wanted.plain:
            return Question(picture.data, picture.content_type, asked.id, variant, trace)
        body: dict[str, Any] = {"image": base64.b64encode(picture.data).decode()}
        body |= {name: value for name in ("beam", "top") if (value := getattr(wanted, name)) is not None}
        body |= {"explain": True} if wanted.explain else {}
        return Question(json.dumps(body).encode(), "application/json", asked.id, variant, trace)

    async def status(self) -> str | None:
        """The endpoint's status. Raises ServiceUnavailable, BadEnvironment."""
        found: str | None = await self._in_thread(self._inference.status, self.name)
        return found

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    @staticmethod
    def _left(until: float) -> float:
        return until - time.monotonic()


_DOWN = ("model_unavailable", "deadline")


def _shown(
    asked: Asked, experiment: Experiment | None, arm: str, answer: Answer | None, fallback: bool
) -> dict[str, Any]:
    """The members of an exposure that tell what the user met."""
    body = answer.body if answer else {}
    model = body.get("model") or {}
    return {
        "variant": answer.variant if answer else "",
        "experiment": experiment.id if experiment else "",
        "assigned": arm,
        "share": experiment.share if experiment else 0.0,
        "fallback": fallback,
        "override": asked.override is not None,
        "version": str(model.get("version") or ""),
        "digest": str(model.get("digest") or ""),
        "caption": str(body.get("caption") or ""),
        "log_probability": body.get("log_probability"),
        "facts": asked.facts,
    }
