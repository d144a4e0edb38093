"""The front door: one WSGI application that sends each request where its signature says it belongs.

``sagemaker`` to the handlers here, ``s3`` to the S3 beside, everything else (and SageMaker's other operations) to
moto in this process. ``/_captioner/health`` is ours.
"""

from __future__ import annotations

import json
import re
import threading
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from captioner.emulator.control import Control
from captioner.emulator.endpoints import Endpoints
from captioner.emulator.faults import AwsError
from captioner.emulator.fleet import Fleet, RunningVariant
from captioner.emulator.listener import blocks
from captioner.emulator.objects import Objects
from captioner.emulator.runtime import MAX_BODY, Runtime
from captioner.emulator.s3_front import S3Front
from captioner.emulator.series import Series
from captioner.emulator.store import Store
from captioner.emulator.watching import Alarms

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_CREDENTIAL = re.compile(r"Credential=[^/]*/[^/]*/[^/]*/([^/]+)/aws4_request")
_INVOCATIONS = re.compile(r"^/endpoints/([^/]+)/invocations$")
# moto would take the first of these and do nothing.
_NOT_OURS = {"async-invocations": "asynchronous inference", "invocations-response-stream": "streamed answers"}
_TARGET = "SageMaker."
MAX_JSON = 1 << 20


class Front:
    """Dispatches; `health` is what /_captioner/health shows."""

    def __init__(
        self,
        store: Store,
        endpoints: Endpoints,
        objects: Objects,
        control: Control,
        runtime: Runtime,
        cloudwatch: tuple[Series, Alarms],
    ) -> None:
        self._store, self._endpoints, self._objects = store, endpoints, objects
        self._runtime = runtime
        self._s3 = S3Front(objects)
        self._control, self._cloudwatch = control, cloudwatch
        self._moto: WSGIApplication | None = None
        self._moto_lock = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "/")
        if environ.get("HTTP_ORIGIN"):
            # Any web page that the user has open could otherwise drive what listens on this machine.
            return _json(start_response, 403, b'{"message": "The local AWS answers programs, not web pages."}')
        if path.startswith("/_captioner/"):
            return self._own(path, start_response)
        service = signing_name(environ)
        if service == "sagemaker":
            return self._sagemaker(environ, start_response)
        if service == "s3":
            return self._s3(environ, start_response)
        return self._others()(environ, start_response)

    def _own(self, path: str, start_response: StartResponse) -> Iterable[bytes]:
        if path == "/_captioner/health":
            return _json(start_response, 200, json.dumps(self.health(), indent=2).encode())
        return _json(start_response, 404, b'{"message": "There is only /_captioner/health."}')

    def health(self) -> dict[str, Any]:
        """Every instance with its process: what a person, `captioner status` or a test may want to see."""
        endpoints: dict[str, Any] = {}
        for endpoint in self._store.all("endpoint"):
            name = endpoint["EndpointName"]
            traffic = self._endpoints.traffic(name)
            live, coming = (traffic.live, traffic.coming) if traffic else (None, None)
            endpoints[name] = {"status": endpoint["Status"], **_fleet(live)}
            if traffic and coming:
                endpoints[name]["coming"] = {"share": traffic.share, **_fleet(coming)}
        return {"healthy": True, "s3": {"pid": self._objects.pid}, "endpoints": endpoints}

    def _sagemaker(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            path = environ.get("PATH_INFO", "")
            if other := _NOT_OURS.get(path.rpartition("/")[2]):
                raise AwsError("ValidationError", f"The local SageMaker has no {other}: use InvokeEndpoint.")
            invocation = _INVOCATIONS.match(path)
            if invocation and environ["REQUEST_METHOD"] == "POST":
                return self._invoke(unquote(invocation.group(1)), environ, start_response)
            operation = environ.get("HTTP_X_AMZ_TARGET", "").removeprefix(_TARGET)
            if operation not in self._control.operations:
                return self._others()(environ, start_response)
            body = read_at_most(blocks(environ), MAX_JSON)
            return _json(start_response, 200, self._control.call(operation, body), "application/x-amz-json-1.1")
        except AwsError as error:
            return _fault(start_response, error)
        except Exception:
            traceback.print_exc()
            fault = AwsError("InternalFailure", "The local SageMaker failed; see its log.", status=500)
            return _fault(start_response, fault)

    def _invoke(self, name: str, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        headers = {
            key[5:].replace("_", "-").lower(): value for key, value in environ.items() if key.startswith("HTTP_")
        }
        headers["content-type"] = environ.get("CONTENT_TYPE", "")
        reply = self._runtime.invoke(name, headers, read_at_most(blocks(environ), MAX_BODY))
        start_response("200 OK", [*reply.headers, ("Content-Length", str(len(reply.body)))])
        return [reply.body]

    def _others(self) -> WSGIApplication:
        # moto takes a second to import and many users never need it.
        with self._moto_lock:
            if self._moto is None:
                from moto.moto_server.werkzeug_app import DomainDispatcherApplication

                from captioner.emulator.cloudwatch import Book, application

                made: Callable[..., Any] = partial(application, book=Book(*self._cloudwatch))
                dispatcher: Callable[..., Any] = DomainDispatcherApplication(made)
                self._moto = dispatcher
            return self._moto


def _fleet(fleet: Fleet | None) -> dict[str, Any]:
    variants, shadows = (fleet.variants, fleet.shadows) if fleet else ({}, {})
    return {
        "variants": {name: _variant(running) for name, running in variants.items()},
        "shadows": {name: _variant(running) for name, running in shadows.items()},
    }


def _variant(running: RunningVariant) -> dict[str, Any]:
    instances = [
        {"pid": one.pid, "port": one.port, "healthy": one.healthy, "restarts": one.restarts, "log": str(one.log)}
        for one in list(running.instances)
    ]
    return {"weight": running.weight, "instances": instances, **vars(running.counters)}


def signing_name(environ: WSGIEnvironment) -> str:
    """The service that a request is signed for, in its header or (presigned) its query; guessed when it is unsigned."""
    signed = _CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", "")) or re.search(
        r"X-Amz-Credential=[^/]*/[^/]*/[^/]*/([^/]+)/aws4_request", unquote(environ.get("QUERY_STRING", ""))
    )
    if signed:
        return signed.group(1).lower()
    path = environ.get("PATH_INFO", "/")
    if environ.get("HTTP_X_AMZ_TARGET", "").startswith(_TARGET) or _INVOCATIONS.match(path):
        return "sagemaker"
    if path.startswith("/moto-api") or environ.get("HTTP_X_AMZ_TARGET") or "form" in environ.get("CONTENT_TYPE", ""):
        return "moto"
    return "s3"


def read_at_most(pieces: Iterable[bytes], limit: int) -> bytes:
    """The whole body. Raises AwsError when it is longer than `limit` bytes; the rest is not read."""
    body = bytearray()
    for piece in pieces:
        body += piece
        if len(body) > limit:
            raise AwsError("413", f"HTTP content length exceeded {limit} bytes.", status=413)
    return bytes(body)


def _json(
    start_response: StartResponse, status: int, body: bytes, kind: str = "application/json", error: str | None = None
) -> list[bytes]:
    headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
    headers += [("x-amzn-ErrorType", error)] if error else []
    start_response(f"{status} {'OK' if status == 200 else 'Error'}", headers)
    return [body]


def _fault(start_response: StartResponse, error: AwsError) -> list[bytes]:
    return _json(start_response, error.status, error.body(), "application/x-amz-json-1.1", error.code)
