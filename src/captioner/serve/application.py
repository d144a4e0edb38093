"""The WSGI application of a served model: ``GET /ping`` and ``POST /invocations``, nothing else.

The model is loaded before this exists, so nothing loads on a request. Every answer but /ping's is JSON; errors are
``{"error": sentence}`` with the status that the error has.
"""

from __future__ import annotations

import json
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from captioner import images
from captioner.errors import CaptionerError
from captioner.model.captioner import describe
from captioner.serve.batching import LARGEST, Batcher, Model
from captioner.serve.requests import IMAGE_TYPES, JSON_TYPE, CaptionRequest, parse

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

MAX_BODY = 6_291_456  # SageMaker's own limit
QUEUE = 32  # requests that may wait; fewer than the server has threads, so that /ping always finds one


class HttpError(Exception):
    """A request that is refused before it reaches the model."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class Application:
    """Answers for one model: `workers` batches at once, QUEUE requests more wait, the others are told to come back."""

    def __init__(self, model: Model, version: str, digest: str, workers: int = 1, largest: int = LARGEST) -> None:
        self._model = Batcher(model, workers, largest)
        self._identity = {"version": version, "digest": digest}
        self._admitted = threading.Semaphore(workers + QUEUE)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            status, answer = HTTPStatus.OK, self._answer(environ)
        except HttpError as error:
            status, answer = error.status, {"error": str(error)}
        except CaptionerError as error:
            status, answer = HTTPStatus(error.http_status), {"error": str(error)}
        except Exception:
            traceback.print_exc(file=sys.stderr)
            status, answer = HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "The model failed; the server's log says how."}
        body = b"" if answer is None else json.dumps(answer, ensure_ascii=False).encode()
        headers = [("Content-Type", JSON_TYPE), ("Content-Length", str(len(body)))]
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            headers.append(("Retry-After", "1"))
        start_response(f"{status.value} {status.phrase}", headers)
        return [body]

    def _answer(self, environ: WSGIEnvironment) -> Any:
        method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "/")
        if path == "/ping" and method in ("GET", "HEAD"):
            return None
        if path == "/invocations" and method == "POST":
            return self._invoke(environ)
        if path in ("/ping", "/invocations"):
            wanted = "GET" if path == "/ping" else "POST"
            raise HttpError(HTTPStatus.METHOD_NOT_ALLOWED, f"{path} takes {wanted}, not {method}.")
        raise HttpError(HTTPStatus.NOT_FOUND, f"There is no {path} here: only /ping and /invocations.")

    def _invoke(self, environ: WSGIEnvironment) -> Any:
        _check_accept(environ.get("HTTP_ACCEPT", ""))
        with self._admission():
            request = parse(_content_type(environ), _body(environ))
            answers = self.caption(request)
        return {"results": answers} if request.batch else answers[0]

    def caption(self, request: CaptionRequest) -> list[dict[str, Any]]:
        """The answers to one request's images. Raises BadImage and BadInput."""
        names = [f"image {number}" for number in range(1, len(request.images) + 1)] if request.batch else ["image"]
        ready = [images.normalise(data, name) for data, name in zip(request.images, names, strict=True)]
        found = self._model.caption(ready, beam=request.beam, top=request.top)
        return [{**describe(captions), "model": self._identity} for captions in found]

    @contextmanager
    def _admission(self) -> Iterator[None]:
        if not self._admitted.acquire(blocking=False):
            raise HttpError(HTTPStatus.SERVICE_UNAVAILABLE, "Too many requests are waiting; try again.")
        try:
            yield
        finally:
            self._admitted.release()


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
