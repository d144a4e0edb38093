"""S3's requests passed on to the store, bodies streamed both ways, header names as they were sent."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from captioner.emulator.children import HOST
from captioner.emulator.listener import CHUNK, RAW_HEADERS, blocks
from captioner.emulator.objects import PROBE, Objects

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# Headers that are about one connection. The body's encoding is passed on; "100-continue" was answered in front.
_HOP_BY_HOP = {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "upgrade"}
_NOT_PASSED = _HOP_BY_HOP | {"expect"}
_NOT_RETURNED = _HOP_BY_HOP | {"transfer-encoding"}


class S3Front:
    """A WSGI application over `objects`."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "GET" and environ.get("PATH_INFO", "/") == "/":
            return self._list_buckets(start_response)
        connection = http.client.HTTPConnection(HOST, self._objects.port, timeout=300)
        try:
            # The raw request line: only there is "%2F" still something else than "/".
            method, target = environ["REQUEST_METHOD"], environ["REQUEST_URI"]
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in environ[RAW_HEADERS]:
                if name.lower() not in _NOT_PASSED:
                    connection.putheader(name, value)
            connection.endheaders(blocks(environ), encode_chunked=bool(environ.get("wsgi.input_terminated")))
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return _unavailable(start_response, repr(error))
        # In lower case, as S3 gives the names of metadata; SeaweedFS has capitalised them.
        headers = [(name.lower(), value) for name, value in answer.getheaders() if name.lower() not in _NOT_RETURNED]
        start_response(f"{answer.status} {answer.reason}", headers)
        return _Body(answer, connection)

    def _list_buckets(self, start_response: StartResponse) -> list[bytes]:
        # SeaweedFS lists a caller's own buckets, and without credentials nobody owns any: ask its filer instead.
        connection = http.client.HTTPConnection(HOST, self._objects.filer_port, timeout=30)
        try:
            connection.request("GET", "/buckets/?limit=10000", headers={"Accept": "application/json"})
            answer = connection.getresponse()
            entries = json.loads(answer.read()).get("Entries") or [] if answer.status == 200 else []
        except (OSError, http.client.HTTPException, ValueError) as error:
            return _unavailable(start_response, repr(error))
        finally:
            connection.close()
        named = [(one["FullPath"].rsplit("/", 1)[1], one["Crtime"][:19]) for one in entries]
        buckets = "".join(
            f"<Bucket><Name>{name}</Name><CreationDate>{made}Z</CreationDate></Bucket>"
            for name, made in named
            if name != PROBE and not name.startswith(".")
        )
        owner = "<Owner><ID>local</ID><DisplayName>local</DisplayName></Owner>"
        body = f"<ListAllMyBucketsResult>{owner}<Buckets>{buckets}</Buckets></ListAllMyBucketsResult>"
        return _xml(start_response, "200 OK", body)


class _Body:
    """The body of an answer as it arrives; closes the connection behind it."""

    def __init__(self, answer: http.client.HTTPResponse, connection: http.client.HTTPConnection) -> None:
        self._answer, self._connection = answer, connection

    def __iter__(self) -> Iterator[bytes]:
        while block := self._answer.read(CHUNK):
            yield block

    def close(self) -> None:
        self._connection.close()


def _unavailable(start_response: StartResponse, reason: str) -> list[bytes]:
    message = f"<Message>{escape(f'The local S3 does not answer: {reason}')}</Message>"
    return _xml(start_response, "503 Service Unavailable", f"<Error><Code>ServiceUnavailable</Code>{message}</Error>")


def _xml(start_response: StartResponse, status: str, body: str) -> list[bytes]:
    data = f'<?xml version="1.0" encoding="UTF-8"?>{body}'.encode()
    start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(data)))])
    return [data]
