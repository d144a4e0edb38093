"""The WSGI application of a served model: ``GET /ping``, ``POST /invocations`` and ``GET /metrics``, nothing else.

The model is loaded before this exists, so nothing loads on a request. Every answer but /ping's and /metrics' is JSON;
errors are ``{"error": sentence}`` with the status that the error has. Who sends more than can wait is told to slow down
(429), who waited too long that this server was too slow (503): in both cases the model never saw the request, and
``Retry-After`` says that the same request may be sent again.
"""

from __future__ import annotations

import json
import math
import re
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from captioner import images
from captioner.errors import CaptionerError
from captioner.model.captioner import describe
from captioner.serve.batching import LARGEST, Batcher, Late, Looks, Model
from captioner.serve.journal import Journal, Record
from captioner.serve.meters import Meters
from captioner.serve.requests import IMAGE_TYPES, JSON_TYPE, CaptionRequest, parse

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

MAX_BODY = 6_291_456  # SageMaker's own limit
QUEUE = 32  # requests that may wait; fewer than the server has threads, so that /ping always finds one
DEADLINE_S = 25.0  # under the 29 s after which API Gateway gives up, and SageMaker's 60
RETRY_S = 1  # a full queue is captioned in less than a second
INFERENCE_ID = "X-Amzn-SageMaker-Inference-Id"
TAKES = {"/ping": ("GET", "HEAD"), "/metrics": ("GET", "HEAD"), "/invocations": ("POST",)}
_ID = re.compile(r"[ -~]{1,64}")  # SageMaker's limits: ASCII, 64 characters


class HttpError(Exception):
    """A request that is refused before it reaches the model."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class Application:
    """Answers for one model: `workers` batches at once, QUEUE requests more wait, the others are told to come back."""

    def __init__(
        self,
        model: Model,
        version: str,
        digest: str,
        workers: int = 1,
        largest: int = LARGEST,
        deadline_s: float = DEADLINE_S,
        journal: Journal | None = None,
    ) -> None:
        self._model = Batcher(model, workers, largest)
        self._identity = {"version": version, "digest": digest}
        self._admitted = threading.Semaphore(workers + QUEUE)
        self._deadline_s = deadline_s
        self._journal = journal or Journal(version, digest)
        self._meters = Meters(version, digest, lambda: self._model.waiting)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "/")
        if path not in TAKES:
            there = ", ".join(TAKES)
            return _reply(start_response, HTTPStatus.NOT_FOUND, {"error": f"There is no {path} here: only {there}."})
        if method not in TAKES[path]:
            refusal = {"error": f"{path} takes {TAKES[path][0]}, not {method}."}
            return _reply(start_response, HTTPStatus.METHOD_NOT_ALLOWED, refusal)
        if path == "/invocations":
            return self._invocation(environ, start_response)
        body, kind = self._meters.page(environ.get("HTTP_ACCEPT", "")) if path == "/metrics" else (b"", JSON_TYPE)
        start_response("200 OK", [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body]

    def _invocation(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        began = time.monotonic()
        record = Record(_inference_id(environ))
        try:
            status, answer = HTTPStatus.OK, self._answer(environ, record, until=began + self._deadline_s)
        except HttpError as error:
            status, answer = error.status, {"error": str(error)}
        except CaptionerError as error:
            status, answer = HTTPStatus(error.http_status), {"error": str(error)}
        except Exception:
            traceback.print_exc(file=sys.stderr)
            status, answer = HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "The model failed; the server's log says how."}
        record.status, record.error = status.value, None if status is HTTPStatus.OK else answer["error"]
        record.total_s = time.monotonic() - began
        # Before the answer: whoever has that finds the request in the log and in the metrics.
        self._meters.count(record)
        self._journal.request(record)
        return _reply(start_response, status, answer, [(INFERENCE_ID, record.inference_id)])

    def _answer(self, environ: WSGIEnvironment, record: Record, until: float) -> Any:
        _check_accept(environ.get("HTTP_ACCEPT", ""))
        with self._admission():
            kind, body = _content_type(environ), _body(environ)
            record.bytes = len(body)
            request = parse(kind, body)
            answers = self._caption(request, record, until)
        return {"results": answers} if request.batch else answers[0]

    def _caption(self, request: CaptionRequest, record: Record, until: float) -> list[dict[str, Any]]:
        """The answers to one request's images. Raises BadImage, BadInput and, when it waited too long, HttpError."""
        names = [f"image {number}" for number in range(1, len(request.images) + 1)] if request.batch else ["image"]
        record.images = len(request.images)
        ready = [images.normalise(data, name) for data, name in zip(request.images, names, strict=True)]
        try:
            found = self._model.caption(ready, request.beam, request.top, until, request.explain)
        except Late:
            waited = f"The request waited {self._deadline_s:g} s and was not captioned; try again."
            raise HttpError(HTTPStatus.SERVICE_UNAVAILABLE, waited) from None
        record.queue_s, record.model_s, record.batch = found.queue_s, found.model_s, found.batch
        more = {"attention": _attention(found.looks)} if request.explain else {}
        return [{**describe(captions), **more, "model": self._identity} for captions in found.answers]

    @contextmanager
    def _admission(self) -> Iterator[None]:
        if not self._admitted.acquire(blocking=False):
            raise HttpError(HTTPStatus.TOO_MANY_REQUESTS, "Too many requests are waiting; send fewer, and try again.")
        try:
            yield
        finally:
            self._admitted.release()


def _attention(looks: Looks | None) -> dict[str, Any] | None:
    """Where the network looked, as JSON; None when it cannot tell. The grid is square: the whole picture, stretched."""
    if looks is None:
        return None
    weights = [[round(float(cell), 5) for cell in cells] for cells in looks.attention]
    side = math.isqrt(len(weights[0])) if weights else 0
    away = [round(float(one), 5) for one in looks.sentinel]
    return {"words": list(looks.words), "rows": side, "columns": side, "weights": weights, "looked_away": away}


def _reply(
    start_response: StartResponse, status: HTTPStatus, answer: Any, headers: Iterable[tuple[str, str]] = ()
) -> list[bytes]:
    body = json.dumps(answer, ensure_ascii=False).encode()
    sent = [("Content-Type", JSON_TYPE), ("Content-Length", str(len(body))), *headers]
    if status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        sent.append(("Retry-After", str(RETRY_S)))
    start_response(f"{status.value} {status.phrase}", sent)
    return [body]


def _inference_id(environ: WSGIEnvironment) -> str:
    """The caller's own, so that its log and ours can be joined; one of ours where there is none that may be one."""
    given: str = environ.get(f"HTTP_{INFERENCE_ID.upper().replace('-', '_')}", "")
    return given if _ID.fullmatch(given) else str(uuid.uuid4())


def _check_accept(accept: str) -> None:
    kinds = [part.split(";")[0].strip().lower() for part in accept.split(",") if part.strip()]
    if kinds and not any(kind in (JSON_TYPE, "application/*", "*/*") for kind in kinds):
        raise HttpError(HTTPStatus.NOT_ACCEPTABLE, f"The answer is {JSON_TYPE}; it cannot be {accept}.")


def _content_type(environ: WSGIEnvironment) -> str:
    given: str = environ.get("CONTENT_TYPE") or ""
    kind = given.split(";")[0].strip().lower()
    if kind not in (*IMAGE_TYPES, JSON_TYPE):
        valid = ", ".join((*IMAGE_TYPES, JSON_TYPE))
        raise HttpError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"The content type {given or '(none)'} is not one of: {valid}."
        )
    return kind


def _body(environ: WSGIEnvironment) -> bytes:
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if length > MAX_BODY:
        raise HttpError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body has {length} bytes; the limit is {MAX_BODY} (6 MB)."
        )
    return bytes(environ["wsgi.input"].read(length))
