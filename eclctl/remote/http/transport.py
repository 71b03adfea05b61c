"""One HTTP exchange by aiohttp: the only module that imports it. Deadlines and redirects are `http`'s."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import socket
import ssl
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from eclctl import __version__
from eclctl.errors import RemoteError
from eclctl.remote.http.client import Exchange, NoThreadError, Response, in_thread, shown

if TYPE_CHECKING:
    from aiohttp.typedefs import LooseHeaders

__all__ = ["exchange"]

_MAX_LINE: Final = 8190
_MAX_HEADERS: Final = 64
_CHUNK: Final = 1 << 16
_LOOKUPS: Final = threading.BoundedSemaphore(32)
"""Names being looked up, each in a thread that may hang for as long as its resolver does."""


class _RefusedAddressError(OSError):
    """A connection that must not be opened."""


class _Names(AbstractResolver):
    """Looks names up in threads that nobody waits for beyond the exchange's own deadline."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a host; raises OSError when there are none."""
        if not _LOOKUPS.acquire(blocking=False):
            raise OSError(errno.EAGAIN, "too many names are being looked up")
        try:
            found = await in_thread(lambda: _look_up(host, port, family))
        except NoThreadError:
            _LOOKUPS.release()
            raise
        return [
            ResolveResult(
                hostname=host,
                host=address[0],
                port=address[1],
                family=family_,
                proto=proto,
                flags=socket.AI_NUMERICHOST,
            )
            for family_, _, proto, _, address in found
        ]

    async def close(self) -> None:
        """Nothing is held."""


def _look_up(host: str, port: int, family: socket.AddressFamily) -> Any:
    try:
        return socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    finally:
        _LOOKUPS.release()


class _Sockets:
    """Makes the sockets of one exchange, none to an address that is refused, and ends them all."""

    def __init__(self, exchange: Exchange) -> None:
        self._refuse = exchange.refuse
        self._made: list[socket.socket] = []

    def make(self, info: tuple[Any, ...]) -> socket.socket:
        """Make the socket for an entry of getaddrinfo's, whose address is the one that will be connected to."""
        family, kind, proto, _, address = info
        if (why := self._refuse(address[0])) is not None:
            raise _RefusedAddressError(errno.EACCES, f"that is not followed: {why}")
        made = socket.socket(family, kind, proto)
        self._made.append(made)
        return made

    def end(self) -> None:
        """Nothing that is still to be sent or received counts any more, so no transport waits for it."""
        for each in self._made:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


async def exchange(wanted: Exchange) -> Response:
    """Ask once, and read the whole answer. No redirect is followed.

    Raises:
        RemoteError: there is no whole answer, or its body is larger than the limit.
    """
    sockets = _Sockets(wanted)
    try:
        session = _session(sockets, tls=await in_thread(lambda: _tls(wanted)) if _needs_tls(wanted) else True)
        try:
            return await _ask(session, wanted)
        finally:
            sockets.end()
            await session.close()
    except (aiohttp.ClientError, OSError, ValueError) as error:
        through = "" if wanted.proxy is None else f"through the proxy {shown(wanted.proxy.url)}: "
        raise RemoteError(f"{shown(wanted.target.url)}: {through}{_what_happened(error)}") from error


def _session(sockets: _Sockets, *, tls: ssl.SSLContext | bool) -> aiohttp.ClientSession:
    """Return a session for one exchange: it keeps nothing, remembers nothing and unpacks nothing."""
    connector = aiohttp.TCPConnector(
        resolver=_Names(), use_dns_cache=False, force_close=True, socket_factory=sockets.make, ssl=tls
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        auto_decompress=False,
        read_bufsize=_CHUNK,
        max_line_size=_MAX_LINE,
        max_field_size=_MAX_LINE,
        max_headers=_MAX_HEADERS,
    )


def _tls(wanted: Exchange) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=wanted.roots)
    except OSError as error:  # its own words name neither the file nor what is wrong with it
        if wanted.roots is None:
            raise
        why = "it holds no certificates" if isinstance(error, ssl.SSLError) else error.strerror
        raise RemoteError(
            f"{shown(wanted.target.url)}: cannot use the trusted roots in {shown(wanted.roots)}: {why}"
        ) from error


def _needs_tls(wanted: Exchange) -> bool:
    return wanted.target.scheme == "https" or (wanted.proxy is not None and wanted.proxy.url.startswith("https"))


async def _ask(session: aiohttp.ClientSession, wanted: Exchange) -> Response:
    headers: dict[str, str] = {"User-Agent": f"eclctl/{__version__}", "Accept-Encoding": "identity"}
    through: Mapping[str, Any] = {}
    if wanted.proxy is not None:
        for_proxy: LooseHeaders = {}
        if wanted.proxy.authorization is not None:
            for_proxy = {"Proxy-Authorization": wanted.proxy.authorization}
            if wanted.target.scheme == "http":  # there is no CONNECT that could carry it
                headers |= for_proxy
        through = {"proxy": URL(wanted.proxy.url), "proxy_headers": for_proxy}
    async with session.request(
        wanted.method,
        URL(wanted.target.url, encoded=True),
        data=None if wanted.body is None else io.BytesIO(wanted.body),
        headers=headers | dict(wanted.headers),
        allow_redirects=False,
        **through,
    ) as response:
        try:
            return await _read(response, wanted)
        finally:
            response.close()


async def _read(response: aiohttp.ClientResponse, wanted: Exchange) -> Response:
    headers: dict[str, str] = {}
    for name, value in response.headers.items():
        headers.setdefault(name.lower(), value)
    url = shown(wanted.target.url)
    if headers.get("content-encoding", "identity").lower() not in {"", "identity"}:
        raise RemoteError(f"{url} sent a compressed answer, which nobody asked for")
    too_long = RemoteError(f"{url} sent more than {wanted.limit} bytes")
    if wanted.method != "HEAD" and (response.content_length or 0) > wanted.limit:
        raise too_long
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > wanted.limit:
            raise too_long
    return Response(response.status, headers, bytes(body), wanted.target.url)


def _what_happened(error: Exception) -> str:
    """One clause about an error of aiohttp's or the system's; whatever the other side wrote into it is escaped."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the name does not resolve"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _printable(f"the server's certificate is not trusted ({error.certificate_error})")
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
        # asyncio puts the address before the system's own words
        system = cause.errno is not None and not isinstance(cause, _RefusedAddressError)
        return _printable(os.strerror(cause.errno or 0) if system else cause.strerror or str(cause))
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed without an answer"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the answer ended before it was whole"
    if isinstance(error, aiohttp.ClientResponseError):
        return _printable(f"the answer is no proper HTTP ({error.message})")
    if isinstance(error, OSError):
        return _printable(error.strerror or type(error).__name__)
    if isinstance(error, aiohttp.InvalidURL):
        return "it is no URL that can be asked"
    return f"the exchange failed ({type(error).__name__})"


def _printable(text: str) -> str:
    return shown(" ".join(text.split()))
