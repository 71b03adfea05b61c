"""One small HTTP client for everything that eclctl fetches.

Rules:

1. An exchange ends by its deadline, whatever part of it takes long: looking up the name, connecting, TLS, headers or a
   body that drip. Bodies are bounded, and so is each header line and their number. Nothing is decompressed: no encoding
   is asked for, and a body in one is refused.
2. Only http and https, without credentials in the URL. TLS is verified with the system's roots, or those in a file that
   the caller names instead.
3. The first URL may lead anywhere, also to this host. Redirects are followed here, not by aiohttp: a few, never to
   another scheme, nor to a loopback, link-local, unspecified, multicast or reserved address. What counts is the address
   that is connected to, so that a name which resolves to something else the next time changes nothing. Headers that
   carry credentials go no further than the origin (scheme, host, port) that they were meant for. A caller whose servers
   were chosen by name (`same_origin`) has redirects followed within the origin alone, wherever that is.
4. Proxies are those that the environment names (`proxies`). Behind a proxy nobody here sees which address it connects
   to: a redirect that a proxy would have to follow is followed only within the same origin.
"""

from __future__ import annotations

import asyncio
import errno
import importlib
import os
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, Final, NoReturn
from urllib.parse import urljoin, urlsplit

from eclctl.errors import RemoteError
from eclctl.remote.http.addresses import why_not
from eclctl.remote.http.limits import MAX_REDIRECTS, MAX_URL
from eclctl.remote.http.proxies import Proxy, choose
from eclctl.text import printable_ascii

__all__ = ["MAX_REDIRECTS", "MAX_URL", "Exchange", "NoThreadError", "Response", "in_thread", "request", "shown"]

_MAX_SHOWN: Final = 200
_PORTS: Final = {"http": 80, "https": 443}
# RFC 3986 without what a URL in a certificate or a Location header has no business to hold.
_URL: Final = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_KEEPING_METHOD: Final = frozenset({307, 308})
_CREDENTIALS: Final = frozenset({"authorization", "cookie", "proxy-authorization"})


class NoThreadError(OSError):
    """The system gave out no thread; what should have run in it has not begun."""


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
        """Whom the URL speaks to."""
        return self.scheme, self.host, self.port


def _anywhere(_: str) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question and how it may be asked: what `transport` needs to know.

    `limit` bounds the answer's body, in bytes. `refuse` says why an address may not be connected to, None if it may.
    `roots` is a file of certificates that are trusted for TLS instead of the system's. `same_origin` keeps redirects
    where the first URL leads.
    """

    method: str
    target: Target
    body: bytes | None
    headers: Mapping[str, str]
    limit: int
    proxy: Proxy | None
    refuse: Callable[[str], str | None] = _anywhere
    roots: str | None = None
    same_origin: bool = False


async def request(
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
    """Ask one URL and return the whole answer, whatever its status.

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
    try:
        async with asyncio.timeout(timeout):
            target = _target(url)
            exchange = Exchange(
                method, target, body, dict(headers or {}), limit, None, roots=roots, same_origin=same_origin
            )
            return await _follow(exchange, redirects)
    except TimeoutError:
        raise RemoteError(f"{shown(url)} did not answer in full within {timeout:.3g} s") from None


def shown(url: str) -> str:
    """Return a URL as messages show it: printable, without credentials, not endless."""
    text = printable_ascii(re.sub(r"//[^/?#]*@", "//", url))
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"


async def _follow(exchange: Exchange, redirects: int) -> Response:
    transport = await _transport()
    for left in range(redirects, -1, -1):
        exchange = _through_proxy(exchange)
        response: Response = await transport.exchange(exchange)
        if response.status not in _REDIRECTS or "location" not in response.headers:
            return response
        if left:
            exchange = _redirected(exchange, response)
    raise RemoteError(f"{shown(exchange.target.url)} redirects once more after {redirects} redirects")


def _redirected(exchange: Exchange, response: Response) -> Exchange:
    """The exchange that a redirect leads to (RFC 9110 section 15.4; as everybody does, POST becomes GET)."""
    before = exchange.target
    try:
        target = _target(urljoin(before.url, response.headers["location"]))
    except (RemoteError, ValueError) as error:
        _refuse(before, response.headers["location"], str(error))
    if target.scheme != before.scheme:
        _refuse(before, target.url, "it has another scheme")
    if before.origin != target.origin and exchange.same_origin:
        _refuse(before, target.url, "it is another host than the one that was asked")
    proxy = _proxy(target)
    if proxy is not None and target.origin != before.origin:
        _refuse(before, target.url, "nobody can see which address a proxy would connect to")
    refuse = exchange.refuse if exchange.same_origin else why_not
    if _numeric(target.host) and (why := refuse(target.host)) is not None:
        _refuse(before, target.url, why)
    kept = exchange.method == "HEAD" or response.status in _KEEPING_METHOD
    headers = {
        name: value
        for name, value in exchange.headers.items()
        if (target.origin == before.origin or name.lower() not in _CREDENTIALS)
        and (kept or not name.lower().startswith("content-"))
    }
    method, body = (exchange.method, exchange.body) if kept else ("GET", None)
    return replace(exchange, method=method, target=target, body=body, headers=headers, proxy=proxy, refuse=refuse)


def _refuse(before: Target, where: str, why: str) -> NoReturn:
    raise RemoteError(f"{shown(before.url)} redirects to {shown(where)}, which is not followed: {why}")


def _through_proxy(exchange: Exchange) -> Exchange:
    """Behind a proxy, the address that is connected to is the proxy's, which may be anywhere."""
    proxy = _proxy(exchange.target)
    if proxy is None:
        return exchange
    return replace(exchange, proxy=proxy, refuse=_anywhere)


def _proxy(target: Target) -> Proxy | None:
    return choose(*target.origin, os.environ)


def _target(url: str) -> Target:
    """Read a URL strictly, so that whoever connects cannot read it otherwise."""
    if len(url) > MAX_URL:
        raise RemoteError(f"{shown(url)} is longer than {MAX_URL} characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise RemoteError(f"{shown(url)} is no URL") from None
    if parts.scheme not in _PORTS:
        raise RemoteError(f"{shown(url)} is neither http nor https")
    if _URL.fullmatch(url) is None or not parts.hostname or _HOST.fullmatch(parts.hostname) is None or port == 0:
        raise RemoteError(f"{shown(url)} is no URL that can be asked")
    if "@" in parts.netloc:
        raise RemoteError(f"{shown(url)} holds credentials, which are never sent")
    whole = parts._replace(fragment="").geturl()
    return Target(whole, parts.scheme, parts.hostname.lower(), port or _PORTS[parts.scheme])


def _numeric(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


_imported: ModuleType | None = None


async def _transport() -> Any:
    """Import what speaks HTTP, the first time in a thread: it takes a while, and an event loop has others to serve."""
    global _imported  # noqa: PLW0603 - a module is a global
    if _imported is None:
        _imported = await in_thread(lambda: importlib.import_module("eclctl.remote.http.transport"))
    return _imported


async def in_thread(work: Callable[[], Any]) -> Any:
    """Run what may block in a thread of its own that nobody has to wait for, not even the end of the process.

    Raises:
        NoThreadError: there is no thread for it. Else what `work` raised.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[Any] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if found.done():
            return
        if error is None:
            found.set_result(result)
        else:
            found.set_exception(error)

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except Exception as raised:  # noqa: BLE001 - it is raised where it is waited for
            error = raised
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:
            return  # the loop has ended: nobody waits

    try:
        threading.Thread(target=run, name="remote", daemon=True).start()
    except RuntimeError as error:
        raise NoThreadError(errno.EAGAIN, "the system gives out no more threads") from error
    return await found
