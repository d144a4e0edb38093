"""Pictures from addresses that strangers give: only from the public web, however the address, its name or a redirect
tries to lead elsewhere.

The name is resolved here, all of its addresses are looked at, and the connection goes to one that was looked at: a name
that answers differently a moment later changes nothing. Proxies of the environment are not asked, and no credentials
are sent.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore

from captioner import __version__
from captioner.api.faults import ApiError
from captioner.api.pictures import MAX_BYTES, check_size

SECONDS = 8.0
REDIRECTS = 3
PORTS = {"http": 80, "https": 443}
LONGEST = 2048

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

# Ranges in which an IPv4 address lies inside an IPv6 one: what is inside counts.
_NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
_REDIRECT = (301, 302, 303, 307, 308)


def is_public(address: Address) -> bool:
    """May a stranger's address lead there? Private, loopback, link-local (metadata), multicast, reserved: no."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if any(address in net for net in _NAT64):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        # The lowest /96 held IPv4 addresses once; site-local ones are private in all but name.
        if int(address) >> 32 == 0 or address.is_site_local:
            return False
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_unspecified or address.is_loopback
    )


async def resolve(host: str, port: int) -> Sequence[str]:
    """All addresses of `host`, by the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(one[4][0]) for one in found]


class Fetcher:
    """Fetches pictures. `allowed` are addresses (``127.0.0.1:8123``) that may be asked though they are not public."""

    def __init__(self, resolve: Resolve = resolve, allowed: Iterable[str] = (), most: int = MAX_BYTES) -> None:
        self._resolve, self._allowed, self._most = resolve, frozenset(allowed), most
        self._tls = ssl.create_default_context()

    async def __call__(self, url: str, seconds: float = SECONDS) -> bytes:
        """What lies at `url`. Raises ApiError."""
        try:
            async with asyncio.timeout(seconds):
                return await self._follow(url)
        except TimeoutError:
            raise ApiError(422, "url_failed", f"The address did not answer within {seconds:.0f} s.") from None
        except httpcore.UnsupportedProtocol:
            raise _refused() from None
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            raise ApiError(422, "url_failed", f"The address cannot be fetched ({_why(error)}).") from None

    async def _follow(self, url: str) -> bytes:
        for _ in range(REDIRECTS + 1):
            host, port = _checked(url)
            backend = _Pinned(await self._address(host, port))
            async with httpcore.AsyncConnectionPool(ssl_context=self._tls, network_backend=backend) as pool:
                found = await self._get(pool, url)
            if isinstance(found, bytes):
                return found
            url = urljoin(url, found)
        raise ApiError(422, "url_failed", f"The address redirects more than {REDIRECTS} times.")

    async def _address(self, host: str, port: int) -> str:
        """The address to connect to. Raises ApiError when one of the name's is not public."""
        try:
            found = await self._resolve(host, port)
        except (OSError, UnicodeError):
            found = ()
        if not found:
            raise ApiError(422, "url_failed", "The address's host is not known.")
        for one in found:
            if not is_public(ipaddress.ip_address(one.partition("%")[0])) and f"{one}:{port}" not in self._allowed:
                raise _refused()
        return found[0]

    async def _get(self, pool: httpcore.AsyncConnectionPool, url: str) -> bytes | str:
        """The body, or where a redirect leads. Raises ApiError."""
        headers = [("Accept", "image/*"), ("Accept-Encoding", "identity"), ("User-Agent", f"captioner/{__version__}")]
        async with pool.stream("GET", url, headers=headers) as answer:
            said = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
            if answer.status in _REDIRECT and "location" in said:
                return said["location"]
            if answer.status != 200:
                raise ApiError(422, "url_failed", f"The address answered with status {answer.status}.")
            if said.get("content-encoding", "identity") != "identity":
                raise ApiError(422, "url_failed", "The address answered compressed, which was not asked for.")
            if said.get("content-length", "").isdigit():
                check_size(int(said["content-length"]))
            found = bytearray()
            async for piece in answer.aiter_stream():
                found += piece
                check_size(len(found))
        return bytes(found)


class _Pinned(httpcore.AnyIOBackend):
    """Connects to one address, whatever name the request has (TLS still asks for the name's certificate)."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def connect_tcp(self, host: str, port: int, *rest: Any, **more: Any) -> httpcore.AsyncNetworkStream:
        return await super().connect_tcp(self._address, port, *rest, **more)


def _checked(url: str) -> tuple[str, int]:
    """Host and port of an address that may be asked for. Raises ApiError."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ApiError(400, "bad_url", "This is no address.") from None
    if parts.scheme not in PORTS or not host or len(url) > LONGEST or not url.isprintable() or " " in url:
        raise ApiError(400, "bad_url", "Only http and https addresses can be fetched.")
    if parts.username is not None or parts.password is not None:
        raise ApiError(400, "bad_url", "An address with a user's name or password in it is not fetched.")
    return host, port or PORTS[parts.scheme]


def _refused() -> ApiError:
    return ApiError(400, "url_refused", "This address does not lead to the public web; it is not fetched.")


def _why(error: Exception) -> str:
    return str(error).split("\n")[0] or type(error).__name__
