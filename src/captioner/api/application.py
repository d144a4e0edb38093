"""The ASGI application: routes, headers, statuses. What they mean is in ``service.py``.

Bodies are read to their limit and no further; work that waits for S3 or the endpoint runs in threads. Every error is
``{"error": {"code", "message"}}``, one sentence.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from captioner import __version__
from captioner.api import docs
from captioner.api.answers import ERRORS, JSON_OR_PICTURE, CaptionAnswer, FeedbackAnswer, FeedbackRequest, Health
from captioner.api.limits import Keys, Rates
from captioner.api.pages import Pages
from captioner.api.pictures import MAX_BODY, Picture, from_bytes, from_json
from captioner.api.refusals import Refusal, as_answer, refusal_of
from captioner.api.service import Service, Wish
from captioner.api.users import Caller, caller
from captioner.errors import CaptionerError
from captioner.ports import Runtime

COOKIE, TOKEN = "captioner_user", "X-User-Token"
COOKIE_S = 365 * 86_400
Fetch = Callable[[str, int], bytes]


@dataclass(frozen=True)
class Parts:
    """What the application is made of; `starting` wires it."""

    service: Service
    pages: Pages
    runtime: Runtime
    keys: Keys
    rates: Rates
    fetch: Fetch
    origins: tuple[str, ...] = ()


def create_app(parts: Parts) -> FastAPI:
    """The application. What was logged is durable when its lifespan has ended."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(parts.service.journal.close)

    app = FastAPI(
        title="captioner",
        version=__version__,
        summary="Tell me about the image.",
        description="Captions pictures, by the model that an experiment chose for you, and takes your word on it.",
        lifespan=lifespan,
        openapi_url=None,
        responses=ERRORS,
    )
    if parts.origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(parts.origins), allow_methods=["GET", "POST"], allow_headers=["*"]
        )
    _errors(app)
    _captions(app, parts)
    _pages(app, parts)
    docs.add(app)
    return app


def _captions(app: FastAPI, parts: Parts) -> None:
    service = parts.service

    def admitted(
        request: Request,
        x_api_key: str | None = Header(default=None),
        x_user_id: str | None = Header(default=None),
        x_user_token: str | None = Header(default=None),
    ) -> Caller:
        """Whoever asks, when they may, and not too often. Raises Refusal."""
        holder = parts.keys.holder(x_api_key)
        parts.rates.take(holder or (request.client.host if request.client else "?"))
        return caller(service.secret, x_user_id, x_user_token or request.cookies.get(COOKIE))

    @app.post("/v1/captions", response_model=CaptionAnswer, openapi_extra=JSON_OR_PICTURE, tags=["captions"])
    async def caption(
        request: Request,
        top: int | None = Query(default=None, ge=1, le=20, description="how many captions"),
        beam: int | None = Query(default=None, ge=1, le=20, description="the search's width"),
        explain: bool = Query(default=False, description="tell where the network looked for each word"),
        keep_metadata: bool = Query(default=False, description="send EXIF and the like on to the endpoint"),
        who: Caller = Depends(admitted),
        x_variant: str | None = Header(default=None, description="testers: champion or challenger"),
        x_source: str = Header(default="api", max_length=20, pattern="^[a-z0-9-]*$"),
    ) -> Response:
        """Caption one picture."""
        began = time.monotonic()
        picture = await _picture(request, parts.fetch, keep_metadata)
        wish = Wish(beam, top, explain, x_variant, x_source)
        found = await run_in_threadpool(service.caption, picture, who, wish)
        _log(found, round((time.monotonic() - began) * 1000, 1))
        # The first API's users get what they always got: the caption, as a JSON text.
        return _for(who, JSONResponse(found["caption"] if picture.first_api else found))

    @app.post(
        "/v1/captions/{inference_id}/feedback",
        response_model=FeedbackAnswer,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": FeedbackRequest.model_json_schema()}},
            }
        },
        tags=["captions"],
    )
    async def feedback(
        request: Request,
        inference_id: str,
        who: Caller = Depends(admitted),
    ) -> Response:
        """Rate a caption, or give a better one. The same again changes nothing."""
        body = await _read(request, 10_000)
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            raise Refusal(422, "bad_feedback", "The body is not JSON.") from None
        return JSONResponse(await run_in_threadpool(service.feedback, inference_id, value, who))


def _pages(app: FastAPI, parts: Parts) -> None:
    name, pages = parts.service.name, parts.pages

    def keyed(x_api_key: str | None = Header(default=None)) -> None:
        """Whoever reads needs a key as well. Raises Refusal."""
        parts.keys.holder(x_api_key)

    @app.get("/v1/health", response_model=Health, tags=["about"])
    def health() -> Response:
        """Whether captions can be had."""
        status = parts.runtime.status(name)
        found = {"name": name, "status": status}
        ready = status in ("InService", "Updating", "SystemUpdating", "RollingBack")
        body = {"status": "ok" if ready else "no endpoint", "endpoint": found, "version": __version__}
        return JSONResponse(body, 200 if ready else 503)

    @app.get("/v1/experiment", tags=["about"], dependencies=[Depends(keyed)])
    def experiment() -> Response:
        """The experiment that runs, or the last one: its document, and what is known by now."""
        return JSONResponse(pages.experiment())

    @app.get("/v1/models", tags=["about"], dependencies=[Depends(keyed)])
    def models() -> Response:
        """Champion and challenger side by side, as they were last published."""
        return JSONResponse(pages.models())

    @app.get("/v1/ledger", tags=["about"], dependencies=[Depends(keyed)])
    def ledger(n: int = Query(default=20, ge=1, le=200)) -> Response:
        """The newest entries of the promotion ledger, newest last."""
        return JSONResponse({"entries": pages.ledger(n)})


def _errors(app: FastAPI) -> None:
    def answer(refusal: Refusal) -> Response:
        after = refusal.retry_after_s
        headers = {} if after is None else {"Retry-After": str(max(1, round(after)))}
        return JSONResponse(as_answer(refusal.code, str(refusal)), refusal.status, headers)

    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Refusal) -> Response:
        return answer(error)

    @app.exception_handler(CaptionerError)
    async def known(request: Request, error: CaptionerError) -> Response:
        return answer(refusal_of(error))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        there = {404: f"There is no {request.url.path} here; /docs says what there is."}
        message = there.get(error.status_code, f"{request.method} is not taken here: {error.detail}.")
        return answer(Refusal(error.status_code, "not_found" if error.status_code == 404 else "bad_request", message))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return answer(Refusal(422, "bad_request", f"{where}: {first['msg']}."))

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> Response:
        traceback.print_exception(error, file=sys.stderr)
        return answer(Refusal(500, "failed", "The API failed; its log says how."))


def _for(who: Caller, response: Response) -> Response:
    """An anonymous caller is told who they are, so that they meet the same variant next time."""
    if who.token:
        response.headers[TOKEN] = who.token
        response.set_cookie(COOKIE, who.token, max_age=COOKIE_S, httponly=True, samesite="lax")
    return response


async def _picture(request: Request, fetch: Fetch, keep_metadata: bool) -> Picture:
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    body = await _read(request, MAX_BODY)
    if kind == "application/json":
        return await run_in_threadpool(from_json, body, fetch, keep_metadata)
    if kind == "multipart/form-data":
        body = await _field(request, body)
    elif kind and not kind.startswith("image/") and kind != "application/octet-stream":
        raise Refusal(415, "bad_type", f"The content type {kind} is not taken: send a picture, a form or JSON.")
    return await run_in_threadpool(from_bytes, body, keep_metadata)


async def _field(request: Request, body: bytes) -> bytes:
    """The form's field `image`."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        async with Request(request.scope, receive).form(max_files=1, max_fields=8) as form:
            given = form.get("image")
            if isinstance(given, UploadFile):
                return await given.read()
    except HTTPException as error:
        raise Refusal(400, "bad_request", f"The form cannot be read: {error.detail}.") from None
    raise Refusal(400, "bad_request", "The form has no file in its field `image`.")


async def _read(request: Request, limit: int) -> bytes:
    """The body, `limit` bytes at most; more is not waited for."""
    too_large = Refusal(413, "too_large", f"The request has over {limit} bytes.")
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > limit:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large
    return bytes(body)


def _log(found: dict[str, Any], took: float) -> None:
    told = (
        "inference_id",
        "variant",
        "assigned",
        "fallback",
        "override",
        "experiment",
        "model",
        "endpoint_ms",
        "image",
    )
    line = {"event": "caption", "ms": took, **{name: found[name] for name in told}}
    print(json.dumps(line), file=sys.stderr, flush=True)
