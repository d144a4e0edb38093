"""Pictures from strangers' addresses: from the public web only, whatever tries to lead elsewhere, and bounded."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from captioner.api.faults import ApiError
from captioner.api.fetching import REDIRECTS, Fetcher, is_public
from captioner.api.pictures import MAX_BYTES


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",  # behind a provider's NAT
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",  # metadata of AWS, Azure, Google
        "169.254.170.2",  # credentials of a container
        "172.16.0.1",
        "192.168.1.1",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a00:1",
        "2002:7f00:1::",
        "2001:0:4136:e378:8000:63bf:80ff:fffe",  # Teredo of 127.0.0.1
        "fc00::1",
        "fd00:ec2::254",  # metadata of AWS over IPv6
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
    ],
)
def test_nothing_but_the_public_web(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "2606:2800:21f:cb07::1", "::ffff:93.184.215.14", "64:ff9b::808:808"]
)
def test_the_public_web(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


class Web:
    """A server on 127.0.0.1: `pages` maps a path to a function that answers. `asked` are the requests' headers."""

    def __init__(self) -> None:
        self.pages: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.closing = threading.Event()
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                with suppress(BrokenPipeError, ConnectionResetError):  # the fetcher had enough
                    web.pages[self.path](self)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def url(self, path: str = "/", host: str = "picture.example") -> str:
        return f"http://{host}:{self.port}{path}"

    def close(self) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def web() -> Iterator[Web]:
    one = Web()
    yield one
    one.close()


def says(body: bytes, status: int = 200, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


class Names:
    """A resolver: a host to its addresses, one answer for each time it is asked, the last one again and again."""

    def __init__(self, **hosts: Sequence[Sequence[str]]) -> None:
        self.hosts = {name.replace("_", "."): list(answers) for name, answers in hosts.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        if host not in self.hosts:
            raise socket.gaierror(-2, "Name or service not known")
        answers = self.hosts[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]


HERE = (("127.0.0.1",),)


def fetch(web: Web, url: str, names: Names | None = None, seconds: float = 5.0, allowed: bool = True) -> bytes:
    fetcher = Fetcher(names or Names(picture_example=HERE), [f"127.0.0.1:{web.port}"] if allowed else [])
    return asyncio.run(fetcher(url, seconds))


@contextmanager
def refused(status: int, code: str) -> Iterator[None]:
    with pytest.raises(ApiError) as error:
        yield
    assert (error.value.status, error.value.code) == (status, code), str(error.value)


def test_a_picture_is_fetched_and_its_host_told_nothing(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")  # nobody is there: whoever asked it would fail
    web.pages["/a.png"] = says(b"a picture")
    assert fetch(web, web.url("/a.png")) == b"a picture"
    ((path, headers),) = web.asked
    assert path == "/a.png"
    assert headers["host"] == f"picture.example:{web.port}"
    assert not {"authorization", "cookie", "referer"} & set(headers)


def test_without_the_tests_own_permission_this_machine_is_not_asked(web: Web) -> None:
    with refused(400, "url_refused"):
        fetch(web, web.url("/"), allowed=False)
    for host in ("127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"):
        with refused(400, "url_refused"):
            asyncio.run(Fetcher()(web.url("/", host), 5.0))  # by the system's own resolver
    assert web.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "ftp://picture.example/a.png",
        "file:///etc/passwd",
        "gopher://picture.example/",
        "//picture.example/a.png",
        "picture.example/a.png",
        "http://",
        "http://:80/",
        "http://picture.example:99999/",
        "http://ada:secret@picture.example/",
        "http://ada@picture.example/",
        "http://picture.example/a b",
        "http://picture.example/\r\nX: y",
        "http://picture.example/" + "x" * 2048,
        "http://[::1/",
        "",
    ],
)
def test_what_is_no_address_that_can_be_fetched(web: Web, url: str) -> None:
    with refused(400, "bad_url"):
        fetch(web, url)
    assert web.asked == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed(web: Web, status: int) -> None:
    web.pages["/old"] = says(b"", status, Location="new")
    web.pages["/new"] = says(b"a picture")
    assert fetch(web, web.url("/old")) == b"a picture"


@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("http://169.254.169.254/latest/meta-data/iam/security-credentials/", "url_refused"),
        ("http://[fd00:ec2::254]/latest/meta-data/", "url_refused"),
        ("http://metadata.example/", "url_refused"),
        ("file:///etc/passwd", "bad_url"),
        ("http://ada:secret@picture.example/", "bad_url"),
    ],
)
def test_a_redirect_is_looked_at_like_an_address(web: Web, location: str, code: str) -> None:
    web.pages["/"] = says(b"", 302, Location=location)
    names = Names(
        picture_example=HERE,
        metadata_example=(("93.184.215.14", "169.254.169.254"),),  # one of them is enough
        **{"169_254_169_254": (("169.254.169.254",),), "fd00:ec2::254": (("fd00:ec2::254",),)},
    )
    with refused(400, code):
        fetch(web, web.url("/"), names)
    assert len(web.asked) == 1


def test_redirects_end(web: Web) -> None:
    web.pages["/"] = says(b"", 302, Location="/")
    with refused(422, "url_failed"):
        fetch(web, web.url("/"))
    assert len(web.asked) == REDIRECTS + 1


def test_a_name_that_answers_differently_a_moment_later_changes_nothing(web: Web) -> None:
    """Rebinding: looked at, the address is public; connected to, it would be another. Here the first answer is used."""
    web.pages["/"] = says(b"a picture")
    names = Names(picture_example=(("127.0.0.1",), ("169.254.169.254",)))
    assert fetch(web, web.url("/"), names) == b"a picture"
    assert names.asked == ["picture.example"]  # once: nobody asks again to connect
    web.pages["/again"] = says(b"", 302, Location="/")
    names = Names(picture_example=(("127.0.0.1",), ("169.254.169.254",)))
    with refused(400, "url_refused"):  # the redirect is resolved anew, and looked at
        fetch(web, web.url("/again"), names)


def test_one_address_of_many_that_is_not_public_is_enough(web: Web) -> None:
    with refused(400, "url_refused"):
        fetch(web, web.url("/"), Names(picture_example=(("127.0.0.1", "10.0.0.1"),)))
    assert web.asked == []


def drips(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(1000):
        handler.wfile.write(b".")
        time.sleep(0.05)


def test_who_is_slow_is_not_waited_for(web: Web) -> None:
    web.pages["/silent"] = lambda handler: web.closing.wait(30) and None
    web.pages["/drips"] = drips
    for path in ("/silent", "/drips"):
        began = time.monotonic()
        with refused(422, "url_failed"):
            fetch(web, web.url(path), seconds=0.4)
        assert time.monotonic() - began < 5


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"x" * 65536)


def test_who_sends_too_much_is_cut_off(web: Web) -> None:
    web.pages["/endless"] = endless
    web.pages["/announced"] = says(b"x", Content_Length=str(MAX_BYTES + 1))
    for path in ("/endless", "/announced"):
        with refused(413, "too_large"):
            fetch(web, web.url(path), seconds=30)


@pytest.mark.parametrize("status", [204, 304, 401, 404, 500])
def test_any_answer_but_200_is_none(web: Web, status: int) -> None:
    web.pages["/"] = says(b"", status)
    with refused(422, "url_failed"):
        fetch(web, web.url("/"))


def test_a_compressed_answer_is_not_unpacked(web: Web) -> None:
    web.pages["/"] = says(b"x", Content_Encoding="gzip")
    with refused(422, "url_failed"):
        fetch(web, web.url("/"))


def test_hosts_that_are_unknown_closed_or_speak_something_else(web: Web) -> None:
    with refused(422, "url_failed"):
        fetch(web, "http://nowhere.example/")
    with socket.socket() as taken:  # bound, not listening
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        fetcher = Fetcher(Names(picture_example=HERE), [f"127.0.0.1:{port}"])
        with refused(422, "url_failed"):
            asyncio.run(fetcher(f"http://picture.example:{port}/"))
    web.pages["/"] = lambda handler: handler.wfile.write(b"\x00\x01 not HTTP\r\n\r\n") and None
    with refused(422, "url_failed"):
        fetch(web, web.url("/"))
    with refused(422, "url_failed"):  # TLS to a server that has none
        fetch(web, web.url("/").replace("http:", "https:"))
