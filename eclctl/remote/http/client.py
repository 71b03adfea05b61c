"""One small HTTP client for everything that eclctl fetches and sends.

`request_url` asks for small things and returns the whole answer. `exchange` is for what is too large for memory: it
gives an answer while it comes in, and sends a body in parts.

Rules:

1. An exchange ends by its deadline, whichever part of it takes long: looking up the name, connecting, TLS, sending,
   headers or a body that drip. `exchange` also ends when nothing moves for too long. Bodies are bounded, and so is each
   header line and their number. Nothing is decompressed: no encoding is asked for, and a body in one is refused.
2. Only http and https, without credentials in the URL. TLS is verified with the system's roots, or those in a file that
   the caller names instead.
3. The first URL may lead anywhere, also to this host. Redirects are followed here, not by aiohttp: a few, never to
   another scheme, nor to a loopback, link-local, unspecified, multicast or reserved address. What counts is the address
   that is connected to, so that a name which resolves to something else the next time changes nothing. Headers that
   carry credentials go no further than the origin (scheme, host, port) that they were meant for. A caller whose servers
   were chosen by name (`same_origin`) has redirects followed within the origin alone, wherever that is. `exchange`
   follows no redirect.
4. Proxies are those that the environment names (`proxies`). Which address a proxy connects to is not visible here: a
   redirect that a proxy would have to follow is followed only within the same origin.
5. Each exchange has its own connection. Cookies, `~/.netrc` and answers are not kept or read.
"""

from __future__ import annotations

import asyncio
import errno
import importlib
import os
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any, Final, NoReturn, TypeVar
from urllib.parse import urljoin, urlsplit

from eclctl.dataclass import dataclass, replace
from eclctl.errors import RemoteError
from eclctl.remote.http.addresses import is_numeric, why_refused
from eclctl.remote.http.limits import MAX_HEADER_LINE, MAX_REDIRECTS, MAX_URL
from eclctl.remote.http.proxies import Proxy, choose
from eclctl.text import printable_ascii

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
"""Statuses that send the client to another URL."""

_MAX_SHOWN: Final = 200
_PORTS: Final = {"http": 80, "https": 443}
# RFC 3986 without what a URL in a certificate or a Location header has no business to hold.
_URL: Final = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")
_KEEPING_METHOD: Final = frozenset({307, 308})
_CREDENTIALS: Final = frozenset({"authorization", "cookie", "proxy-authorization"})
_NOT_COMPRESSED: Final = frozenset({"", "identity"})

_Result = TypeVar("_Result")


class TransientError(RemoteError):
    """An exchange failed in a way that the next try may not: no connection, no whole answer, a server in trouble.

    Attributes:
        pause: How many seconds the server asks to wait, 0 when it says nothing.
        slow: True when time has run out or no server listens. This is likely to stay so, and is tried less often.
    """

    def __init__(self, message: str, pause: float = 0.0, *, slow: bool = False) -> None:
        super().__init__(message)
        self.pause = pause
        self.slow = slow


class UntrustedServerError(RemoteError):
    """The server's certificate is not trusted, or is for another name."""


class NoTlsError(RemoteError):
    """The server does not speak TLS."""


@dataclass(frozen=True, slots=True)
class Response:
    """What came back. `url` is the one that answered in the end; header names are lower-case, the first one counts."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that may be asked. `host` is lower-case, IPv6 without brackets; `url` has no fragment."""

    url: str
    scheme: str
    host: str
    port: int

    @property
    def origin(self) -> tuple[str, str, int]:
        """The server that the URL speaks to: scheme, host and port."""
        return self.scheme, self.host, self.port


def allow_any_address(_: str) -> str | None:
    """Refuse no address; for `Exchange.refuse`."""
    return None


@dataclass(frozen=True, slots=True)
class Upload:
    """A request's body that is sent in parts.

    Attributes:
        size: Bytes in all, sent as `Content-Length`.
        parts: The bytes. Each part is made in the event loop's own thread, so this is for programs that have nothing
            else to serve. What it raises is what the exchange raises.
    """

    size: int
    parts: Iterable[bytes]


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and how it may be sent: what `transport` needs to know.

    Attributes:
        refuse: Says why an address may not be connected to, None if it may. It is called before each connection.
        roots: A PEM file of certificates that are trusted for TLS instead of the system's.
        line_limit: The longest status or header line of the answer, in bytes.
    """

    method: str
    target: Target
    body: bytes | Upload | None
    headers: Mapping[str, str]
    proxy: Proxy | None
    refuse: Callable[[str], str | None] = allow_any_address
    roots: str | None = None
    line_limit: int = MAX_HEADER_LINE


@dataclass(frozen=True, slots=True)
class IncomingResponse:
    """An answer that is coming in: status, headers, and a body that is read once, by `next_part` or `read`.

    Attributes:
        url: What was asked.
        status: The status code.
        fields: The headers as they came, names in lower case.
        length: How long the body says that it is, 0 when it does not.
        receive: Returns the next part of the body, b"" at its end.
        progress: Is called when something has moved.
    """

    url: str
    status: int
    fields: Sequence[tuple[str, str]]
    length: int
    receive: Callable[[], Awaitable[bytes]]
    progress: Callable[[], None]

    @property
    def headers(self) -> dict[str, str]:
        """The headers by lower-case name; the first of a name counts."""
        return dict(reversed(self.fields))

    def values(self, name: str) -> list[str]:
        """Return every value of a header, in order; `name` is lower-case."""
        return [value for found, value in self.fields if found == name]

    async def next_part(self) -> bytes:
        """Return the next part of the body, b"" at its end.

        Raises:
            TransientError: It ended before it was whole.
            RemoteError: It is compressed, or cannot be read.
        """
        self._require_not_compressed()
        self.progress()  # the time that the caller took for the part before does not count
        part = await self.receive()
        self.progress()
        return part

    async def read(self, limit: int) -> bytes:
        """Return the whole body.

        Raises:
            RemoteError: It has more than `limit` bytes, or as `next_part`.
        """
        self._require_not_compressed()
        too_long = RemoteError(f"{escaped(self.url)} sent more than {limit} bytes")
        if self.length > limit:
            raise too_long
        body = bytearray()
        while part := await self.next_part():
            body += part
            if len(body) > limit:
                raise too_long
        return bytes(body)

    def _require_not_compressed(self) -> None:
        if self.headers.get("content-encoding", "").lower() not in _NOT_COMPRESSED:
            raise RemoteError(f"{escaped(self.url)} sent a compressed answer, which was not asked for")


async def request_url(
    method: str,
    url: str,
    *,
    timeout: float,  # noqa: ASYNC109 - this is where the deadline is kept
    limit: int,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    redirects: int = MAX_REDIRECTS,
    roots: str | None = None,
    same_origin: bool = False,
) -> Response:
    """Ask one URL and return the whole answer, of any status.

    Args:
        method: GET, POST…
        url: http or https.
        timeout: seconds for everything together.
        limit: bytes that the answer's body may have.
        body: what to send.
        headers: sent with it.
        redirects: how many are followed.
        roots: a PEM file of certificates that are trusted for TLS, instead of the system's.
        same_origin: follow redirects within the scheme, host and port of the URL alone, which may then be any.

    Raises:
        RemoteError: there is no whole answer; the message names the URL.
    """
    async with _time_limit(url, timeout, timeout) as progress:
        target = parse_url(url)
        wanted = Exchange(method, target, body, dict(headers or {}), None, roots=roots)
        return await _follow(wanted, redirects, limit, progress, same_origin=same_origin)


@asynccontextmanager
async def exchange(wanted: Exchange, *, seconds: float, stall: float) -> AsyncIterator[IncomingResponse]:
    """Send one request and give its answer, of any status. With the end of the block the connection ends.

    Args:
        wanted: The request. No redirect is followed, and its proxy and addresses are the caller's to choose.
        seconds: For everything together, up to the end of the block.
        stall: How many seconds may pass without progress: the headers, a part sent, or a part received.

    Raises:
        TransientError: There is no whole answer this time.
        RemoteError: There will be none. Else what the block or `Upload.parts` raises.
    """
    async with _time_limit(wanted.target.url, seconds, stall) as progress:
        transport = await _transport()
        async with transport.open_exchange(wanted, progress) as answer:
            yield answer


@asynccontextmanager
async def _time_limit(url: str, seconds: float, stall: float) -> AsyncIterator[Callable[[], None]]:
    """End the block when time is up; gives what is to be called when something has moved."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds

    def progress() -> None:
        if not timer.expired():  # a task that still sends may call this while the exchange is being ended
            timer.reschedule(min(end, loop.time() + stall))

    try:
        async with asyncio.timeout(min(seconds, stall)) as timer:
            yield progress
    except TimeoutError as error:
        if not timer.expired():
            raise  # it is an error of the block's own
        if stall < seconds and timer.when() != end:
            raise TransientError(f"{escaped(url)}: nothing came for {stall:.3g} s", slow=True) from error
        raise TransientError(f"{escaped(url)} did not answer in full within {seconds:.3g} s", slow=True) from error


def parse_url(url: str, limit: int = MAX_URL) -> Target:
    """Read a URL strictly, so that what connects cannot read it otherwise.

    Args:
        url: The URL.
        limit: The most characters that it may have.

    Raises:
        RemoteError: It is no http or https URL that may be asked.
    """
    if len(url) > limit:
        raise RemoteError(f"{escaped(url)} is longer than {limit} characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise RemoteError(f"{escaped(url)} is no URL") from None
    if parts.scheme not in _PORTS:
        raise RemoteError(f"{escaped(url)} is neither http nor https")
    if _URL.fullmatch(url) is None or not parts.hostname or _HOST.fullmatch(parts.hostname) is None or port == 0:
        raise RemoteError(f"{escaped(url)} is no URL that can be asked")
    if "@" in parts.netloc:
        raise RemoteError(f"{escaped(url)} holds credentials, which are never sent")
    whole = parts._replace(fragment="").geturl()
    return Target(whole, parts.scheme, parts.hostname.lower(), port or _PORTS[parts.scheme])


def escaped(url: str) -> str:
    """Return a URL as messages show it: printable, without credentials, not endless."""
    text = printable_ascii(re.sub(r"//[^/?#]*@", "//", url))
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"


async def _follow(
    wanted: Exchange, redirects: int, limit: int, progress: Callable[[], None], *, same_origin: bool
) -> Response:
    transport = await _transport()
    for left in range(redirects, -1, -1):
        sent, proxy = wanted, choose(*wanted.target.origin, os.environ)
        if proxy is not None:  # the address that is connected to is the proxy's, which may be anywhere
            sent = replace(wanted, proxy=proxy, refuse=allow_any_address)
        async with transport.open_exchange(sent, progress) as answer:
            response = Response(answer.status, answer.headers, await answer.read(limit), answer.url)
        if response.status not in REDIRECTS or "location" not in response.headers:
            return response
        if left:
            wanted = _redirected(wanted, response, same_origin=same_origin)
    raise RemoteError(f"{escaped(wanted.target.url)} redirects once more after {redirects} redirects")


def _redirected(wanted: Exchange, response: Response, *, same_origin: bool) -> Exchange:
    """Return the exchange that a redirect leads to (RFC 9110 section 15.4; as is usual, POST becomes GET)."""
    before = wanted.target
    try:
        target = parse_url(urljoin(before.url, response.headers["location"]))
    except (RemoteError, ValueError) as error:
        _refuse(before, response.headers["location"], str(error))
    if target.scheme != before.scheme:
        _refuse(before, target.url, "it has another scheme")
    if before.origin != target.origin and same_origin:
        _refuse(before, target.url, "it is another host than the one that was asked")
    if target.origin != before.origin and choose(*target.origin, os.environ) is not None:
        _refuse(before, target.url, "which address a proxy would connect to cannot be seen")
    refuse = wanted.refuse if same_origin else why_refused
    if is_numeric(target.host) and (why := refuse(target.host)) is not None:
        _refuse(before, target.url, why)
    kept = wanted.method == "HEAD" or response.status in _KEEPING_METHOD
    headers = {
        name: value
        for name, value in wanted.headers.items()
        if (target.origin == before.origin or name.lower() not in _CREDENTIALS)
        and (kept or not name.lower().startswith("content-"))
    }
    method, body = (wanted.method, wanted.body) if kept else ("GET", None)
    return replace(wanted, method=method, target=target, body=body, headers=headers, refuse=refuse)


def _refuse(before: Target, where: str, why: str) -> NoReturn:
    raise RemoteError(f"{escaped(before.url)} redirects to {escaped(where)}, which is not followed: {why}")


_imported: ModuleType | None = None


async def _transport() -> Any:
    """Import what speaks HTTP, the first time in a thread: it takes a while, and an event loop has others to serve."""
    global _imported  # noqa: PLW0603 - a module is a global
    if _imported is None:
        _imported = await in_thread(lambda: importlib.import_module("eclctl.remote.http.transport"))
    return _imported


async def in_thread(work: Callable[[], _Result]) -> _Result:
    """Run what may block in a thread of its own. The end of the process does not wait for it.

    The event loop's own pool does not serve for this: `asyncio.run` waits for its threads.

    Raises:
        OSError: There is no thread for it. Else what `work` raised.
    """
    found: Future[_Result] = Future()

    def run() -> None:
        if found.set_running_or_notify_cancel():
            try:
                found.set_result(work())
            except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
                found.set_exception(error)

    try:
        threading.Thread(target=run, name="remote", daemon=True).start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, "the system gives out no more threads") from error
    return await asyncio.wrap_future(found)
