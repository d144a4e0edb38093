"""One request to a container, with a deadline for all of its answer; another instance where nothing was sent yet."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass

from captioner.emulator.children import HOST
from captioner.emulator.fleet import Fleet
from captioner.emulator.instance import Instance

_PIECE = 1 << 16


class TimedOut(Exception):
    """The container has not answered in time."""


@dataclass(frozen=True)
class Answer:
    """What the container said; header names in lower case. `body` is cut off at the limit that was given."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "application/octet-stream")


def ask(
    fleet: Fleet, variant: str, headers: Mapping[str, str], body: bytes, answer_s: float, most: int
) -> Answer | None:
    """POST /invocations to an instance of `variant`; None while none of them can be reached.

    Raises TimedOut when the whole answer is not there after `answer_s` seconds, OSError when the container breaks off.
    """
    for _ in range(len(fleet.running(variant).instances) + 1):
        instance = fleet.instance(variant)
        if instance is None:
            return None
        try:
            return _send(instance, headers, body, answer_s, most)
        except ConnectionRefusedError:
            continue  # it died just now: nothing was sent, so another instance may be asked
        except http.client.HTTPException as error:
            raise OSError(repr(error)) from None
    return None


def _send(instance: Instance, headers: Mapping[str, str], body: bytes, answer_s: float, most: int) -> Answer:
    deadline = time.monotonic() + answer_s
    with instance.lease() as port:
        connection = http.client.HTTPConnection(HOST, port, timeout=answer_s)
        try:
            connection.connect()
            opened = connection.sock  # http.client lets go of it when the answer says "close"
            connection.request("POST", "/invocations", body=body, headers=dict(headers))
            _limit(opened, deadline)
            answer = connection.getresponse()
            found = bytearray()
            while len(found) < most and not answer.isclosed():
                _limit(opened, deadline)
                piece = answer.read1(min(_PIECE, most - len(found)))
                if not piece:
                    break
                found += piece
            if answer.length and len(found) < most:
                raise http.client.IncompleteRead(bytes(found), answer.length)
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, bytes(found))
        except TimeoutError:
            raise TimedOut from None
        finally:
            connection.close()


def _limit(opened: socket.socket, deadline: float) -> None:
    """Let the next operation take what is left. A container that drips its answer gets no more than its time."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimedOut
    opened.settimeout(left)
