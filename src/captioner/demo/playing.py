"""The crowd at the REST API: each user sends a picture, reads the caption and rates it. Over HTTP, as anybody would."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor

from captioner.demo.crowd import Crowd
from captioner.errors import CaptionerError
from captioner.web.client import Client

AT_ONCE = 4  # users who wait for a caption at the same time: two cores serve them


class Play:
    """`users` of `crowd` at the API `url`, at most `rate` a second; they come in the background until `stop`."""

    def __init__(self, url: str, crowd: Crowd, users: int, rate: float) -> None:
        self._url, self._crowd, self._users, self._rate = url, crowd, users, rate
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.fault = ""  # the last one that a user met
        self._thread = threading.Thread(target=self._run, name="crowd", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def over(self) -> bool:
        """Has everybody come and gone?"""
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Nobody comes any more; returns when those who are there have gone."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        began, waiting = time.monotonic(), threading.Semaphore(2 * AT_ONCE)
        with ThreadPoolExecutor(AT_ONCE, "user") as pool:
            for number in range(self._users):
                self._stop.wait(max(began + number / self._rate - time.monotonic(), 0.0))
                waiting.acquire()
                if self._stop.is_set():
                    return
                visit: Future[None] = pool.submit(self._visit, number)
                visit.add_done_callback(lambda done: waiting.release())

    def _visit(self, number: int) -> None:
        user, client = self._crowd.user(number), Client(self._url, source="demo")
        try:
            answer = client.caption(user.picture, explain=False)
            client.say(answer["inference_id"], rating=user.rates(answer["variant"]))
        except CaptionerError as error:
            self._count("failed", str(error))
        else:
            self._count(answer["variant"])

    def _count(self, what: str, fault: str = "") -> None:
        with self._lock:
            self.counts[what] += 1
            self.fault = fault or self.fault
