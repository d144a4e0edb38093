"""Captions the images of concurrent requests in one call: per image, eight at once cost a third of one alone.

While a batch is captioned, requests gather. When it is done, the next batch waits until as many images are there as
the last one had, a few milliseconds at most: so clients that answer each other's pace meet again, and a client that
is alone never waits. A request whose time is up before the model takes it never reaches the model. Batches are not
padded: sizes in between cost nothing extra (docs/LOG.md). Knows nothing of HTTP.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from captioner.records import Caption

if TYPE_CHECKING:
    from captioner.model.captioner import Explanation

LARGEST = 8
"""Images in a batch. More cost hardly less, and would leave another core without work."""

WINDOW_S = 0.003

Answers = list[tuple[Caption, ...]]


class Model(Protocol):
    """What is served: `captioner.model.captioner.Captioner`, or the fake of the tests."""

    def caption(self, images: Sequence[bytes], beam: int | None = None, top: int | None = None) -> Answers: ...
    def explain(self, image: bytes, beam: int | None = None) -> Explanation:
        """Where the network looked for each word. Raises BadInput when it cannot tell."""


class Late(Exception):
    """The request's time was up before the model could take it."""


@dataclass(frozen=True)
class Captioned:
    """The answers to one request; how long it waited, how long the model took, and with how many images in all."""

    answers: Answers
    queue_s: float
    model_s: float
    batch: int


@dataclass(frozen=True, eq=False)
class _Job:
    images: Sequence[bytes]
    beam: int | None
    top: int | None
    until: float | None
    began: float = field(default_factory=time.monotonic)
    done: Future[Captioned] = field(default_factory=Future)


class Batcher:
    """A queue before `model`, and `workers` threads that empty it. `largest` 1 captions every request alone."""

    def __init__(self, model: Model, workers: int = 1, largest: int = LARGEST, window_s: float = WINDOW_S) -> None:
        self._model, self._largest, self._window_s = model, largest, window_s
        self._waiting: list[_Job] = []
        self._changed = threading.Condition()
        self._last = 1  # images in the batch before
        for number in range(workers):
            threading.Thread(target=self._work, name=f"captions-{number}", daemon=True).start()

    @property
    def waiting(self) -> int:
        """Requests that no batch has yet."""
        return len(self._waiting)

    def caption(
        self, images: Sequence[bytes], beam: int | None = None, top: int | None = None, until: float | None = None
    ) -> Captioned:
        """What the model says, whatever else it is asked at the time. `until`: when it is too late (time.monotonic()).

        Raises Late, and what the model raises for these images.
        """
        job = _Job(images, beam, top, until)
        with self._changed:
            self._waiting.append(job)
            self._changed.notify_all()
        try:
            return job.done.result(None if until is None else max(0.0, until - time.monotonic()))
        except TimeoutError:
            with self._changed:
                if job in self._waiting:
                    self._waiting.remove(job)
                    raise Late from None
            return job.done.result()  # the model has it, or has had it

    def _work(self) -> None:
        while True:
            self._run(self._next())

    def _next(self) -> list[_Job]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            wanted, until = min(self._last, self._largest), time.monotonic() + self._window_s
            while self._gathered() < wanted and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            return self._take()

    def _gathered(self) -> int:
        return sum(len(job.images) for job in self._waiting)

    def _take(self) -> list[_Job]:
        """The first job and those behind it that ask for the same beam and fit; none when another worker was first."""
        self._send_away()
        batch: list[_Job] = []
        for job in list(self._waiting):
            count = sum(len(one.images) for one in batch) + len(job.images)
            alike = not batch or (job.beam, job.top) == (batch[0].beam, batch[0].top)
            if alike and (not batch or count <= self._largest):
                batch.append(job)
                self._waiting.remove(job)
        self._last = max(1, sum(len(job.images) for job in batch))
        return batch

    def _send_away(self) -> None:
        """Those that are late, though they may not have noticed yet."""
        now = time.monotonic()
        for job in [job for job in self._waiting if job.until is not None and job.until <= now]:
            self._waiting.remove(job)
            job.done.set_exception(Late())

    def _run(self, batch: Sequence[_Job]) -> None:
        if not batch:
            return
        started = time.monotonic()
        images = [image for job in batch for image in job.images]
        try:
            answers = self._model.caption(images, beam=batch[0].beam, top=batch[0].top)
        except Exception as error:
            if len(batch) == 1:
                batch[0].done.set_exception(error)
            else:  # one request's picture must not fail the others'
                for job in batch:
                    self._run([job])
            return
        took = time.monotonic() - started
        for job in batch:
            job.done.set_result(Captioned(answers[: len(job.images)], started - job.began, took, len(images)))
            answers = answers[len(job.images) :]
