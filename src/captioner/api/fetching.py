"""Pictures from URLs that strangers give: public addresses only, bounded in size, time and redirects.

A name is resolved once, here; every address that it has must be public, and the connection goes to the address that was
checked, so a name that answers something else a moment later (DNS rebinding) gains nothing. Each redirect is a new URL
and checked as one. No proxy, no credentials, no cookies.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from urllib.parse import SplitResult, urljoin, urlsplit

from captioner.api.refusals import Refusal

TIME_S = 8.0
REDIRECTS = 3
_MOVED = (301, 302, 303, 307, 308)
_CHUNK = 65_536
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_TUNNELS = (
    ipaddress.IPv6Network("2002::/16"),
    ipaddress.IPv6Network("2001::/32"),
    ipaddress.IPv6Network("64:ff9b:1::/48"),
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Sequence[str]]


def is_public(address: Address) -> bool:
    """Whether anybody on the internet could be reached there, and nobody inside: also for what embeds IPv4."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if any(address in tunnel for tunnel in _TUNNELS):
            return False
    inside = (address.is_private, address.is_loopback, address.is_link_local, address.is_multicast)
    return address.is_global and not any((*inside, address.is_reserved, address.is_unspecified))


def resolve(host: str, port: int) -> list[str]:
    """The addresses of `host`. Raises OSError."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def fetch(
    url: str,
    limit: int,
    time_s: float = TIME_S,
    allowed: Callable[[Address], bool] = is_public,
    resolved: Resolve = resolve,
) -> bytes:
    """The bytes at `url`, `limit` at most. Raises Refusal with one sentence for everything that is wrong with it."""
    until = time.monotonic() + time_s
    for _ in range(REDIRECTS + 1):
        parts = _checked(url)
        status, location, body = _get(parts, _address(parts, allowed, resolved), limit, until)
        if status not in _MOVED or not location:
            if status != 200:
                raise Refusal(400, "url_failed", f"{parts.hostname} answered {status} for this URL.")
            return body
        url = urljoin(url, location)
    raise Refusal(400, "url_failed", f"The URL redirects more than {REDIRECTS} times.")


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Refusal(400, "bad_url", "image_url is not a URL.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Refusal(400, "bad_url", "image_url must begin with http:// or https://.")
    if parts.username is not None or parts.password is not None:
        raise Refusal(400, "bad_url", "image_url must not hold a user name or a password.")
    if port == 0 or any(ord(one) < 33 or ord(one) == 127 for one in url):
        raise Refusal(400, "bad_url", "image_url is not a URL.")
    return parts


def _address(parts: SplitResult, allowed: Callable[[Address], bool], resolved: Resolve) -> str:
    host = str(parts.hostname)
    try:
        found = resolved(host, _port(parts))
    except (OSError, UnicodeError):
        found = []
    if not found:
        raise Refusal(400, "url_failed", f"{host} cannot be found.")
    if not all(allowed(ipaddress.ip_address(one.split("%")[0])) for one in found):
        raise Refusal(400, "url_refused", f"{host} is not a public address: nothing is fetched from there.")
    return found[0]


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


class _Pinned(http.client.HTTPConnection):
    """A connection to the address that was checked, whatever the name says by now."""

    def __init__(self, parts: SplitResult, address: str, left_s: float) -> None:
        super().__init__(str(parts.hostname), _port(parts), timeout=left_s)
        self._address, self._secure = address, parts.scheme == "https"
        self._held: socket.socket | None = None  # `sock` is forgotten once the headers of a closing answer are read

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._secure:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)
        self._held = self.sock

    def cut(self) -> None:
        """End what a server draws out: timeouts of a socket begin anew with every byte."""
        if self._held is not None:
            with suppress(OSError):
                self._held.shutdown(socket.SHUT_RDWR)


def _get(parts: SplitResult, address: str, limit: int, until: float) -> tuple[int, str | None, bytes]:
    left = until - time.monotonic()
    slow = Refusal(400, "url_failed", f"{parts.hostname} took too long.")
    if left <= 0:
        raise slow
    connection = _Pinned(parts, address, left)
    watch = threading.Timer(left, connection.cut)
    watch.daemon = True
    watch.start()
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", path, headers={"User-Agent": "captioner", "Accept": "image/*", "Accept-Encoding": ""})
        answer = connection.getresponse()
        body = bytearray()
        while answer.status == 200 and (chunk := answer.read(_CHUNK)):
            body += chunk
            if len(body) > limit:
                raise Refusal(413, "too_large", f"The picture at this URL has over {limit} bytes.")
        if time.monotonic() >= until:
            raise slow
        return answer.status, answer.getheader("Location"), bytes(body)
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        if time.monotonic() >= until or isinstance(error, TimeoutError):
            raise slow from None
        raise Refusal(400, "url_failed", f"{parts.hostname} could not be fetched from.") from None
    finally:
        watch.cancel()
        connection.close()
