"""From a request for captions to its answer, and from feedback to the log: what the routes do, without their frame."""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request

from captioner.api.bodies import MAX_BODY, Sent, Wanted, parse, read_body
from captioner.api.commits import Commits
from captioner.api.faults import ApiError, fault_of
from captioner.api.fetching import SECONDS
from captioner.api.identity import ExpiredId, InferenceIds, UnknownId
from captioner.api.journal import timestamp
from captioner.api.pictures import Picture, picture
from captioner.api.routing import Asked, Routed, Router
from captioner.api.users import User
from captioner.errors import CaptionerError
from captioner.experiment.events import Feedback

Fetch = Callable[[str, float], Awaitable[bytes]]  # an address and seconds → what lies there
MAX_FEEDBACK = 16 << 10
LONGEST_CORRECTION = 300
LARGE = 1_000_000  # pixels; phones' pictures are larger, the web's mostly smaller


class Captions:
    """Answers requests that have been let in."""

    def __init__(self, router: Router, commits: Commits, ids: InferenceIds, fetch: Fetch, deadline_s: float) -> None:
        self._router, self._commits, self._ids, self._fetch = router, commits, ids, fetch
        self._deadline_s = deadline_s

    async def caption(
        self, request: Request, user: User, wanted: Wanted, override: str | None, keep_metadata: bool
    ) -> tuple[str, Any]:
        """(inference id, answer). Raises ApiError, and CaptionerError for what is wrong with the picture."""
        until = time.monotonic() + self._deadline_s
        sent = await self._sent(request, until)
        seconds = min(SECONDS, until - time.monotonic())
        data = await self._fetch(sent.url, seconds) if sent.url else sent.data
        shown = await asyncio.to_thread(picture, data, keep_metadata)
        asked = Asked(self._ids.new(), user.pseudonym, shown, wanted, until, override, _facts(shown, sent))
        request.scope["told"] |= {"inference_id": asked.id, "type": shown.type, "bytes": len(shown.data)}
        routed = await self._router.route(asked)
        request.scope["told"] |= {
            "variant": routed.answer.variant,
            "endpoint_ms": routed.endpoint_ms,
            "fallback": routed.fallback,
        }
        # The first API's users read a text and nothing else.
        return asked.id, routed.answer.body["caption"] if sent.seed else _answer(asked, routed)

    async def feedback(self, request: Request, id: str, user: User) -> dict[str, Any]:
        """What was written down, once it is. Raises ApiError."""
        try:
            self._ids.check(id)
        except UnknownId:
            raise ApiError(404, "unknown_id", "No caption with this id was given out here.") from None
        except ExpiredId:
            raise ApiError(410, "expired_id", "This caption is too old to be judged.") from None
        body = await read_body(request.stream(), request.headers, MAX_FEEDBACK)
        rating, correction = _judged(body)
        request.scope["told"] |= {"inference_id": id, "rating": rating, "corrected": correction is not None}
        feedback = Feedback(id, timestamp(), user.pseudonym, rating, correction)
        try:
            await asyncio.wait_for(asyncio.wrap_future(self._commits.add(feedback)), self._deadline_s)
        except TimeoutError:
            raise ApiError(503, "unavailable", "The log does not answer; send it again.") from None
        except CaptionerError as error:
            raise fault_of(error) from None
        return {"inference_id": id, "rating": rating, "correction": correction}

    async def _sent(self, request: Request, until: float) -> Sent:
        try:
            async with asyncio.timeout(until - time.monotonic()):
                body = await read_body(request.stream(), request.headers, MAX_BODY)
        except TimeoutError:
            raise ApiError(408, "too_slow", "The body did not come in time.") from None
        return await parse(body, request.headers.get("content-type", ""))


def _facts(shown: Picture, sent: Sent) -> dict[str, str]:
    """What results may be sliced by."""
    shape = "square" if shown.width == shown.height else "wide" if shown.width > shown.height else "tall"
    size = "large" if shown.width * shown.height > LARGE else "small"
    return {"type": shown.type, "source": sent.source, "shape": shape, "size": size}


def _answer(asked: Asked, routed: Routed) -> dict[str, Any]:
    body, model = routed.answer.body, routed.answer.body.get("model") or {}
    return {
        "inference_id": asked.id,
        "caption": body["caption"],
        "log_probability": body.get("log_probability"),
        "captions": [_caption(body), *(_caption(one) for one in body.get("alternatives") or ())],
        "variant": routed.answer.variant,
        "assigned": routed.assigned,
        "fallback": routed.fallback,
        "override": asked.override is not None,
        "experiment": routed.experiment.id if routed.experiment else None,
        "model": {"version": model.get("version"), "digest": model.get("digest")},
        "endpoint_ms": routed.endpoint_ms,
        "image": {"type": asked.picture.type, "width": asked.picture.width, "height": asked.picture.height},
        "attention": body.get("attention") if asked.wanted.explain else None,
    }


def _caption(one: Mapping[str, Any]) -> dict[str, Any]:
    likely = one.get("log_probability")
    probability = None if likely is None else round(math.exp(min(0.0, likely)), 6)
    return {"caption": one["caption"], "log_probability": likely, "probability": probability}


def _judged(body: bytes) -> tuple[int | None, str | None]:
    """Rating and correction. Raises ApiError."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise _wrong("The body is not JSON.") from None
    if not isinstance(value, dict) or set(value) - {"rating", "correction"}:
        raise _wrong('The body must be an object with "rating", "correction" or both.')
    rating, correction = value.get("rating"), value.get("correction")
    if rating is not None and (type(rating) is not int or not 1 <= rating <= 5):
        raise _wrong('"rating" must be a whole number from 1 to 5.')
    if correction is not None:
        if not isinstance(correction, str):
            raise _wrong('"correction" must be a text.')
        correction = re.sub(r"[\s\x00-\x1f\x7f]+", " ", correction).strip()
        if not 1 <= len(correction) <= LONGEST_CORRECTION:
            raise _wrong(f'"correction" must have 1 to {LONGEST_CORRECTION} characters.')
    if rating is None and correction is None:
        raise _wrong('There is neither a "rating" nor a "correction".')
    return rating, correction


def _wrong(message: str) -> ApiError:
    return ApiError(422, "bad_feedback", message)
