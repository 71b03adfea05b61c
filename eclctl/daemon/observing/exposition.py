"""Shows the metrics: over HTTP, or in a file for the node exporter's textfile collector.

Every user of the node can connect to a loopback port, so the HTTP server is bounded in everything: one thread,
`CLIENTS` connections (the oldest makes room for the newest, so that idle ones keep no scrape out), `SECONDS` for each,
`HEAD_BYTES` of request, `ACCEPTS` new connections a second, and one rendering a second. What is beyond that waits, and
the decision path does not.
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest

from eclctl.errors import ConfigError
from eclctl.files.atomic import Existing, write_file

if TYPE_CHECKING:
    from collections.abc import Callable

CLIENTS = 64
SECONDS = 2.0
HEAD_BYTES = 8192
ACCEPTS = 200
RENDER_SECONDS = 1.0
TEXTFILE_SECONDS = 15.0

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_log = logging.getLogger(__name__)


def respond(head: bytes, render: Callable[[], bytes]) -> bytes:
    """Answer one HTTP/1 request, given its head up to the empty line. `render` gives the metrics' text."""
    try:
        method, target, version = head.split(b"\r\n", 1)[0].split(b" ")
    except ValueError:
        return _answer("400 Bad Request", b"not an HTTP request\n")
    if not version.startswith(b"HTTP/1."):
        return _answer("505 HTTP Version Not Supported", b"only HTTP/1.0 and HTTP/1.1 are supported\n")
    if method not in {b"GET", b"HEAD"}:
        return _answer("405 Method Not Allowed", b"only GET and HEAD\n", "Allow: GET, HEAD\r\n")
    if target.split(b"?", 1)[0] != b"/metrics":
        return _answer("404 Not Found", b"the metrics are at /metrics\n")
    body = render()
    whole = _answer("200 OK", body)
    return whole if method == b"GET" else whole[: len(whole) - len(body)]


def _answer(status: str, body: bytes, extra: str = "") -> bytes:
    kind = _CONTENT_TYPE if status == "200 OK" else "text/plain; charset=utf-8"
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}Connection: close\r\n\r\n"
    )
    return head.encode("ascii") + body


@dataclass(slots=True)
class _Client:
    """A connection: what was read, then what is still to be sent."""

    sock: socket.socket
    deadline: float
    head: bytearray = field(default_factory=bytearray)
    unsent: memoryview | None = None


class HttpExposition:
    """Serves `GET /metrics` on one address. `clock` is a monotonic clock in seconds.

    Raises:
        ConfigError: from the constructor, when the address cannot be listened on.
    """

    def __init__(
        self, registry: CollectorRegistry, host: str, port: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._clients: dict[socket.socket, _Client] = {}  # the oldest first
        self._rendered: tuple[float, bytes] | None = None
        self._window = (0.0, 0)  # since when, how many accepted
        self._listening = True
        self._listener = _listen(host.strip("[]"), port)
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake_reader, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    @property
    def port(self) -> int:
        """The port, also when it was chosen by the kernel."""
        return int(self._listener.getsockname()[1])

    def start(self) -> None:
        """Serve until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and close every connection."""
        self._wake_writer.send(b"!")
        if self._thread.ident is not None:
            self._thread.join()
        for client in list(self._clients.values()):
            self._drop(client)
        self._selector.close()
        for sock in (self._listener, self._wake_reader, self._wake_writer):
            sock.close()

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select(self._next_wait()):
                if key.fileobj is self._wake_reader:
                    return
                if key.fileobj is self._listener:
                    self._accept()
                elif (client := self._clients.get(key.fileobj)) is not None:  # type: ignore[call-overload]
                    self._serve(client)
            self._sweep()

    def _next_wait(self) -> float | None:
        """Return how long nothing needs to be done but for what comes in."""
        waits = [] if self._listening else [self._window[0] + 1.0]
        if self._clients:
            waits.append(next(iter(self._clients.values())).deadline)
        return max(0.0, min(waits) - self._clock()) if waits else None

    def _sweep(self) -> None:
        now = self._clock()
        for client in list(self._clients.values()):
            if client.deadline > now:
                break
            self._drop(client)
        if not self._listening and now >= self._window[0] + 1.0:
            self._selector.register(self._listener, selectors.EVENT_READ)
            self._listening = True

    def _accept(self) -> None:
        now, (since, count) = self._clock(), self._window
        self._window = (now, 1) if now >= since + 1.0 else (since, count + 1)
        if self._window[1] >= ACCEPTS:
            self._selector.unregister(self._listener)
            self._listening = False
        try:
            sock, _ = self._listener.accept()
        except OSError:  # gone again, or no descriptor free: the pause above bounds how often this is tried
            return
        sock.settimeout(0.0)
        if len(self._clients) >= CLIENTS:
            self._drop(next(iter(self._clients.values())))
        self._clients[sock] = _Client(sock, now + SECONDS)
        self._selector.register(sock, selectors.EVENT_READ)

    def _serve(self, client: _Client) -> None:
        try:
            done = self._read(client) if client.unsent is None else self._send(client)
        except BlockingIOError:
            return
        except OSError:
            done = True
        if done:
            self._drop(client)

    def _read(self, client: _Client) -> bool:
        """Read more of the request; answer when its head is there. True when the connection is over."""
        data = client.sock.recv(HEAD_BYTES)
        client.head += data
        if b"\r\n\r\n" in client.head:
            client.unsent = memoryview(respond(bytes(client.head), self._render))
        elif len(client.head) > HEAD_BYTES:
            client.unsent = memoryview(_answer("431 Request Header Fields Too Large", b"too long a head\n"))
        else:
            return not data
        self._selector.modify(client.sock, selectors.EVENT_WRITE)
        return self._send(client)

    @staticmethod
    def _send(client: _Client) -> bool:
        unsent = client.unsent or memoryview(b"")
        client.unsent = unsent[client.sock.send(unsent) :]
        return not client.unsent

    def _drop(self, client: _Client) -> None:
        del self._clients[client.sock]
        self._selector.unregister(client.sock)
        client.sock.close()

    def _render(self) -> bytes:
        now = self._clock()
        if self._rendered is None or now >= self._rendered[0] + RENDER_SECONDS:
            self._rendered = now, generate_latest(self._registry)
        return self._rendered[1]


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"cannot show metrics on {host}:{port}: {error.strerror}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
        listener.settimeout(0.0)
    except OSError as error:
        listener.close()
        raise ConfigError(f"cannot show metrics on {host}:{port}: {error.strerror}") from error
    return listener


class TextfileExposition:
    """Writes the metrics to a file every `interval` seconds, and once more at the end. The file is always whole."""

    def __init__(self, registry: CollectorRegistry, path: str, *, interval: float = TEXTFILE_SECONDS) -> None:
        self._registry = registry
        self._path = path
        self._interval = interval
        self._stopped = threading.Event()
        self._failed = False
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def start(self) -> None:
        """Write now, and then at every interval until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Write the last values and stop."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()

    def write(self) -> bool:
        """Replace the file. False when that failed; the first failure in a row is logged."""
        try:
            write_file(
                self._path,
                generate_latest(self._registry),
                existing=Existing.FILE_OR_LINK,
                mode=0o644,  # the collector runs as another user
                exact_mode=True,
                sole_writer=True,
            )
        except OSError as error:
            if not self._failed:
                _log.error("cannot write the metrics", extra={"path": self._path, "error": error.strerror})
            self._failed = True
            return False
        self._failed = False
        return True

    def _run(self) -> None:
        self.write()
        while not self._stopped.wait(self._interval):
            self.write()
        self.write()
