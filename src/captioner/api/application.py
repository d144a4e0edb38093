"""The routes of the REST API, and what all of them share: who asks, how often, what is logged, how errors look.

One ASGI application for uvicorn and for Lambda. Everything that it works with is handed to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from captioner import __version__
from captioner.api import docs, schemas
from captioner.api.bodies import Wanted
from captioner.api.cached import Cached
from captioner.api.captions import Captions
from captioner.api.exposures import Exposures
from captioner.api.faults import ApiError, fault_of
from captioner.api.frame import Frame
from captioner.api.journal import Say
from captioner.api.limits import Buckets, Caller, Keys
from captioner.api.users import COOKIE, COOKIE_S, TOKEN_HEADER, USER_HEADER, User, Users
from captioner.errors import CaptionerError

Override = Annotated[Literal["champion", "challenger"] | None, Header(description="for testers: who is to answer")]


@dataclass(frozen=True)
class Parts:
    """What the application is put together from."""

    captions: Captions
    exposures: Exposures
    users: Users
    keys: Keys
    buckets: Buckets
    say: Say
    health: Cached[Mapping[str, Any]]
    experiment: Cached[Mapping[str, Any]]
    models: Cached[Mapping[str, Any]]
    ledger: Cached[list[dict[str, Any]]]
    cors: tuple[str, ...] = ()


def create(parts: Parts) -> FastAPI:
    """The application. Its lifespan is the exposure buffer's."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        parts.exposures.start()
        yield
        await asyncio.to_thread(parts.exposures.close)

    app = FastAPI(
        title="captioner",
        summary="Tell me about the image.",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan,
    )
    _add_errors(app)
    _add_captions(app, parts)
    _add_reports(app, parts)
    docs.add(app)
    app.add_middleware(Frame, say=parts.say)
    if parts.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(parts.cors),
            allow_credentials=True,
            allow_methods=["GET", "POST"],
            allow_headers=["content-type", "x-api-key", USER_HEADER, TOKEN_HEADER, "x-variant"],
            expose_headers=[TOKEN_HEADER, "retry-after"],
        )
    return app


def _add_errors(app: FastAPI) -> None:
    async def refused(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ApiError)
        request.scope.get("told", {})["error"] = error.code
        return JSONResponse(error.body(), error.status, error.headers())

    async def ours(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, CaptionerError)
        return await refused(request, fault_of(error))

    async def malformed(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        return await refused(request, ApiError(422, "bad_request", f"{first['loc'][-1]}: {first['msg']}."))

    async def by_starlette(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
        answer = await refused(request, ApiError(error.status_code, code, f"{request.url.path}: {error.detail}."))
        answer.headers.update(error.headers or {})
        return answer

    async def bug(request: Request, error: Exception) -> JSONResponse:
        return await refused(request, ApiError(500, "internal", "Something broke here; the log says what."))

    app.add_exception_handler(ApiError, refused)
    app.add_exception_handler(CaptionerError, ours)
    app.add_exception_handler(RequestValidationError, malformed)
    app.add_exception_handler(HTTPException, by_starlette)
    app.add_exception_handler(Exception, bug)


def _add_captions(app: FastAPI, parts: Parts) -> None:
    admitted = [Depends(_admission(parts))]

    async def captions(
        request: Request,
        top: Annotated[int | None, Query(ge=1, le=20, description="how many captions")] = None,
        beam: Annotated[int | None, Query(ge=1, le=20, description="the beam's width")] = None,
        explain: Annotated[bool, Query(description="tell where the model looked for each word")] = False,
        metadata: Annotated[
            Literal["strip", "keep"], Query(description="keep: what is in the picture's EXIF may be stored")
        ] = "strip",
        x_variant: Override = None,
    ) -> JSONResponse:
        caller: Caller = request.scope["caller"]
        if x_variant and not caller.tester:
            raise ApiError(403, "not_a_tester", "This key may not choose a variant.")
        if top and beam and top > beam:
            raise ApiError(422, "bad_request", f"{top} captions cannot come from a beam of {beam}.")
        user = parts.users.of(request.headers, request.cookies)
        wanted = Wanted(beam, top, explain)
        id, answer = await parts.captions.caption(request, user, wanted, x_variant, metadata == "keep")
        return _with_user(JSONResponse(answer, headers={"x-inference-id": id}), user, request)

    async def feedback(request: Request, inference_id: str) -> JSONResponse:
        user = parts.users.of(request.headers, request.cookies)
        return JSONResponse(await parts.captions.feedback(request, inference_id, user))

    app.add_api_route(
        "/v1/captions",
        captions,
        methods=["POST"],
        dependencies=admitted,
        summary="Caption a picture",
        responses={
            200: {"model": schemas.CaptionedModel},
            **schemas.errors(400, 401, 403, 408, 413, 415, 422, 429, 503, 504),
        },
        openapi_extra={"requestBody": schemas.PICTURE_BODY, "parameters": schemas.USER_HEADERS},
    )
    # Where the first API's users post to: the stage's own address.
    app.add_api_route("/", captions, methods=["POST"], dependencies=admitted, include_in_schema=False)
    app.add_api_route(
        "/v1/captions/{inference_id}/feedback",
        feedback,
        methods=["POST"],
        dependencies=admitted,
        summary="Rate or correct a caption",
        responses={200: {"model": schemas.FeedbackOut}, **schemas.errors(401, 404, 410, 413, 422, 429, 503)},
        openapi_extra={"requestBody": schemas.FEEDBACK_BODY, "parameters": schemas.USER_HEADERS},
    )


def _add_reports(app: FastAPI, parts: Parts) -> None:
    admitted = [Depends(_admission(parts))]

    async def health() -> JSONResponse:
        found = await _in_time(parts.health)
        return JSONResponse(found, 200 if found["status"] == "ok" else 503)

    async def live() -> dict[str, str]:
        return {"status": "ok", "version": __version__}

    async def experiment() -> JSONResponse:
        return JSONResponse(await _in_time(parts.experiment))

    async def models() -> JSONResponse:
        return JSONResponse(await _in_time(parts.models))

    async def ledger(n: Annotated[int, Query(ge=1, le=100)] = 20) -> JSONResponse:
        return JSONResponse({"entries": (await _in_time(parts.ledger))[:n]})

    healthy: dict[int | str, dict[str, Any]] = {status: {"model": schemas.HealthModel} for status in (200, 503)}
    app.add_api_route("/v1/health", health, summary="Can the endpoint be asked?", responses=healthy)
    app.add_api_route("/v1/health/live", live, summary="Does this process answer?")
    for path, route, summary in (
        ("/v1/experiment", experiment, "The experiment and its analysis so far"),
        ("/v1/models", models, "Champion and challenger, and where they differ"),
        ("/v1/ledger", ledger, "Who changed what: the newest entries"),
    ):
        refusals = schemas.errors(401, 429)
        app.add_api_route(path, route, summary=summary, dependencies=admitted, responses=refusals)


def _admission(parts: Parts) -> Callable[..., Awaitable[None]]:
    """A dependency: who asks, and whether now."""

    async def admitted(request: Request, x_api_key: Annotated[str, Header()] = "") -> None:
        event = request.scope.get("aws.event") or {}
        gateway = (event.get("requestContext", {}).get("identity") or {}).get("apiKeyId") or ""
        address = request.client.host if request.client else ""
        caller = parts.keys.caller(x_api_key, address, gateway)
        parts.buckets.take(caller.name)
        request.scope["caller"] = caller

    return admitted


async def _in_time(cached: Cached[Any]) -> Any:
    return await asyncio.to_thread(cached.get) if cached.waits else cached.get()


def _with_user(answer: JSONResponse, user: User, request: Request) -> JSONResponse:
    if user.token:
        answer.headers[TOKEN_HEADER] = user.token
    if user.token and user.new:
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, user.token, COOKIE_S, httponly=True, samesite="lax", secure=secure)
    return answer
