"""One client's connection: bytes and descriptors in, lines out, everything bounded.

Descriptors come with the bytes of the sendmsg(2) that carried them (unix(7), SCM_RIGHTS) and are taken in order, one
for each request that says `"fd":true`. asyncio's streams drop them silently, hence recvmsg. A message that was cut
(MSG_CTRUNC), more descriptors than one message may carry, and descriptors that no request claims end the connection,
and every descriptor received is closed.
"""

from __future__ import annotations

import socket
from array import array
from collections import deque
from typing import TYPE_CHECKING, Final

from eclctl.daemon.sockets.lines import LINE_LIMIT, LineBuffer, LineTooLongError

if TYPE_CHECKING:
    from collections.abc import Callable

    from eclctl.daemon.sockets.peers import Peer

RECEIVE_SIZE: Final = 32 * 1024
UNSENT_LIMIT: Final = 256 * 1024
_LINE_SECONDS: Final = 10.0
_STALLED_SECONDS: Final = 10.0
_MSG_CTRUNC: Final = int(socket.MSG_CTRUNC)  # `&` with a member of an enumeration calls Python code


class BrokenConnectionError(Exception):
    """The connection must end. `kind` is for the metrics, the message for the client."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Connection:
    """A connected client.

    Args:
        sock: the non-blocking socket; closed by `close`.
        peer: who connected, as the kernel said.
        admin: whether it came by the admin socket.
        descriptors_limit: how many descriptors may come with one message, and wait to be claimed.
        release: closes a descriptor that no request claims, without waiting.
        now: monotonic seconds.
    """

    __slots__ = (
        "_ancillary",
        "_outbox",
        "_release",
        "active",
        "admin",
        "closed",
        "descriptors",
        "descriptors_limit",
        "ended",
        "fileno",
        "in_flight",
        "last_progress",
        "lines",
        "peer",
        "queued",
        "reading",
        "sock",
        "writing",
    )

    def __init__(
        self,
        sock: socket.socket,
        peer: Peer,
        *,
        admin: bool,
        descriptors_limit: int,
        release: Callable[[int], None],
        now: float,
    ) -> None:
        self.sock = sock
        self.fileno = (
            sock.fileno()
        )  # the event loop takes a number at half the price of a socket, which it would describe
        self.peer = peer
        self.admin = admin
        self.descriptors: deque[int] = deque()
        self.descriptors_limit = descriptors_limit
        self._release = release
        self.active = now  # when a request was last begun or answered, or a partial line begun
        self.last_progress = now  # when bytes last left
        self.in_flight = 0
        self.ended = False  # nothing more will be read
        self.closed = False
        self.queued = False  # stands in its user's queue
        self.reading = False
        self.writing = False
        self._ancillary = socket.CMSG_LEN(descriptors_limit * array("i").itemsize)
        self.lines = LineBuffer()
        self._outbox = bytearray()

    def receive(self, now: float) -> None:
        """Take what has come, at most `RECEIVE_SIZE` bytes and one message's descriptors.

        Raises:
            BlockingIOError: nothing has come.
            OSError: the connection is broken.
            BrokenConnectionError: it must be closed, because descriptors were lost or are too many.
        """
        data, ancillary, flags, _ = self.sock.recvmsg(RECEIVE_SIZE, self._ancillary, socket.MSG_CMSG_CLOEXEC)
        if ancillary:
            self._keep_descriptors(ancillary)
        if flags & _MSG_CTRUNC:
            raise BrokenConnectionError("descriptors", "descriptors were lost: too many with one message, or none free")
        if len(self.descriptors) > self.descriptors_limit:
            raise BrokenConnectionError(
                "descriptors", f"more than {self.descriptors_limit} descriptors wait for requests"
            )
        if not data:
            self.ended = True
        elif not self.lines:
            self.active = now
        self.lines.add(data)

    def _keep_descriptors(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                received = array("i")
                received.frombytes(data[: len(data) - len(data) % received.itemsize])
                self.descriptors.extend(received)

    def next_line(self) -> bytes | None:
        """Return the next complete line without its newline, or None.

        Raises:
            BrokenConnectionError: the line that has begun is longer than a request may be.
        """
        try:
            return self.lines.next_line()
        except LineTooLongError:
            raise BrokenConnectionError("too-long", f"a request is longer than {LINE_LIMIT} bytes") from None

    def take_descriptors(self, count: int) -> tuple[int, ...] | None:
        """Return the next `count` descriptors, now the caller's to close; None when there are not as many."""
        if not count:
            return ()
        if count > len(self.descriptors):
            return None
        return tuple(self.descriptors.popleft() for _ in range(count))

    def queue(self, line: bytes) -> None:
        """Add a line to what is sent by the next `send`."""
        self._outbox += line

    def unsent(self) -> int:
        """Return bytes that the client has not taken yet."""
        return len(self._outbox)

    def send(self, now: float) -> None:
        """Send what the client takes.

        Raises:
            OSError: the client is gone.
        """
        if not self._outbox:
            return
        try:
            sent = self.sock.send(self._outbox)
        except BlockingIOError:
            return
        del self._outbox[:sent]
        self.last_progress = now

    def done(self) -> bool:
        """Return whether nothing more can come of this connection."""
        return self.ended and not self.in_flight and not self._outbox and not self.lines.has_line()

    def timed_out(self, now: float, idle_timeout: float) -> str | None:
        """Return what takes too long, as a kind for the metrics: half a line, unread answers, or that nothing is asked.

        How long a decision may take is another matter (`decisions.request_timeout`).

        Args:
            now: seconds of the event loop's clock.
            idle_timeout: seconds after which a connection without a request under way ends.
        """
        idle = now - self.active
        if self.unsent():
            return "slow-reader" if min(idle, now - self.last_progress) > _STALLED_SECONDS else None
        if self.in_flight or self.queued:
            return None
        limit = min(_LINE_SECONDS, idle_timeout) if self.lines.has_partial_line() else idle_timeout
        return "timeout" if idle > limit else None

    def drop_descriptors(self) -> None:
        """Close what no request has claimed."""
        while self.descriptors:
            self._release(self.descriptors.popleft())

    def refuse_input(self) -> None:
        """Read and answer nothing more; what is under way is still answered."""
        self.ended = True
        self.lines.clear()
        self.drop_descriptors()

    def close(self) -> None:
        """Close the socket and every descriptor that was not claimed."""
        self.closed = True
        self.refuse_input()
        self._outbox.clear()
        self.sock.close()
