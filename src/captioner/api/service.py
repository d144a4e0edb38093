"""One caption, from the request's parts to the answer and the log; and what users say of it. Knows nothing of HTTP."""

from __future__ import annotations

import base64
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from captioner.api.ids import check_id, new_id
from captioner.api.journal import Journal
from captioner.api.pictures import Picture
from captioner.api.refusals import Refusal
from captioner.api.router import Current, Routed, Router
from captioner.api.users import Caller
from captioner.clock import stamp
from captioner.errors import CaptionerError
from captioner.experiment.assignment import assigned
from captioner.experiment.document import Experiment
from captioner.experiment.events import Exposure, Feedback
from captioner.ledger import ALIASES

DEADLINE_S = 24.0  # API Gateway gives up after 29 s
LONGEST_CORRECTION = 300
CONTENT_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "application/x-image"}


@dataclass(frozen=True)
class Wish:
    """How a picture is to be captioned: options of the model, and a tester's choice of variant."""

    beam: int | None = None
    top: int | None = None
    explain: bool = False
    variant: str | None = None
    source: str = "api"


class Service:
    """Captions through the endpoint `name`, with the experiment that runs on it."""

    def __init__(
        self,
        name: str,
        secret: str,
        router: Router,
        journal: Journal,
        current: Current,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name, self.secret = name, secret
        self._router, self.journal, self._current, self._clock = router, journal, current, clock

    def caption(self, picture: Picture, caller: Caller, wish: Wish) -> dict[str, Any]:
        """The answer of ``POST /v1/captions``. Whatever comes of it is logged once, as soon as a variant was asked."""
        if wish.variant is not None and wish.variant not in ALIASES:
            raise Refusal(400, "bad_variant", f"X-Variant must be one of: {', '.join(ALIASES)}.")
        experiment = self._current.running()
        meant = assigned(experiment, caller.pseudonym) if experiment else ""
        body, kind = _body(picture, wish)
        inference_id, at, began = new_id(self.secret, self._clock()), self._now(), time.monotonic()
        status, routed = 500, None
        try:
            routed = self._router.ask(body, kind, inference_id, meant, wish.variant, began + DEADLINE_S)
            status = 200
        except Refusal as error:
            status = error.status
            raise
        except CaptionerError as error:
            status = error.http_status
            raise
        finally:
            took = (time.monotonic() - began) * 1000
            shown = _exposure(inference_id, at, caller, experiment, meant, routed, status, took)
            facts = {"type": picture.format.lower(), "source": wish.source}
            self.journal.show(replace(shown, override=wish.variant is not None, facts=facts))
        return _answer(inference_id, picture, experiment, meant, routed, wish, took)

    def feedback(self, inference_id: str, value: Any, caller: Caller) -> dict[str, Any]:
        """The answer of ``POST …/feedback``, once what was said is durable. Saying it again changes nothing."""
        check_id(self.secret, inference_id, self._clock())
        rating, correction = _said(value)
        self.journal.say(Feedback(inference_id, self._now(), caller.pseudonym, rating, correction))
        return {"inference_id": inference_id, "rating": rating, "correction": correction}

    def _now(self) -> str:
        return stamp(datetime.fromtimestamp(self._clock(), UTC))


def _body(picture: Picture, wish: Wish) -> tuple[bytes, str]:
    """What the endpoint is sent: the bytes themselves, or JSON where there are options."""
    options = {"beam": wish.beam, "top": wish.top, "explain": wish.explain or None}
    asked = {name: value for name, value in options.items() if value is not None}
    if not asked:
        return picture.data, CONTENT_TYPES[picture.format]
    return json.dumps({"image": base64.b64encode(picture.data).decode(), **asked}).encode(), "application/json"


def _exposure(
    inference_id: str,
    at: str,
    caller: Caller,
    experiment: Experiment | None,
    meant: str,
    routed: Routed | None,
    status: int,
    took: float,
) -> Exposure:
    shown = Exposure(
        inference_id,
        at,
        caller.pseudonym,
        routed.answer.variant if routed else "",
        status,
        round(took, 3),
        experiment=experiment.id if experiment else "",
        assigned=meant,
        share=experiment.share if experiment else 0.0,
    )
    if routed is None:
        return shown
    body, model = routed.answer.body, routed.answer.body.get("model", {})
    return replace(
        shown,
        fallback=routed.fallback,
        version=str(model.get("version", "")),
        digest=str(model.get("digest", "")),
        caption=str(body.get("caption", "")),
        log_probability=body.get("log_probability"),
    )


def _answer(
    inference_id: str,
    picture: Picture,
    experiment: Experiment | None,
    meant: str,
    routed: Routed,
    wish: Wish,
    took: float,
) -> dict[str, Any]:
    body: Mapping[str, Any] = routed.answer.body
    captions = [{key: body[key] for key in ("caption", "log_probability")}, *body.get("alternatives", [])]
    return {
        "inference_id": inference_id,
        "caption": body["caption"],
        "log_probability": body["log_probability"],
        "captions": [{**one, "probability": math.exp(one["log_probability"])} for one in captions],
        "variant": routed.answer.variant,
        "assigned": meant or None,
        "fallback": routed.fallback,
        "override": wish.variant is not None,
        "experiment": experiment.id if experiment else None,
        "model": dict(body.get("model", {})),
        "endpoint_ms": round(took, 1),
        "image": {"type": picture.format.lower(), "width": picture.width, "height": picture.height},
        "attention": body.get("attention"),
    }


def _said(value: Any) -> tuple[int | None, str | None]:
    def wrong(message: str) -> Refusal:
        return Refusal(422, "bad_feedback", message)

    if not isinstance(value, dict) or not value or set(value) - {"rating", "correction"}:
        raise wrong('The body must be an object with "rating" (1 to 5), "correction" (a caption), or both.')
    rating, correction = value.get("rating"), value.get("correction")
    if rating is not None and (not isinstance(rating, int) or isinstance(rating, bool) or not 1 <= rating <= 5):
        raise wrong('"rating" must be a whole number from 1 to 5.')
    if correction is not None:
        correction = " ".join(correction.split()) if isinstance(correction, str) else ""
        if not 1 <= len(correction) <= LONGEST_CORRECTION:
            raise wrong(f'"correction" must be a text of 1 to {LONGEST_CORRECTION} characters.')
    if rating is None and correction is None:
        raise wrong('Give a "rating", a "correction", or both.')
    return rating, correction
