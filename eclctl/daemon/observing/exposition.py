"""Shows the metrics: over HTTP, or in a file for the node exporter's textfile collector.

Every user of the node can connect to a loopback port, so the HTTP server is bounded in everything: one thread,
`CLIENTS` connections (the oldest makes room for the newest, so that idle ones keep no scrape out), `SECONDS` for each,
`HEAD_BYTES` of request, `ACCEPTS` new connections a second, and one rendering a second. What is beyond that waits, and
the decision path does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time
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
    if b"\r\n\r\n" not in head:
        return _answer("431 Request Header Fields Too Large", b"too long a head\n")
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


class HttpExposition:
    """Serves `GET /metrics` on one address until `stop`, in a thread with an event loop of its own.

    `clock` is a monotonic clock in seconds, which says when the metrics are rendered anew.

    Raises:
        ConfigError: from the constructor, when the address cannot be listened on.
    """

    def __init__(
        self, registry: CollectorRegistry, host: str, port: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._clients: dict[asyncio.Task[None], None] = {}  # the oldest first
        self._rendered: tuple[float, bytes] | None = None
        self._listener = _listen(host.strip("[]"), port)
        self._loop = asyncio.new_event_loop()
        self._serving = self._loop.create_task(self._serve())
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and close every connection."""
        self._loop.call_soon_threadsafe(self._serving.cancel)
        self._thread.join()

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._serving)
        self._loop.close()
        self._listener.close()

    async def _serve(self) -> None:
        try:
            while True:
                with contextlib.suppress(OSError):  # gone again, or no descriptor is free
                    sock, _ = await self._loop.sock_accept(self._listener)
                    self._accept(sock)
                await asyncio.sleep(1 / ACCEPTS)
        finally:
            for task in self._clients:
                task.cancel()
            await asyncio.gather(*self._clients, return_exceptions=True)

    def _accept(self, sock: socket.socket) -> None:
        if len(self._clients) >= CLIENTS:
            next(iter(self._clients)).cancel()
        task = self._loop.create_task(self._answer(sock))
        self._clients[task] = None
        task.add_done_callback(self._clients.pop)

    async def _answer(self, sock: socket.socket) -> None:
        """Read a request's head and answer it, for `SECONDS` at most."""
        head = b""
        with sock, contextlib.suppress(OSError):
            async with asyncio.timeout(SECONDS):
                while b"\r\n\r\n" not in head and len(head) <= HEAD_BYTES:
                    data = await self._loop.sock_recv(sock, HEAD_BYTES)
                    if not data:
                        return
                    head += data
                await self._loop.sock_sendall(sock, respond(head, self._render))

    def _render(self) -> bytes:
        now = self._clock()
        if self._rendered is None or now >= self._rendered[0] + RENDER_SECONDS:
            self._rendered = now, generate_latest(self._registry)
        return self._rendered[1]


def _listen(host: str, port: int) -> socket.socket:
    listener = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
        listener.settimeout(0.0)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise ConfigError(f"cannot show metrics on {host}:{port}: {error.strerror}") from error
    return listener


class TextfileExposition:
    """Writes the metrics to a file every `TEXTFILE_SECONDS`, and once more at the end. The file is always whole."""

    def __init__(self, registry: CollectorRegistry, path: str) -> None:
        self._registry = registry
        self._path = path
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
        while not self._stopped.wait(TEXTFILE_SECONDS):
            self.write()
        self.write()
