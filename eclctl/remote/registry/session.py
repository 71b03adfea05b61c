"""One HTTP exchange with a registry by requests, which `oras` stands on: bounded in time and size, followed nowhere.

What requests does by itself and must not here:

1. It waits for as long as bytes drip. Here a watchdog shuts the connection down at the exchange's deadline, whatever
   part of it takes long: connecting, TLS, headers or a body. (Looking up a name ends when the system's resolver says.)
   It also knows each address before it is connected to.
2. It follows redirects with whatever it carries. Here none is followed; `registry` looks at each.
3. It reads `~/.netrc` and its own variables. Here nothing of the environment counts but the proxies (`proxies`).
4. It trusts a list of roots of its own. Here they are the system's, or a file's.
5. It unpacks what is compressed. Here nothing compressed is asked for, and what comes so all the same is refused.
6. It keeps connections. Here each exchange has its own, and nothing of one is seen by the next; cookies are not kept.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError
from urllib3.poolmanager import PoolManager
from urllib3.util import Retry

from eclctl import __version__
from eclctl.errors import RemoteError
from eclctl.remote.http.client import shown
from eclctl.remote.http.limits import CHUNK
from eclctl.remote.http.proxies import Proxy

__all__ = ["Answer", "Asked", "Session", "TransientError"]

_BLOCK: Final = 1 << 18
_IDENTITY: Final = frozenset({"", "identity"})


class TransientError(RemoteError):
    """It did not work this time, and may the next time: no connection, no whole answer, a server in trouble.

    `pause` is how many seconds the server asks us to wait, 0 when it says nothing. `slow` says that time has run out,
    or that nobody is there: what is likely to stay so is not tried as often.
    """

    def __init__(self, message: str, pause: float = 0.0, *, slow: bool = False) -> None:
        super().__init__(message)
        self.pause = pause
        self.slow = slow


@dataclass(frozen=True, slots=True)
class Asked:
    """One exchange. `seconds` bounds all of it, `stall` each wait in it.

    `refuse` says why an address may not be connected to, None if it may; it is not asked behind a proxy. `body` has
    `read` and `__len__`, or is bytes.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    seconds: float
    stall: float
    body: Any = None
    proxy: Proxy | None = None
    refuse: Callable[[str], str | None] = lambda _: None


class Answer:
    """What came back: status, headers, and a body that is read once, by `read` or `chunks`."""

    def __init__(self, response: requests.Response, url: str) -> None:
        self.response = response
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self._url = url

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as it comes, of at most 1 MiB each.

        Raises:
            TransientError: it ended before it was whole. RemoteError: it is compressed, or cannot be read.
        """
        if self.headers.get("Content-Encoding", "").lower() not in _IDENTITY:
            raise RemoteError(f"{shown(self._url)} sent a compressed answer, which nobody asked for")
        try:
            yield from self.response.raw.stream(CHUNK, decode_content=False)
        except ValueError as error:  # a chunk's length below zero, which urllib3 passes on
            raise RemoteError(f"{shown(self._url)} sent an answer whose parts have no lengths") from error

    def read(self, limit: int) -> bytes:
        """Return the whole body.

        Raises:
            RemoteError: it has more than `limit` bytes. Else as `chunks`.
        """
        body = bytearray()
        for chunk in self.chunks():
            body += chunk
            if len(body) > limit:
                raise RemoteError(f"{shown(self._url)} sent more than {limit} bytes")
        return bytes(body)


class Session(requests.Session):
    """Does one exchange at a time. `roots` is a PEM file that is trusted instead of the system's roots."""

    def __init__(self, roots: str | None) -> None:
        super().__init__()
        self.trust_env = False
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._watch = _Watch()
        self._roots = roots
        self._tls: ssl.SSLContext | None = None

    @contextmanager
    def exchange(self, asked: Asked) -> Iterator[Answer]:
        """Ask, and give what comes back; with the end of the block the connection ends.

        Raises:
            TransientError: there is no answer, or no whole one, this time.
            RemoteError: there will be none.
        """
        url = shown(asked.url)
        try:
            with self._watch.until(asked), self._ask(asked) as response:
                yield Answer(response, asked.url)
                if self._watch.expired:  # to whoever reads, a connection that is shut down has come to its end
                    raise TimeoutError
        except (requests.RequestException, HTTPError, OSError) as error:
            if self._watch.expired:
                raise TransientError(f"{url} did not answer in full within {asked.seconds:.3g} s", slow=True) from error
            refused = self._watch.refused
            if refused is not None:
                raise RemoteError(f"{url}: that is not followed: {refused}") from error
            raise _explained(url, error) from error

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Say that no answer is a redirect: requests would read its body, however long, and parse what it names."""
        del resp

    def _ask(self, asked: Asked) -> requests.Response:
        headers = {"User-Agent": f"eclctl/{__version__}", "Accept-Encoding": "identity", "Connection": "close"}
        request = requests.Request(asked.method, asked.url, headers=headers | dict(asked.headers), data=asked.body)
        adapter = _Adapter(self._watch, asked.proxy, self._context(asked))
        self.mount("http://", adapter)
        self.mount("https://", adapter)
        # No environment is merged in: `send` gets all that it needs.
        return self.send(
            self.prepare_request(request),
            stream=True,
            timeout=(asked.stall, asked.stall),
            allow_redirects=False,
            proxies={} if asked.proxy is None else dict.fromkeys(("http", "https"), asked.proxy.url),
        )

    def _context(self, asked: Asked) -> ssl.SSLContext | None:
        secure = asked.url.startswith("https:") or (asked.proxy is not None and asked.proxy.url.startswith("https:"))
        if secure and self._tls is None:
            try:
                self._tls = ssl.create_default_context(cafile=self._roots)
            except (OSError, ssl.SSLError) as error:
                raise RemoteError(f"{self._roots}: the TLS roots cannot be read: {error}") from error
        return self._tls if secure else None


class _Watch:
    """Holds the connections of the exchange under way, looks at where they lead, and ends them when its time is up."""

    def __init__(self) -> None:
        self.expired = False
        self.refused: str | None = None
        self._sockets: list[socket.socket] = []
        self._refuse: Callable[[str], str | None] | None = None
        self._lock = threading.Lock()

    @contextmanager
    def until(self, asked: Asked) -> Iterator[None]:
        self.expired, self.refused = False, None
        self._refuse = asked.refuse if asked.proxy is None else None
        timer = threading.Timer(asked.seconds, self._expire)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            self._end()

    def connect(self, host: str, port: int, seconds: float | None) -> socket.socket:
        """Connect to the first address of a host that answers; raises OSError, also for one that must not be used."""
        failed: OSError = ConnectionRefusedError("the name has no address")
        for family, kind, number, _, address in _addresses(host, port):
            self.refused = None if self._refuse is None else self._refuse(str(address[0]))
            if self.refused is not None:
                raise ConnectionAbortedError("the connection must not be used")
            sock = socket.socket(family, kind, number)
            try:
                self._adopt(sock)
                sock.settimeout(seconds)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.connect(address)
            except OSError as error:
                sock.close()
                failed = error
            else:
                return sock
        raise failed

    def _adopt(self, sock: socket.socket) -> None:
        """Take notice of a new socket, whose connection may be ended from now on."""
        twin = sock.dup()  # TLS takes the socket over, and its own descriptor with it
        with self._lock:
            self._sockets.append(twin)
            expired = self.expired
        if expired:
            raise TimeoutError

    def _expire(self) -> None:
        with self._lock:
            self.expired = True
        self._end()

    def _end(self) -> None:
        """Nothing that is still to come counts any more."""
        with self._lock:
            ended, self._sockets = self._sockets, []
        for each in ended:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


class _Adapter(HTTPAdapter):
    """Opens connections that the watch knows of, through the proxy that was chosen, with the roots that were chosen."""

    def __init__(self, watch: _Watch, proxy: Proxy | None, tls: ssl.SSLContext | None) -> None:
        self._pools = _pools(watch)
        self._proxy = proxy
        self._tls = tls
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=Retry(0, read=False))

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **settings: Any) -> None:  # noqa: FBT001, FBT002 - requests calls it so
        """Make the manager of connections."""
        super().init_poolmanager(connections, maxsize, block, **self._settings(), **settings)
        self._watched(self.poolmanager)

    def proxy_manager_for(self, proxy: Any, **settings: Any) -> Any:
        """Return the manager of connections through a proxy."""
        secure = {"proxy_ssl_context": self._tls} if str(proxy).startswith("https:") else {}
        return self._watched(super().proxy_manager_for(proxy, **self._settings(), **secure, **settings))

    def proxy_headers(self, proxy: Any) -> dict[str, str]:
        """Return what a proxy, and nobody else, is told."""
        del proxy
        authorization = None if self._proxy is None else self._proxy.authorization
        return {} if authorization is None else {"Proxy-Authorization": authorization}

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Verify by our roots alone: requests would add a list of its own."""
        del url, verify, cert
        conn.cert_reqs = "CERT_REQUIRED"

    def _settings(self) -> dict[str, Any]:
        return {"blocksize": _BLOCK, "ssl_context": self._tls}

    def _watched(self, manager: PoolManager) -> PoolManager:
        manager.pool_classes_by_scheme = self._pools
        return manager


def _pools(watch: _Watch) -> dict[str, type[HTTPConnectionPool]]:
    """Return urllib3's pools, whose connections tell the watch of each socket."""

    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return watch.connect(self.host.strip("[]"), self.port, self.timeout)

    class Secure(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return watch.connect(self.host.strip("[]"), self.port, self.timeout)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


def _addresses(host: str, port: int) -> Sequence[Any]:
    """Look a name up; one with a part that is empty or too long for a name has no address either."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise socket.gaierror(socket.EAI_NONAME, "no name of a host") from error


def _explained(url: str, error: Exception) -> RemoteError:
    """One clause about what happened, in words that a person can act on; whatever the other side wrote is escaped."""
    chain = list(_causes(error))
    for each in chain:
        if isinstance(each, ssl.SSLCertVerificationError):
            why = shown(each.verify_message or "")
            return RemoteError(f"{url}: the server's certificate is not trusted ({why}); --tls-ca names other roots")
        if isinstance(each, ssl.SSLError) and "WRONG_VERSION_NUMBER" in str(each):
            return RemoteError(f"{url}: the server does not speak TLS; if that is as it should be, give --no-https")
        if isinstance(each, socket.gaierror):
            again = each.errno == socket.EAI_AGAIN
            return (TransientError if again else RemoteError)(f"{url}: the name does not resolve")
    for each in reversed(chain):
        if isinstance(each, TimeoutError):
            return TransientError(f"{url}: nothing came for too long", slow=True)
        if isinstance(each, OSError) and each.errno is not None:
            refused = isinstance(each, ConnectionRefusedError)
            return TransientError(f"{url}: {os.strerror(each.errno)}", slow=refused)
    return TransientError(f"{url}: the answer ended before it was whole ({type(chain[-1]).__name__})")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it came from, also where a library keeps that in an argument or a `reason`."""
    todo: list[BaseException] = [error]
    seen: set[int] = set()
    while todo:
        each = todo.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        near = (each.__cause__, each.__context__, getattr(each, "reason", None), *each.args)
        todo += [other for other in near if isinstance(other, BaseException)]
