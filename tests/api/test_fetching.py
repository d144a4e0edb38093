"""URLs that strangers give: only public addresses, whatever names and redirects say; bounded in size and time."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from captioner.api.fetching import fetch, is_public
from captioner.api.refusals import Refusal


class Site(BaseHTTPRequestHandler):
    """A server that answers by the path it is asked for."""

    host = ""
    over = threading.Event()

    def do_GET(self) -> None:
        type(self).host = self.headers["Host"]
        kind, _, rest = self.path[1:].partition("/")
        if kind == "to":
            self.send_response(302)
            self.send_header("Location", rest)
            self.end_headers()
        elif kind == "round":
            self.send_response(302)
            self.send_header("Location", "/round/")
            self.end_headers()
        elif kind == "status":
            self.send_error(int(rest))
        elif kind == "drip":
            self.drip(b"HTTP/1.0 200 OK\r\nX: ")
        elif kind == "slow":
            self.drip(b"HTTP/1.0 200 OK\r\n\r\n")
        else:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"x" * int(rest or 5))

    def drip(self, start: bytes) -> None:
        """Never silent, never done."""
        try:
            self.wfile.write(start)
            while not self.over.wait(0.02):
                self.wfile.write(b".")
        except OSError:
            pass

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    Site.over.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    Site.over.set()
    server.shutdown()
    server.server_close()


def here(address: Any) -> bool:
    """The site of these tests is on this machine: that one address may be asked, beside the public ones."""
    return is_public(address) or str(address) == "127.0.0.1"


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(Refusal) as found:
        call()
    assert str(found.value).endswith(".")
    return found.value.code


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "172.16.5.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
     "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1",
     "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::",
     "2001:0:7f00:1::", "64:ff9b:1::1", "2001:db8::1"],
)  # fmt: skip
def test_inside_is_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::5db8:d822"])
def test_outside_is(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def test_a_picture_is_fetched(site: str) -> None:
    assert fetch(f"{site}/ok/7", 10, allowed=here) == b"xxxxxxx"
    assert fetch(f"{site}/to/{site}/ok/3", 10, allowed=here) == b"xxx"
    assert fetch(f"{site}/to//ok/2", 10, allowed=here) == b"xx"  # relative


@pytest.mark.parametrize(
    "url",
    ["ftp://example.org/a", "file:///etc/passwd", "//example.org/a", "http://", "http://user:word@example.org/",
     "http://user@example.org/", "http://example.org:99999/", "http://[::1", "http://example.org/a b", "gopher://x",
     "http://exa\nmple.org/"],
)  # fmt: skip
def test_what_is_no_such_url_is_refused(url: str) -> None:
    assert refused(lambda: fetch(url, 10)) == "bad_url"


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1/", "http://localhost/", "http://[::1]/", "http://169.254.169.254/latest/meta-data/",
     "http://2130706433/", "http://0x7f.1/", "http://[::ffff:127.0.0.1]/"],
)  # fmt: skip
def test_addresses_inside_are_refused_however_they_are_written(url: str) -> None:
    assert refused(lambda: fetch(url, 10)) == "url_refused"


def test_one_address_inside_is_enough() -> None:
    both = lambda host, port: ["93.184.216.34", "10.0.0.1"]  # noqa: E731
    assert refused(lambda: fetch("http://example.org/", 10, resolved=both)) == "url_refused"


@pytest.mark.parametrize("inside", ["http://169.254.169.254/latest", "http://10.0.0.1/", "http://127.0.0.2/"])
def test_a_redirect_is_a_new_url(site: str, inside: str) -> None:
    assert refused(lambda: fetch(f"{site}/to/{inside}", 10, allowed=here)) == "url_refused"
    assert refused(lambda: fetch(f"{site}/to/file:///etc/passwd", 10, allowed=here)) == "bad_url"
    assert refused(lambda: fetch(f"{site}/round/", 10, allowed=here)) == "url_failed"


def test_the_address_that_was_checked_is_the_one_that_is_asked(site: str) -> None:
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])  # a name that answers something else the next time

    def rebinding(host: str, port: int) -> list[str]:
        assert host == "rebinding.example"
        return next(answers)

    port = site.rpartition(":")[2]
    assert fetch(f"http://rebinding.example:{port}/ok/4", 10, allowed=here, resolved=rebinding) == b"xxxx"
    assert Site.host == f"rebinding.example:{port}"
    assert next(answers) == ["10.0.0.1"]  # asked once


def test_size_and_time_are_bounded(site: str) -> None:
    assert refused(lambda: fetch(f"{site}/ok/11", 10, allowed=here)) == "too_large"
    for path in ("drip", "slow"):
        began = time.monotonic()
        assert refused(lambda path=path: fetch(f"{site}/{path}/", 10_000, time_s=0.3, allowed=here)) == "url_failed"
        assert time.monotonic() - began < 60  # and not for ever


@pytest.mark.parametrize("status", [404, 403, 500])
def test_what_is_not_there_is_said(site: str, status: int) -> None:
    with pytest.raises(Refusal, match=f"answered {status}"):
        fetch(f"{site}/status/{status}", 10, allowed=here)


def test_a_name_that_nobody_knows_and_a_port_that_nobody_listens_on(site: str) -> None:
    nothing = lambda host, port: []  # noqa: E731
    assert refused(lambda: fetch("http://nobody.example/", 10, resolved=nothing)) == "url_failed"
    assert refused(lambda: fetch("http://127.0.0.1:1/", 10, allowed=here)) == "url_failed"
