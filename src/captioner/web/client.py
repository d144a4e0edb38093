"""The REST API as the pages use it: answers as they come, every fault as one sentence for people."""

from __future__ import annotations

from functools import cache
from ssl import SSLContext
from typing import Any

import httpx

from captioner.errors import BadInput, CaptionerError, ServiceUnavailable

TIMEOUT_S = 35.0  # a little longer than the API gives itself
TOKEN = "X-User-Token"


class Client:
    """One user's way to the API at `url`. `token` is who the API takes the user for, "" before the first answer."""

    def __init__(
        self,
        url: str,
        key: str = "",
        token: str = "",
        transport: httpx.BaseTransport | None = None,
        source: str = "web",
    ) -> None:
        self.url, self.token = url.rstrip("/"), token
        self._key, self._transport, self._source = key, transport, source

    def caption(self, picture: bytes, explain: bool = True) -> dict[str, Any]:
        """The API's answer for a picture. Raises BadInput for one that it refuses, ServiceUnavailable."""
        named = {"Content-Type": "application/octet-stream"}
        return self._ask("POST", _path(explain), content=picture, headers=named)

    def caption_url(self, url: str, explain: bool = True) -> dict[str, Any]:
        """The same for a picture somewhere on the web, which the API fetches."""
        return self._ask("POST", _path(explain), json={"image_url": url})

    def say(self, inference_id: str, **said: Any) -> dict[str, Any]:
        """A `rating`, a `correction`, or both. Raises BadInput when the caption is too old or unknown."""
        return self._ask("POST", f"/v1/captions/{inference_id}/feedback", json=said)

    def experiment(self) -> dict[str, Any]:
        """The experiment that runs, or the last one, and what is known of it."""
        return self._ask("GET", "/v1/experiment")

    def models(self) -> dict[str, Any]:
        """Champion and challenger side by side, and captions of theirs that differ."""
        return self._ask("GET", "/v1/models")

    def ledger(self, count: int = 10) -> list[dict[str, Any]]:
        """The newest entries of the promotion ledger, newest last."""
        entries: list[dict[str, Any]] = self._ask("GET", f"/v1/ledger?n={count}")["entries"]
        return entries

    def _ask(self, method: str, path: str, headers: dict[str, str] | None = None, **body: Any) -> dict[str, Any]:
        named = {"X-Source": self._source, "x-api-key": self._key, TOKEN: self.token, **(headers or {})}
        try:
            with httpx.Client(transport=self._transport, timeout=TIMEOUT_S, verify=_trusted()) as client:
                answer = client.request(
                    method, self.url + path, headers={name: value for name, value in named.items() if value}, **body
                )
        except httpx.TimeoutException:
            raise ServiceUnavailable("The API took too long to answer. Try again in a moment.") from None
        except httpx.HTTPError:
            raise ServiceUnavailable(f"The API at {self.url} does not answer. Is it up?") from None
        self.token = answer.headers.get(TOKEN, self.token)
        try:
            found: dict[str, Any] = answer.json()
        except ValueError:
            raise ServiceUnavailable(f"What answers at {self.url} is not the captioner API.") from None
        if answer.is_success:
            return found
        raise _fault(answer, found)


@cache
def _trusted() -> SSLContext:
    """The certificates: reading them takes longer than a request."""
    return httpx.create_ssl_context()


def _path(explain: bool) -> str:
    return f"/v1/captions?explain={'true' if explain else 'false'}"


def _fault(answer: httpx.Response, found: Any) -> CaptionerError:
    said = found.get("error", {}).get("message") if isinstance(found, dict) else None
    message = said or f"The API answered {answer.status_code}."
    if answer.status_code == 429:
        return ServiceUnavailable(f"{message} It takes more in {answer.headers.get('Retry-After', 'a few')} s.")
    return ServiceUnavailable(message) if answer.status_code >= 500 else BadInput(message)
