"""One HTTP exchange by aiohttp: the only module that imports it. Deadlines and redirects are the part of `http`."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from eclctl import __version__
from eclctl.errors import RemoteError
from eclctl.remote.http.client import (
    Exchange,
    IncomingResponse,
    NoTlsError,
    TransientError,
    UntrustedServerError,
    Upload,
    escaped,
    in_thread,
)

_MAX_HEADERS: Final = 64
_BUFFER: Final = 1 << 18
_LOOKUPS: Final = threading.BoundedSemaphore(32)
"""Names being looked up, each in a thread that may hang for as long as its resolver does."""


class _Resolver(AbstractResolver):
    """Looks names up in threads. No exchange waits for one beyond its own deadline."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a host; raises OSError when there are none."""
        found = await in_thread(lambda: _look_up(host, port, family))
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
        """Do nothing: nothing is held."""


def _look_up(host: str, port: int, family: socket.AddressFamily) -> Any:
    if not _LOOKUPS.acquire(blocking=False):
        raise OSError(errno.EAGAIN, "too many names are being looked up")
    try:
        return socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a part of the name is empty or too long: it has no address either
        raise socket.gaierror(socket.EAI_NONAME, "this is no name of a host") from error
    finally:
        _LOOKUPS.release()


class _Attempt:
    """One exchange: it makes the sockets, none to an address that is refused, and tells what went wrong.

    aiohttp hides what the body of the request raises, so it is kept here.
    """

    def __init__(self, wanted: Exchange, progress: Callable[[], None]) -> None:
        self._wanted = wanted
        self._progress = progress
        self._made: list[socket.socket] = []
        self._refused: str | None = None  # why the last address was, that was
        self._failed: Exception | None = None  # what `Upload.parts` raised

    def make_socket(self, info: tuple[Any, ...]) -> socket.socket:
        """Make the socket for an entry of getaddrinfo's, whose address is the one that will be connected to."""
        family, kind, proto, _, address = info
        if (why := self._wanted.refuse(address[0])) is not None:
            self._refused = why
            raise OSError(errno.EACCES, why)
        made = socket.socket(family, kind, proto)
        self._made.append(made)
        return made

    def end(self) -> None:
        """Shut all sockets down, so that no transport waits for what is still to be sent or received."""
        for each in self._made:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    async def parts(self, parts: Iterable[bytes]) -> AsyncIterator[bytes]:
        """Yield the parts of a body. The next one is asked for when nearly all of the last one is with the kernel."""
        try:
            for part in parts:
                self._progress()
                yield part
        except Exception as error:
            self._failed = error
            raise

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Raise errors of aiohttp and of the system as errors that name the URL."""
        try:
            yield
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if self._failed is not None:
                raise self._failed from None
            proxy = self._wanted.proxy
            through = "" if proxy is None else f"through the proxy {escaped(proxy.url)}: "
            url = f"{escaped(self._wanted.target.url)}: {through}"
            if self._refused is not None and isinstance(error, aiohttp.ClientConnectorError):
                raise RemoteError(f"{url}that is not followed: {self._refused}") from error
            raise _explain(url, error) from error


@asynccontextmanager
async def open_exchange(wanted: Exchange, progress: Callable[[], None]) -> AsyncIterator[IncomingResponse]:
    """Ask once, and give the answer once its headers are here. No redirect is followed.

    Args:
        wanted: The request.
        progress: Is called whenever something has moved.

    Raises:
        TransientError: There is no answer this time.
        RemoteError: There will be none. Else what `Upload.parts` raises.
    """
    attempt = _Attempt(wanted, progress)
    with attempt.explained():
        tls: ssl.SSLContext | bool = True
        if wanted.target.scheme == "https" or (wanted.proxy is not None and wanted.proxy.url.startswith("https")):
            tls = await in_thread(lambda: _tls(wanted))
    session = _session(wanted, attempt, tls=tls)
    try:
        with attempt.explained():
            response = await _ask(session, wanted, attempt)
        progress()
        try:

            async def receive() -> bytes:
                with attempt.explained():
                    return await response.content.readany()

            yield IncomingResponse(
                wanted.target.url,
                response.status,
                [(name.lower(), value) for name, value in response.headers.items()],
                length=0 if wanted.method == "HEAD" else response.content_length or 0,
                receive=receive,
                progress=progress,
            )
        finally:
            response.close()
    finally:
        attempt.end()
        await session.close()


def _session(wanted: Exchange, attempt: _Attempt, *, tls: ssl.SSLContext | bool) -> aiohttp.ClientSession:
    """Return a session for one exchange: it keeps nothing, remembers nothing and unpacks nothing."""
    connector = aiohttp.TCPConnector(
        resolver=_Resolver(), use_dns_cache=False, force_close=True, socket_factory=attempt.make_socket, ssl=tls
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        auto_decompress=False,
        skip_auto_headers={"Content-Type"},
        read_bufsize=_BUFFER,
        max_line_size=wanted.line_limit,
        max_field_size=wanted.line_limit,
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
            f"{escaped(wanted.target.url)}: cannot use the trusted roots in {escaped(wanted.roots)}: {why}"
        ) from error


async def _ask(session: aiohttp.ClientSession, wanted: Exchange, attempt: _Attempt) -> aiohttp.ClientResponse:
    headers = {"User-Agent": f"eclctl/{__version__}", "Accept-Encoding": "identity"}
    through: dict[str, Any] = {}
    if wanted.proxy is not None:
        login = wanted.proxy.authorization
        for_proxy = {} if login is None else {"Proxy-Authorization": login}
        if wanted.target.scheme == "http":  # there is no CONNECT that could carry it
            headers |= for_proxy
        through = {"proxy": URL(wanted.proxy.url), "proxy_headers": for_proxy}
    body: Any = None
    if isinstance(wanted.body, Upload):
        headers["Content-Length"] = str(wanted.body.size)
        body = attempt.parts(wanted.body.parts)
    elif wanted.body is not None:
        body = io.BytesIO(wanted.body)
    return await session.request(
        wanted.method,
        URL(wanted.target.url, encoded=True),
        data=body,
        headers=headers | dict(wanted.headers),
        allow_redirects=False,
        **through,
    )


def _explain(url: str, error: Exception) -> RemoteError:
    """Return one clause about an error, behind the URL. What the other side wrote into it is escaped."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return _explain_connecting(url, error)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return TransientError(f"{url}the connection was closed without an answer")
    if isinstance(error, aiohttp.ClientPayloadError):
        return TransientError(f"{url}the answer ended before it was whole")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return TransientError(f"{url}the proxy answered with status {error.status}")
    if isinstance(error, aiohttp.ClientResponseError):
        return TransientError(f"{url}{_printable(f'the answer is no proper HTTP ({error.message})')}")
    if isinstance(error, OSError):
        return TransientError(f"{url}{_system_words(error)}")
    if isinstance(error, aiohttp.InvalidURL):
        return RemoteError(f"{url}it is no URL that can be asked")
    return RemoteError(f"{url}the exchange failed ({type(error).__name__})")


def _explain_connecting(url: str, error: aiohttp.ClientConnectorError) -> RemoteError:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        why = _printable(f"the server's certificate is not trusted ({error.certificate_error})")
        return UntrustedServerError(f"{url}{why}")
    cause = error.os_error
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        kind = TransientError if cause.errno == socket.EAI_AGAIN else RemoteError
        return kind(f"{url}the name does not resolve")
    if isinstance(cause, ssl.SSLError) and cause.reason == "WRONG_VERSION_NUMBER":
        return NoTlsError(f"{url}the server does not speak TLS")
    return TransientError(f"{url}{_system_words(cause)}", slow=cause.errno == errno.ECONNREFUSED)


def _system_words(error: OSError) -> str:
    """Return what the system says of an error; asyncio and aiohttp put addresses and URLs before it."""
    if error.errno is not None and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno)
    return _printable(error.strerror or str(error) or type(error).__name__)


def _printable(text: str) -> str:
    return escaped(" ".join(text.split()))
